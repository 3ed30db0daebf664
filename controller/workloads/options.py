"""Parts that importers share: checked options, and one rule for prompts that exceed a context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from controller.domain.errors import InputError
from controller.inputs.fields import Count, NonNegative, Positive, Record, Seed

Floats = NDArray[np.float64]


class ImportOptions(Record):
    """Options of every importer; defaults are in the importers' signatures."""

    context_tokens: Count
    max_output_tokens: Count
    start_s: NonNegative
    end_s: Positive | None
    rate: Positive | None
    seed: Seed

    @model_validator(mode="after")
    def _leave_something(self) -> Self:
        if self.max_output_tokens >= self.context_tokens:
            raise ValueError("max_output_tokens must be below context_tokens")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError("end_s must lie after start_s")
        return self


@dataclass(frozen=True, slots=True)
class Clipping:
    """Rule that cuts the output to ``max_output_tokens``, then the input to the rest of the
    context."""

    context_tokens: int
    max_output_tokens: int

    def apply(self, inputs: Floats, outputs: Floats) -> tuple[Floats, Floats, dict[str, int]]:
        """Return the clipped tokens, (R,) each, and the number of rows that each cut changed."""
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


def resolve_end(options: ImportOptions, last_s: float, source: str) -> float:
    """Return the end of the imported part of a source that ends at ``last_s``.

    Raises:
        InputError: the part begins or ends after the source's end.
    """
    end_s = last_s if options.end_s is None else options.end_s
    if last_s <= 0:
        raise InputError(
            source,
            "all requests have one time, so that the trace lasts no time",
            remedy="give a trace with requests at two times or more",
        )
    for option, value, late in (
        ("start_s", options.start_s, options.start_s >= last_s),
        ("end_s", end_s, end_s > last_s),
    ):
        if late:
            raise InputError(
                source,
                f"the trace ends at {last_s:g} s",
                field=option,
                value=value,
                remedy=f"give a time before it: --set {option}=SECONDS",
            )
    return end_s
