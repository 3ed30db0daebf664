"""Times of an emulated engine, and how much work a prompt is."""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SIZES: Final = ("input_tokens", "output_tokens", "input_megapixels", "output_megapixels")
KEYS: Final = {
    "seconds", "batch_factors", "work", "start_s", "stop_s", "time_scale", "output",
    "created_unix_s", "gpus", "switch_loss",
}  # fmt: skip
PNG: Final = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Work:
    """Work of a prompt, linear in its size."""

    fixed: float
    weights: tuple[float, ...]  # as SIZES
    reference: tuple[float, ...]  # as SIZES

    def of(self, prompt: Mapping[str, Any]) -> float:
        """Return the work of a prompt in reference prompts."""
        return self.linear(self._size(prompt)) / self.linear(self.reference)

    def linear(self, size: Sequence[float]) -> float:
        """Return the work of a size in the file's own unit."""
        return self.fixed + sum(a * b for a, b in zip(self.weights, size, strict=True))

    def _size(self, prompt: Mapping[str, Any]) -> tuple[float, ...]:
        image = prompt.get("image_base64", "")
        pixels = png_pixels(image) if image else 0
        width, height = prompt.get("width"), prompt.get("height")
        return (
            len(prompt.get("text", "").split()),
            prompt["output_tokens"],
            self.reference[2] if pixels is None else pixels / 1e6,
            width * height / 1e6 if width and height else self.reference[3],
        )


@dataclass(frozen=True, slots=True)
class Times:
    """Content of a times file; docs/lm-server.md has its fields."""

    seconds: float
    batch_factors: tuple[float, ...]
    work: Work | None
    start_s: float
    stop_s: float
    time_scale: float
    is_image: bool
    created_unix_s: float | None
    gpus: tuple[Path, ...]
    switch_loss: float

    def batch_s(self, prompts: Sequence[Mapping[str, Any]]) -> float:
        """Return the real seconds of undisturbed service of a batch."""
        work = [self.work.of(one) if self.work else 1.0 for one in prompts]
        mean = sum(work) / len(work)
        return self.seconds * mean * self.batch_factors[len(work) - 1] / self.time_scale


def read_times(path: Path) -> Times:
    """Read a times file.

    Raises:
        ValueError: it is not one; the message has the field and what would be right.
    """
    try:
        given = json.loads(path.read_text())
        if not isinstance(given, dict):
            raise ValueError("it is not a JSON object")
        if strange := sorted(given.keys() - KEYS):
            raise ValueError(f"{', '.join(strange)}: unknown; known are {', '.join(sorted(KEYS))}")
        output = given.get("output", "text")
        if output not in ("text", "image"):
            raise ValueError(f'output is {output!r}: give "text" or "image"')
        factors = tuple(
            _number({"factor": one}, "factor") for one in given.get("batch_factors", [1])
        )
        if not factors:
            raise ValueError("batch_factors is empty: give [1.0] for no batches")
        created = given.get("created_unix_s")
        return Times(
            seconds=_number(given, "seconds"),
            batch_factors=factors,
            work=_work(given["work"]) if given.get("work") is not None else None,
            start_s=_number(given, "start_s", 0.0),
            stop_s=_number(given, "stop_s", 0.0),
            time_scale=_number(given, "time_scale", 1.0, above=0.0),
            is_image=output == "image",
            created_unix_s=None if created is None else _number(given, "created_unix_s"),
            gpus=tuple(Path(one) for one in given.get("gpus") or ()),
            switch_loss=_number(given, "switch_loss", 0.05, below=1.0),
        )
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no file of emulated times: {error}") from None


def png_pixels(image_base64: str) -> int | None:
    """Return the pixels that a PNG's header promises; None if it is no PNG. Decodes no image."""
    try:
        header = base64.b64decode(image_base64[:32], validate=True)
    except binascii.Error:
        return None
    if len(header) < 24 or not header.startswith(PNG) or header[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", header[16:24])
    return int(width * height)


def _work(given: Mapping[str, Any]) -> Work:
    reference = given.get("reference") or {}
    work = Work(
        fixed=_number(given, "fixed", 0.0),
        weights=tuple(_number(given, name, 0.0) for name in SIZES),
        reference=tuple(_number(reference, name, 0.0) for name in SIZES),
    )
    if work.linear(work.reference) <= 0:
        raise ValueError("work of its reference is 0: give fixed, or sizes of the reference")
    return work


def _number(
    given: Mapping[str, Any],
    name: str,
    default: float | None = None,
    *,
    above: float | None = None,
    below: float = float("inf"),
) -> float:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is {value!r}: give a number")
    if not 0 <= value < below or (above is not None and value <= above):
        raise ValueError(f"{name} is {value!r}: out of its range")
    return float(value)
