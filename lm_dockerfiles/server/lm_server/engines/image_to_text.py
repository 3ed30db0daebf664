"""Captions of images, by BLIP and its like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from transformers import AutoModelForImageTextToText, AutoProcessor, LogitsProcessorList, logging

from lm_server.engines.pictures import decode
from lm_server.engines.sampling import SeededSampling
from lm_server.engines.torch_engine import DTYPE, TorchEngine, placement, together

logging.set_verbosity_error()  # warnings may quote the prompt
logging.disable_progress_bar()

PIXEL: Final = (  # a PNG
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class ImageToText(TorchEngine):
    """An image captioner.

    A prompt has ``image_base64``, ``output_tokens``, ``seed`` and, as the caption's beginning,
    ``text``.
    """

    index = "config.json"
    kind = "an image captioner, such as BLIP"
    most = 4
    warm_up = {"image_base64": PIXEL, "text": "", "output_tokens": 2, "seed": 0}  # noqa: RUF012

    def _load(self) -> list[Any]:
        self._processor = AutoProcessor.from_pretrained(self._path, local_files_only=True)
        self._model = AutoModelForImageTextToText.from_pretrained(
            self._path, dtype=DTYPE, **placement("auto")
        )
        config = self._model.config
        text = getattr(config, "text_config", config)
        self._context: int = getattr(text, "max_position_embeddings", None) or 512
        return [self._model]

    def _compute(self, prompts: Sequence[dict[str, Any]]) -> list[bytes]:
        # Captions that begin alike go together: the model does not know padding on the left.
        return together(prompts, lambda one: str(one["text"]), self._caption)

    def _caption(self, prompts: list[dict[str, Any]]) -> list[bytes]:
        images = [decode(one["image_base64"]) for one in prompts]
        beginning = prompts[0]["text"]
        texts = {"text": [beginning] * len(images), "truncation": True, "max_length": 64}
        inputs = self._processor(
            images=images, return_tensors="pt", **(texts if beginning else {})
        ).to(self._model.device, DTYPE)
        begun = inputs["input_ids"].shape[1] if beginning else 1
        most = self._context - begun
        made = self._model.generate(
            **inputs,
            max_new_tokens=min(most, max(one["output_tokens"] for one in prompts)),
            do_sample=False,  # the processor draws
            logits_processor=LogitsProcessorList([SeededSampling([p["seed"] for p in prompts])]),
        ).tolist()
        rows = [row[: begun + p["output_tokens"]] for row, p in zip(made, prompts, strict=True)]
        captions = self._processor.batch_decode(rows, skip_special_tokens=True)
        return [caption.strip().encode() for caption in captions]
