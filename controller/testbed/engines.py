"""Real engines: which engine of lm_server serves an LM, and where its weights are."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from controller.domain.errors import InputError
from controller.domain.testbed import Lm, Testbed
from controller.testbed.node.pods import Start
from controller.testbed.weights.catalog import SOURCES
from controller.testbed.weights.folder import INDICES

ENGINES: Final = ("text-to-text", "image-to-text", "text-to-image")  # of lm_server, by modality
LLAMA: Final = "llama"  # for text-to-text LMs whose weights are one GGUF file
SILENT_S: Final = 60.0  # a first prompt of a large model on cores takes long


class WeightsEngines:
    """Arguments of lm_server for pods with weights.

    Args:
        weights: a folder per LM, by its name in the testbed or in `edgelm models`, or NAME.gguf.

    Raises:
        InputError: an LM has no weights there, or no engine.
    """

    def __init__(self, testbed: Testbed, weights: Path) -> None:
        self._engines = [_engine_of(lm, weights.absolute()) for lm in testbed.lms]

    def __call__(self, start: Start, folder: Path) -> list[str]:
        del folder
        engine, weights = self._engines[start.lm]
        return ["--engine", engine, "--model", str(weights), "--silent-s", str(SILENT_S)]


def _engine_of(lm: Lm, weights: Path) -> tuple[str, Path]:
    """Return an LM's engine and weights."""
    if (weights / f"{lm.name}.gguf").is_file():
        return LLAMA, weights / f"{lm.name}.gguf"
    if lm.modality not in ENGINES:
        raise InputError(
            f"LM {lm.name}", "has no engine", field="modality", value=lm.modality,
            remedy=f"there are engines for {', '.join(ENGINES)}",
        )  # fmt: skip
    short = [name for name, source in SOURCES.items() if source.repository == lm.model]
    for name in (lm.name, *short):
        if any((weights / name / index).is_file() for index in INDICES):
            return lm.modality, weights / name
    raise InputError(
        "--weights", f"has no weights of {lm.name} ({lm.model})", value=str(weights),
        remedy=f"fetch them: edgelm models pull {short[0] if short else lm.name} --to {weights}",
    )  # fmt: skip
