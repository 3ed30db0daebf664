"""Image captioning: an image-to-text model of transformers, such as BLIP."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from lm_server.engines.stopped import Stopped
from lm_server.engines.text import EveryToken
from lm_server.engines.torch_tools import (
    Phases,
    check_folder,
    device_options,
    out_of_memory_told,
    settings_of,
    to_device,
    use_threads,
)

MOST_PIXELS: Final = 16_000_000  # of an image that is sent; beyond it, a small file may be a bomb


class CaptionEngine:
    """A model that describes images. ``path`` as in TextEngine."""

    emulated = False

    def __init__(self, path: Path) -> None:
        check_folder(path, "config.json")
        self._path = path
        self.batch = int(settings_of(path)["batch"])
        self._phases = Phases()
        self._model: Any = None
        self._processor: Any = None

    @property
    def phases(self) -> dict[str, float]:
        return self._phases.seconds

    def load(self) -> None:
        with self._phases.timed("import"):
            from PIL import Image
            from transformers import AutoModelForImageTextToText, AutoProcessor
        with self._phases.timed("weights"):
            use_threads()
            self._processor = AutoProcessor.from_pretrained(self._path)
            model = AutoModelForImageTextToText.from_pretrained(
                self._path, low_cpu_mem_usage=True, **device_options()
            )
            self._model = to_device(model).eval()
        with self._phases.timed("warm_up"):
            self._run([Image.new("RGB", (32, 32))], 1, lambda: False, lambda: None)

    def run(
        self,
        prompts: Sequence[dict[str, Any]],
        stopped: Callable[[], bool],
        beat: Callable[[], None],
    ) -> list[bytes]:
        images = [_read(one["image_base64"]) for one in prompts]
        longest = max(int(one["output_tokens"]) for one in prompts)
        return self._run(images, longest, stopped, beat)

    def _run(
        self,
        images: list[Any],
        tokens: int,
        stopped: Callable[[], bool],
        beat: Callable[[], None],
    ) -> list[bytes]:
        import torch
        from transformers import StoppingCriteriaList

        use_threads()
        given = self._processor(images=images, return_tensors="pt")
        given = given.to(self._model.device, self._model.dtype)
        watch = EveryToken(stopped, beat)
        with out_of_memory_told(), torch.inference_mode():
            found = self._model.generate(
                **given, max_new_tokens=tokens, do_sample=False,
                stopping_criteria=StoppingCriteriaList([watch]),
            )  # fmt: skip
        if watch.has_stopped:
            raise Stopped
        texts = self._processor.batch_decode(found, skip_special_tokens=True)
        return [str(text).strip().encode() for text in texts]


def _read(content: str) -> Any:
    """Return the image of a prompt.

    Raises:
        ValueError: it is none, or unpacks to too many pixels.
    """
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as image:
                return image.convert("RGB")
        except (OSError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ValueError(f"no image of at most {MOST_PIXELS} pixels") from error
