"""Engines: what computes a batch of prompts. A new LM is a class and a line of ``ENGINES``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from lm_server.engines.captions import CaptionEngine
from lm_server.engines.emulated import EmulatedEngine
from lm_server.engines.images import ImageEngine
from lm_server.engines.text import TextEngine


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


# Libraries are imported by ``load``: the front, and the other engines, do without them.
ENGINES: Final[dict[str, Callable[[Path], Engine]]] = {
    "emulated": EmulatedEngine,
    "text": TextEngine,
    "caption": CaptionEngine,
    "image": ImageEngine,
}
