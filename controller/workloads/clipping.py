"""One rule for prompts that do not fit a model, and the checks that importers share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.domain.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Clipping:
    """Output is cut to ``max_output_tokens``, then input to what is left of the context."""

    context_tokens: int
    max_output_tokens: int

    def __post_init__(self) -> None:
        if not 1 <= self.max_output_tokens < self.context_tokens:
            raise InputError(
                "max_output_tokens",
                "must be at least 1 and below the context",
                value=self.max_output_tokens,
                remedy=f"context_tokens is {self.context_tokens}",
            )

    def apply(self, inputs: Floats, outputs: Floats) -> tuple[Floats, Floats, dict[str, int]]:
        """Clipped tokens, (R,) each, and how many rows each cut touched."""
        kept_outputs = np.clip(outputs, 1, self.max_output_tokens)
        kept_inputs = np.minimum(inputs, self.context_tokens - kept_outputs)
        counts = {
            "clipped_input": int((kept_inputs < inputs).sum()),
            "clipped_output": int((kept_outputs < outputs).sum()),
        }
        return kept_inputs, kept_outputs, counts

    def __str__(self) -> str:
        return (
            f"output tokens = min(output, {self.max_output_tokens}), at least 1; "
            f"input tokens = min(input, {self.context_tokens} - output tokens)"
        )


def check_positive(**options: float | None) -> None:
    """Every option that is given is a finite number above 0.

    Raises:
        InputError: one is not.
    """
    for name, value in options.items():
        if value is not None and not 0 < value < np.inf:
            raise InputError(name, "must be a finite number above 0", value=value)


def check_window(start_s: float, end_s: float | None) -> None:
    """A stretch of time from 0 on.

    Raises:
        InputError: it begins before 0 or does not end after its start.
    """
    if not 0 <= start_s < np.inf:
        raise InputError("start_s", "must be a finite number, 0 or more", value=start_s)
    if end_s is not None and not start_s < end_s < np.inf:
        raise InputError("end_s", f"must be finite and lie after start_s = {start_s}", value=end_s)
