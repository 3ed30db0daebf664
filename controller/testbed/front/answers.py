"""Answers in OpenAI's shapes. Token counts are null: LM servers do not tell them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from fastapi.responses import JSONResponse, Response, StreamingResponse

from controller.domain.testbed import Lm
from controller.testbed.front.reading import Call

PIECE: Final = 64  # characters of a text in one event of a stream
# Of a text that is over. LM servers do not tell an end of the text from the limit of tokens.
FINISHED: Final = "stop"
UNKNOWN: Final = None  # usage
SYSTEM: Final = "edgelm"


def chat(call: Call, request_id: int, born_unix_s: float, results: bytes) -> Response:
    """Return a chat completion, whole or as a stream."""
    texts = _texts(call, results)
    head = _head("chatcmpl", "chat.completion", call, request_id, born_unix_s)
    if not call.stream:
        choices = [
            {
                "index": k,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": FINISHED,
            }
            for k, text in enumerate(texts)
        ]
        return JSONResponse({**head, "choices": choices, "usage": UNKNOWN})

    def choice(index: int, text: str | None) -> dict[str, Any]:
        delta = {} if text is None else {"content": text}
        if text == "":
            delta["role"] = "assistant"
        finished = FINISHED if text is None else None
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finished}

    return _stream({**head, "object": "chat.completion.chunk"}, call, texts, choice, opening=True)


def completion(call: Call, request_id: int, born_unix_s: float, results: bytes) -> Response:
    """Return a completion, whole or as a stream."""
    texts = _texts(call, results)
    head = _head("cmpl", "text_completion", call, request_id, born_unix_s)

    def choice(index: int, text: str | None, finished: str | None = None) -> dict[str, Any]:
        finished = FINISHED if text is None else finished
        return {"index": index, "text": text or "", "logprobs": None, "finish_reason": finished}

    if call.stream:
        return _stream(head, call, texts, choice, opening=False)
    choices = [choice(k, text, FINISHED) for k, text in enumerate(texts)]
    return JSONResponse({**head, "choices": choices, "usage": UNKNOWN})


def images(call: Call, request_id: int, born_unix_s: float, results: bytes) -> Response:
    """Return generated images, PNG in base64."""
    del call, request_id
    data = [{"b64_json": one["base64"]} for one in _ordered(results)]
    return JSONResponse({"created": int(born_unix_s), "data": data, "output_format": "png"})


def model(lm: Lm, began_unix_s: float) -> dict[str, Any]:
    """Return an LM as a model; ``root`` is its checkpoint, another name for it."""
    return {
        "id": lm.name,
        "object": "model",
        "created": int(began_unix_s),
        "owned_by": SYSTEM,
        "root": lm.model,
        "modality": lm.modality,
    }


def _head(
    prefix: str, kind: str, call: Call, request_id: int, born_unix_s: float
) -> dict[str, Any]:
    return {
        "id": f"{prefix}-{request_id}",
        "object": kind,
        "created": int(born_unix_s),
        "model": call.model,
        "system_fingerprint": None,
    }


def _ordered(results: bytes) -> list[dict[str, Any]]:
    """Return the results by prompt, from the JSON of an LM server."""
    found: list[dict[str, Any]] = json.loads(results)["results"]
    return sorted(found, key=lambda one: int(one["index"]))


def _texts(call: Call, results: bytes) -> list[str]:
    """Return the text of each prompt, up to the first of the caller's stops."""
    texts = [base64.b64decode(one["base64"]).decode() for one in _ordered(results)]
    for stop in call.stops:
        texts = [text.partition(stop)[0] for text in texts]
    return texts


def _stream(
    head: dict[str, Any],
    call: Call,
    texts: list[str],
    choice: Callable[[int, str | None], dict[str, Any]],
    *,
    opening: bool,
) -> Response:
    """Return texts as server-sent events. All are there already: results come whole."""

    def events() -> Iterator[str]:
        usage = {"usage": UNKNOWN} if call.include_usage else {}
        for k, text in enumerate(texts):
            pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
            for piece in [*([""] if opening else []), *pieces, None]:
                yield _event({**head, "choices": [choice(k, piece)], **usage})
        if call.include_usage:
            yield _event({**head, "choices": [], **usage})
        yield "data: [DONE]\n\n"

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)


def _event(document: dict[str, Any]) -> str:
    return f"data: {json.dumps(document, ensure_ascii=False)}\n\n"
