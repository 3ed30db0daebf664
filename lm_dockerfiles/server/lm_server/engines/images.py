"""Image generation: a text-to-image pipeline of diffusers, such as Stable Diffusion."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from lm_server.engines.stopped import Stopped
from lm_server.engines.torch_tools import (
    Phases,
    check_folder,
    out_of_memory_told,
    settings_of,
    use_threads,
)

STEPS: Final = 50  # of denoising, where a prompt does not say
SHAPE: Final = ("width", "height", "steps")  # what prompts of one call have in common
SIDE_STEP: Final = 8  # pixels of an image in one of its latent


class ImageEngine:
    """A pipeline that draws. The same prompt with the same seed gives the same image.

    Args:
        path: folder of the pipeline's ``save_pretrained``.

    Raises:
        NoModel: the folder has no pipeline.
    """

    emulated = False

    def __init__(self, path: Path) -> None:
        check_folder(path, "model_index.json")
        self._path = path
        self.batch = int(settings_of(path)["batch"])
        self._phases = Phases()
        self._pipeline: Any = None

    @property
    def phases(self) -> dict[str, float]:
        return self._phases.seconds

    def load(self) -> None:
        with self._phases.timed("import"):
            import torch
            from diffusers import DiffusionPipeline
        with self._phases.timed("weights"):
            use_threads()
            on_gpu = torch.cuda.is_available()
            options: dict[str, Any] = {"torch_dtype": torch.float16 if on_gpu else torch.float32}
            if torch.cuda.device_count() > 1:
                options["device_map"] = "balanced"
            pipeline = DiffusionPipeline.from_pretrained(
                self._path, low_cpu_mem_usage=True, **options
            )
            if on_gpu and torch.cuda.device_count() == 1:
                pipeline = pipeline.to("cuda")
            pipeline.set_progress_bar_config(disable=True)
            self._pipeline = pipeline
        with self._phases.timed("warm_up"):
            self.run([{"text": "Hello", "seed": 0, "steps": 1}], lambda: False, lambda: None)

    def run(
        self,
        prompts: Sequence[dict[str, Any]],
        stopped: Callable[[], bool],
        beat: Callable[[], None],
    ) -> list[bytes]:
        import torch

        use_threads()
        results = []
        for alike in _alike(prompts):
            first = alike[0]
            seeds = [torch.Generator("cpu").manual_seed(int(one["seed"])) for one in alike]
            with out_of_memory_told(), torch.inference_mode():
                found = self._pipeline(
                    [str(one.get("text", "")) for one in alike],
                    num_inference_steps=int(first.get("steps") or STEPS),
                    width=_side(first.get("width")), height=_side(first.get("height")),
                    generator=seeds,
                    callback_on_step_end=_every_step(stopped, beat),
                )  # fmt: skip
            if stopped():
                raise Stopped
            filtered = getattr(found, "nsfw_content_detected", None) or [False] * len(alike)
            results += [
                _png(image, filtered=bool(is_black))
                for image, is_black in zip(found.images, filtered, strict=True)
            ]
        return results


def _every_step(stopped: Callable[[], bool], beat: Callable[[], None]) -> Callable[..., Any]:
    def step(pipeline: Any, number: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        del number, timestep
        beat()
        if stopped():
            pipeline._interrupt = True  # diffusers' own way to skip the steps that are left
        return values

    return step


def _alike(prompts: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return neighbours of one size and number of steps together, in their order."""
    groups: list[list[dict[str, Any]]] = []
    for one in prompts:
        shape = [one.get(name) for name in SHAPE]
        former = [groups[-1][0].get(name) for name in SHAPE] if groups else None
        if former == shape:
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _side(pixels: Any) -> int | None:
    """Return a side that the pipeline can draw: a multiple of eight pixels."""
    return None if pixels is None else max(SIDE_STEP, int(pixels) // SIDE_STEP * SIDE_STEP)


def _png(image: Any, *, filtered: bool) -> bytes:
    """Return an image as PNG. One that the safety checker has blackened says so in a text of its
    own, since it looks like any black image."""
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    if filtered:
        notes.add_text("filtered", "by the safety checker")
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=notes)
    return out.getvalue()
