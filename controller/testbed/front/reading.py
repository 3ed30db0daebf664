"""Reading of calls: a body of OpenAI's API becomes prompts of one LM of the run."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from controller.domain.testbed import Lm
from controller.testbed.front import fields
from controller.testbed.front.bodies import (
    DEFAULT_TOKENS,
    MOST_PROMPTS,
    MOST_SIDE,
    MOST_TEXT,
    SIDE_STEP,
    ChatBody,
    ChatMessage,
    CompletionBody,
    ImageBody,
)
from controller.testbed.front.errors import Refused, invalid, problem_of
from controller.testbed.front.pictures import image_of

TEXT: Final = "text-to-text"
VISION: Final = "image-to-text"
DRAWING: Final = "text-to-image"

B = TypeVar("B", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Call:
    """A user's call as a request of an LM. ``model`` is the name that the user gave."""

    lm: str
    model: str
    prompts: list[dict[str, Any]] = field(repr=False)
    stream: bool = False
    include_usage: bool = False
    stops: list[str] = field(default_factory=list, repr=False)


def read_chat(body: dict[str, Any], lms: Sequence[Lm]) -> Call:
    """Return a chat as a call of an LM that takes text, or one image with text.

    Raises:
        Refused: it cannot be answered; names the field.
    """
    one = _parsed(ChatBody, fields.CHAT, body)
    lm = find(lms, one.model, (TEXT, VISION), "chat completions")
    text, images = _conversation(one.messages, lm)
    prompt = _text(text, lm, "messages")
    if lm.modality == VISION:
        if len(images) != 1:
            message = f"{one.model} takes exactly one image, here are {len(images)}"
            raise invalid("unsupported_content", message, "messages")
        prompt["image_base64"] = images[0]
    elif not text.strip():
        raise invalid("invalid_value", "the messages hold no text", "messages")
    prompt["output_tokens"] = one.max_completion_tokens or one.max_tokens or DEFAULT_TOKENS
    prompts = _seeded([prompt] * one.n, one.seed)
    usage = one.stream_options is not None and one.stream_options.include_usage
    return Call(lm.name, one.model, prompts, one.stream, usage, one.stops)


def read_completion(body: dict[str, Any], lms: Sequence[Lm]) -> Call:
    """Return a completion as a call: each prompt ``n`` times, in OpenAI's order.

    Raises:
        Refused: it cannot be answered; names the field.
    """
    one = _parsed(CompletionBody, fields.COMPLETIONS, body)
    lm = find(lms, one.model, (TEXT,), "completions")
    texts = [one.prompt] if isinstance(one.prompt, str) else one.prompt
    if len(texts) * one.n > MOST_PROMPTS:
        message = f"{len(texts)} prompts times n={one.n}: at most {MOST_PROMPTS} in all"
        raise invalid("invalid_value", message, "n")
    if not all(text.strip() for text in texts):
        raise invalid("invalid_value", "a prompt is empty", "prompt")
    tokens = one.max_tokens or DEFAULT_TOKENS
    prompts = [{**_text(text, lm, "prompt"), "output_tokens": tokens} for text in texts]
    repeated = [prompt for prompt in prompts for _ in range(one.n)]
    usage = one.stream_options is not None and one.stream_options.include_usage
    return Call(
        lm.name, one.model, _seeded(repeated, one.seed), one.stream, usage, one.stops
    )  # fmt: skip


def read_image(body: dict[str, Any], lms: Sequence[Lm]) -> Call:
    """Return an image generation as a call; without a model, of the only LM that draws.

    Raises:
        Refused: it cannot be answered; names the field.
    """
    if isinstance(body, dict) and body.get("response_format") == "url":
        message = "response_format url: images are not kept, so they come as b64_json"
        raise invalid("unsupported_parameter", message, "response_format")
    one = _parsed(ImageBody, fields.IMAGES, body)
    drawing = [lm.name for lm in lms if lm.modality == DRAWING]
    if one.model is None and len(drawing) != 1:
        message = f"give the model: {', '.join(drawing) or 'no LM of the run'} makes images"
        raise invalid("missing_required_parameter", message, "model")
    lm = find(lms, one.model or drawing[0], (DRAWING,), "image generations")
    prompt: dict[str, Any] = {"text": one.prompt, **_size(one.size)}
    if not one.prompt.strip():
        raise invalid("invalid_value", "the prompt is empty", "prompt")
    if one.steps is not None:
        prompt["steps"] = one.steps
    return Call(lm.name, one.model or lm.name, _seeded([prompt] * one.n, one.seed))


