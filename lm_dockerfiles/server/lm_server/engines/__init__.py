"""Engines: what computes a batch of prompts. A new LM is a class and a line of ``ENGINES``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from lm_server.engines.bad_model import BadModel
from lm_server.engines.fitting import check_fits

TORCH_GB: Final = 0.4  # of memory, that importing PyTorch and its friends takes


class Engine(Protocol):
    """Owner of a loaded LM. Lives in the worker process; methods block.

    ``beat`` is called at least once a token, step or slice, and says that the engine is alive;
    ``stopped`` is asked as often, and a batch that it stops raises :class:`Stopped`.
    """

    batch: int  # prompts at most in one batch
    emulated: bool

    def load(self) -> None: ...

    def run(
        self,
        prompts: Sequence[dict[str, Any]],
        stopped: Callable[[], bool],
        beat: Callable[[], None],
    ) -> list[bytes]:
        """Return the result of each prompt.

        Raises:
            Stopped: the batch is not wanted any more.
            MemoryError: out of memory, of the machine or the GPU.
        """


def _engine(module: str, name: str, libraries_gb: float) -> Callable[[Path], Engine]:
    """Return what builds an engine. Its libraries take seconds to import: the worker does."""

    def build(path: Path) -> Engine:
        check_fits(path, libraries_gb)
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read at import
        try:
            found = import_module(f"lm_server.engines.{module}")
        except ModuleNotFoundError as error:
            remedy = "install an extra of edgelm-lm-server: lm, or llama for --engine llama"
            raise BadModel(
                f"the engine needs {error.name}, which is not installed", remedy
            ) from error
        engine: Engine = getattr(found, name)(path)
        return engine

    return build


ENGINES: Final[dict[str, Callable[[Path], Engine]]] = {
    "emulated": _engine("emulated", "EmulatedEngine", 0),
    "text-to-text": _engine("text_to_text", "TextToText", TORCH_GB),
    "image-to-text": _engine("image_to_text", "ImageToText", TORCH_GB),
    "text-to-image": _engine("text_to_image", "TextToImage", TORCH_GB),
    "llama": _engine("llama", "Llama", 0.1),
}
