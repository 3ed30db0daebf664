"""Images from texts, by Stable Diffusion and its like."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging
from PIL.PngImagePlugin import PngInfo
from transformers import logging as transformers_logging

from lm_server.engines.torch_engine import DTYPE, TorchEngine, placement, together

for one in (logging, transformers_logging):
    one.set_verbosity_error()  # warnings quote what is cut off a prompt
    one.disable_progress_bar()

STEPS: Final = 50
MULTIPLE: Final = 8  # pixels of a latent's side


class WrongSize(ValueError):
    """A width or height that is no multiple of MULTIPLE."""


class TextToImage(TorchEngine):
    """A diffusion pipeline.

    A prompt has ``text``, ``seed`` and, if other than the pipeline's own, ``width``, ``height``
    and ``steps``. Noise is drawn on the CPU by the prompt's seed, so that every device begins with
    the same. A result says in PNG text whether a safety checker looked at it
    (``edgelm:safety-checker``) and blackened it (``edgelm:filtered``).
    """

    index = "model_index.json"
    kind = "a text-to-image pipeline, such as Stable Diffusion"
    most = 1  # a batch takes as long as its images one by one, and memory for all
    warm_up = {"text": "a", "seed": 0, "steps": 2}  # noqa: RUF012

    def _load(self) -> list[Any]:
        self._pipeline = DiffusionPipeline.from_pretrained(
            self._path, dtype=DTYPE, **placement("balanced")
        )
        self._pipeline.set_progress_bar_config(disable=True)
        self._checked = getattr(self._pipeline, "safety_checker", None) is not None
        parts = self._pipeline.components.values()
        return [one for one in parts if isinstance(one, torch.nn.Module)]

    def _compute(self, prompts: Sequence[dict[str, Any]]) -> list[bytes]:
        return together(prompts, _size, self._draw)

    def _draw(self, prompts: list[dict[str, Any]]) -> list[bytes]:
        width, height, steps = _size(prompts[0])
        made = self._pipeline(
            [one["text"] for one in prompts],
            width=width,
            height=height,
            num_inference_steps=steps,
            generator=[torch.Generator().manual_seed(one["seed"]) for one in prompts],
        )
        filtered = getattr(made, "nsfw_content_detected", None) or [False] * len(prompts)
        return [self._png(*one) for one in zip(made.images, filtered, strict=True)]

    def _png(self, image: Any, filtered: bool) -> bytes:
        told = PngInfo()
        told.add_text("edgelm:safety-checker", "on" if self._checked else "off")
        told.add_text("edgelm:filtered", "true" if filtered else "false")
        file = io.BytesIO()
        image.save(file, "PNG", pnginfo=told)
        return file.getvalue()


def _size(prompt: dict[str, Any]) -> tuple[int | None, int | None, int]:
    """Return width, height and steps; None is the pipeline's own size."""
    sides = prompt.get("width") or None, prompt.get("height") or None
    for side in sides:
        if side and side % MULTIPLE:
            raise WrongSize
    return *sides, prompt.get("steps") or STEPS