def find(lms: Sequence[Lm], model: str, modalities: tuple[str, ...], endpoint: str) -> Lm:
    """Return the LM of a name, else the first of a checkpoint.

    Raises:
        Refused: there is none, or it is for another endpoint.
    """
    lm = look_up(lms, model)
    if lm.modality not in modalities:
        suited = ", ".join(one.name for one in lms if one.modality in modalities) or "none"
        message = f"{lm.name} is {lm.modality}, which {endpoint} are not for; suited: {suited}"
        raise invalid("unsupported_model", message, "model")
    return lm


def look_up(lms: Sequence[Lm], model: str) -> Lm:
    """Return the LM of a name, else the first of a checkpoint.

    Raises:
        Refused: there is none.
    """
    keys: tuple[Callable[[Lm], str], ...] = (lambda lm: lm.name, lambda lm: lm.model)
    for key in keys:
        for lm in lms:
            if key(lm) == model:
                return lm
    known = ", ".join(lm.name for lm in lms)
    message = f"the run has no such model; it has {known}"
    raise Refused(404, "model_not_found", message, param="model")


def _parsed(kind: type[B], table: dict[str, fields.Fate], body: Any) -> B:
    if not isinstance(body, dict):
        raise invalid("invalid_json", "the body is no JSON object")
    kept = fields.honoured(table, body)
    missing = [name for name, one in kind.model_fields.items() if one.is_required()]
    for name in missing:
        if name not in kept:
            raise invalid("missing_required_parameter", f"{name} is missing", name)
    try:
        return kind.model_validate(kept)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        raise problem_of(found) from None


def _conversation(messages: list[ChatMessage], lm: Lm) -> tuple[str, list[str]]:
    """Return the text of a conversation, and its images.

    A lone user's message is its text. LM servers have no template of conversations, so several
    become lines ``role: text``, the last one the assistant's, to go on from.
    """
    texts, images = [], []
    for k, message in enumerate(messages):
        said, shown = _content(message, f"messages.{k}.content", lm)
        images += shown
        texts.append(said)
    if len(messages) == 1 and messages[0].role == "user":
        return texts[0], images
    roles = ("system" if one.role == "developer" else one.role for one in messages)
    lines = [f"{role}: {text}" for role, text in zip(roles, texts, strict=True) if text]
    return "\n".join([*lines, "assistant:"]) if lines else "", images


def _content(message: ChatMessage, param: str, lm: Lm) -> tuple[str, list[str]]:
    if not isinstance(message.content, list):
        return message.content or "", []
    texts, images = [], []
    for k, part in enumerate(message.content):
        here = f"{param}.{k}"
        match part:
            case {"type": "text", "text": str(text), **rest} if not rest:
                texts.append(text)
            case {"type": "image_url", "image_url": {"url": str(url), **rest}}:
                if rest.keys() - {"detail"} or part.keys() - {"type", "image_url"}:
                    raise invalid("unknown_parameter", f"{here} has an unknown field", here)
                if lm.modality != VISION:
                    raise invalid("unsupported_content", f"{lm.name} takes no images", here)
                if message.role != "user":
                    raise invalid("unsupported_content", f"{here}: images are a user's", here)
                images.append(image_of(url, f"{here}.image_url.url"))
            case {"type": "text" | "image_url"}:
                raise invalid("invalid_value", f"{here} is no such part", here)
            case _:
                message_ = f"{here}: parts are of type text or image_url"
                raise invalid("unsupported_content", message_, here)
    return "\n".join(texts), images


def _text(text: str, lm: Lm, param: str) -> dict[str, Any]:
    if len(text) > MOST_TEXT:
        message = f"the text has {len(text)} characters; {lm.name} takes {MOST_TEXT}"
        raise invalid("context_length_exceeded", message, param)
    return {"text": text}


def _size(size: str) -> dict[str, int]:
    if size == "auto":
        return {}
    width, height = map(int, size.split("x"))
    if any(side % SIDE_STEP or not SIDE_STEP <= side <= MOST_SIDE for side in (width, height)):
        message = f"size: sides are multiples of {SIDE_STEP} up to {MOST_SIDE}"
        raise invalid("invalid_value", message, "size")
    return {"width": width, "height": height}


def _seeded(prompts: list[dict[str, Any]], seed: int | None) -> list[dict[str, Any]]:
    """Return prompts with a seed each: ``n`` answers of one prompt differ."""
    first = secrets.randbits(63) if seed is None else seed
    return [{**prompt, "seed": (first + k) % 2**63} for k, prompt in enumerate(prompts)]
