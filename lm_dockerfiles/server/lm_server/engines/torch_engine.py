"""Common part of the engines over PyTorch: device, batch, threads, cancellation, memory."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

import torch

from lm_server.engines.bad_model import BadModel, check_folder
from lm_server.engines.watch import Watch
from lm_server.threads import engine_threads

BATCH: Final = "EDGELM_BATCH"  # environment: prompts at most in a batch
NO_MEMORY: Final = ("out of memory", "can't allocate memory", "cannot allocate memory")

DEVICE: Final = "cuda" if torch.cuda.is_available() else "cpu"
# On CPUs bfloat16 is several times slower than float32; GPUs take half the memory in float16.
DTYPE: Final = torch.float16 if DEVICE == "cuda" else torch.float32


class TorchEngine(ABC):
    """An engine whose model is one or several networks of PyTorch in one process.

    One thread computes: pipelines keep state between steps, and two calls at once damage it.

    Args:
        path: folder that ``from_pretrained`` reads. Nothing is ever fetched, and no code of the
            folder is run.
    """

    emulated = False
    index: ClassVar[str]  # file that says what the folder holds
    kind: ClassVar[str]  # of model, for messages
    most: ClassVar[int]  # prompts in a batch by default: beyond it, batches gain little
    warm_up: ClassVar[dict[str, Any]]  # a prompt that touches every network

    def __init__(self, path: Path) -> None:
        self._path, self._watch = path, Watch()
        self.phases: dict[str, float] = {}  # seconds of each part of ``load``
        self.batch = max(1, int(os.environ.get(BATCH) or self.most))

    def load(self) -> None:
        """Load the weights and compute one prompt: the first one compiles and allocates.

        Raises:
            BadModel: not a model that this engine serves.
            MemoryError: it does not fit.
        """
        began_s = time.monotonic()
        check_folder(self._path, self.index, self.kind)
        with memory_errors():
            try:
                for network in self._load():
                    network.requires_grad_(requires_grad=False)
                    self._watch.over(network)
            except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
                if _is_memory(error):
                    raise
                reason = " ".join(str(error).split())[:300]
                remedy = f"give {self.kind}, whole (edgelm models check {self._path})"
                raise BadModel(reason, remedy) from error
        loaded_s = time.monotonic()
        self.run([self.warm_up], lambda: False, lambda: None)
        self.phases = {"weights": loaded_s - began_s, "warm_up": time.monotonic() - loaded_s}

    def run(
        self,
        prompts: Sequence[dict[str, Any]],
        stopped: Callable[[], bool],
        beat: Callable[[], None],
    ) -> list[bytes]:
        torch.set_num_threads(engine_threads())  # a resize of the pod is felt from here on
        with self._watch.during(stopped, beat), memory_errors(), torch.inference_mode():
            return self._compute(prompts)

    @abstractmethod
    def _load(self) -> list[Any]:
        """Load the model and return its networks."""

    @abstractmethod
    def _compute(self, prompts: Sequence[dict[str, Any]]) -> list[bytes]:
        """Return the result of each prompt."""


def placement(of_several_gpus: str) -> dict[str, Any]:
    """Return the arguments of ``from_pretrained`` that say where and how weights are loaded."""
    gpus = torch.cuda.device_count()
    where = of_several_gpus if gpus > 1 else DEVICE
    safe = {"use_safetensors": True, "local_files_only": True, "low_cpu_mem_usage": True}
    return {**safe, "device_map": where}


def together(
    prompts: Sequence[dict[str, Any]],
    key: Callable[[dict[str, Any]], Hashable],
    compute: Callable[[list[dict[str, Any]]], list[bytes]],
) -> list[bytes]:
    """Compute prompts of equal key together, and return the results in the prompts' order."""
    groups: dict[Hashable, list[int]] = {}
    for k, prompt in enumerate(prompts):
        groups.setdefault(key(prompt), []).append(k)
    results: dict[int, bytes] = {}
    for members in groups.values():
        results.update(zip(members, compute([prompts[k] for k in members]), strict=True))
    return [results[k] for k in range(len(prompts))]


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn what PyTorch raises when memory is out into MemoryError, and free what it caches."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise MemoryError from error


def _is_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(words in str(error).lower() for words in NO_MEMORY)
