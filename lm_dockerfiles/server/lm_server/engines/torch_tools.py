"""What engines with weights share: device, threads, memory errors. Imports torch when called."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from lm_server.threads import engine_threads

SETTINGS: Final = "serving.json"  # beside the weights: {"batch": prompts at most in a batch}
MOST_BATCH: Final = 64


class NoModel(Exception):
    """A folder without the weights that an engine needs."""


def settings_of(folder: Path) -> dict[str, Any]:
    """Return the settings beside the weights, with defaults.

    Raises:
        NoModel: they cannot be read.
    """
    path = folder / SETTINGS
    if not path.exists():
        return {"batch": 1}
    try:
        found = json.loads(path.read_text())
        batch = int(found.get("batch", 1))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise NoModel(f'{path}: cannot be read; write {{"batch": 4}}, or remove it') from error
    if not 1 <= batch <= MOST_BATCH:
        raise NoModel(f"{path}: batch is {batch}; give 1 to {MOST_BATCH}")
    return {"batch": batch}


def check_folder(folder: Path, file: str) -> None:
    """Raise NoModel unless a folder has the file that a model of its kind begins with."""
    if not folder.is_dir():
        raise NoModel(f"{folder}: is no folder; give the one with the weights (edgelm models)")
    if not (folder / file).is_file():
        raise NoModel(f"{folder}: has no {file}, so it is no model of this kind")


def device_options() -> dict[str, Any]:
    """Return how a transformers model is loaded here: dtype by device, spread over the GPUs that
    the pod has."""
    import torch

    if not torch.cuda.is_available():
        return {"dtype": torch.float32}
    options: dict[str, Any] = {"dtype": torch.float16}
    if torch.cuda.device_count() > 1:
        options["device_map"] = "auto"
    return options


def to_device(model: Any) -> Any:
    """Return a model on this pod's device; one that is spread over several stays."""
    import torch

    if torch.cuda.is_available() and torch.cuda.device_count() == 1:
        return model.to("cuda")
    return model


def use_threads() -> None:
    """Let torch compute with as many threads as the pod has whole cores now."""
    import torch

    if torch.get_num_threads() != engine_threads():
        torch.set_num_threads(engine_threads())


@contextlib.contextmanager
def out_of_memory_told() -> Iterator[None]:
    """Turn the GPU's error, and torch's on the CPU, into MemoryError."""
    import torch

    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise MemoryError from error
    except RuntimeError as error:
        if "not enough memory" in str(error) or "can't allocate memory" in str(error):
            raise MemoryError from error
        raise


class Phases:
    """Seconds of each part of loading."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        began_s = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began_s
