"""Answers about a request: nothing of its contents but results."""

from __future__ import annotations

import base64
from typing import Any

from lm_server.checkpoint import Checkpoint, Progress
from lm_server.serving import Serving

PNG = b"\x89PNG"


def view(progress: Progress, serving: Serving) -> dict[str, Any]:
    """Return how far a request is, and when its batches were computed."""
    batches: dict[tuple[float, float], list[int]] = {}
    for index, one in sorted(progress.recorded.items()):
        batches.setdefault((one.began_unix_s, one.recorded_unix_s), []).append(index)
    computing = serving.computing
    mine = computing is not None and computing.progress is progress
    return {
        "id": progress.id,
        "state": "open" if progress.failure is None else progress.failure or "done",
        "reason": progress.reason,
        "prompts": progress.prompts,
        "recorded": sorted(progress.recorded),
        "recomputed_prompts": progress.recomputed,
        "batches": [
            {"prompts": prompts, "began_unix_s": began_s, "recorded_unix_s": recorded_s}
            for (began_s, recorded_s), prompts in sorted(batches.items())
        ],
        "computing": {"prompts": computing.prompts, "began_unix_s": computing.began_unix_s}
        if computing is not None and mine
        else None,
        "emulated": serving.engine.emulated if serving.engine else None,
    }


def results(checkpoint: Checkpoint, progress: Progress) -> dict[str, Any]:
    """Return all results of a request that are recorded and still as recorded."""
    found = [(index, checkpoint.result(progress.id, index)) for index in sorted(progress.recorded)]
    return {
        "results": [
            {
                "index": index,
                "media_type": media_type(content),
                "base64": base64.b64encode(content).decode("ascii"),
                "sha256": progress.recorded[index].sha256,
            }
            for index, content in found
            if content is not None
        ]
    }


def media_type(content: bytes) -> str:
    return "image/png" if content.startswith(PNG) else "text/plain; charset=utf-8"
