"""Real engines: which engine of lm_server serves an LM, and where its weights are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from controller.domain.errors import InputError
from controller.domain.testbed import Testbed
from controller.testbed.node.pods import Start

# Modality -> engine of lm_server, and the file that its weights' folder begins with.
ENGINES: Final[Mapping[str, tuple[str, str]]] = {
    "text-to-text": ("text", "config.json"),
    "image-to-text": ("caption", "config.json"),
    "text-to-image": ("image", "model_index.json"),
}


class WeightsEngines:
    """Arguments of lm_server for pods with weights.

    Args:
        weights: a folder per LM, by its name in the testbed.

    Raises:
        InputError: an LM has no weights there, or no engine.
    """

    def __init__(self, testbed: Testbed, weights: Path) -> None:
        self._folders: list[tuple[str, Path]] = []
        for lm in testbed.lms:
            if lm.modality not in ENGINES:
                raise InputError(
                    f"testbed {testbed.name}", "has no engine", field=f"{lm.name}.modality",
                    value=lm.modality, remedy=f"there are engines for {', '.join(ENGINES)}",
                )  # fmt: skip
            engine, first = ENGINES[lm.modality]
            if not (weights / lm.name / first).is_file():
                raise InputError(
                    "--weights", f"has no {lm.name}/{first}", value=str(weights),
                    remedy=f"put the weights of {lm.model} into {weights / lm.name}",
                )  # fmt: skip
            self._folders.append((engine, weights / lm.name))

    def __call__(self, start: Start, folder: Path) -> list[str]:
        del folder
        engine, weights = self._folders[start.lm]
        return ["--engine", engine, "--model", str(weights.absolute()), "--silent-s", "60"]
