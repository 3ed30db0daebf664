"""Speed blocks of a profile: reference prompt, shares, curves, batches."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from controller.domain import profile as domain
from controller.inputs.fields import (
    Cores,
    Count,
    NonNegative,
    Positive,
    PositiveSeconds,
    Share,
    Sourced,
)

QUANTITIES = ("input_tokens", "output_tokens", "input_megapixels", "output_megapixels")


class Reference(Sourced):
    """Reference prompt, to which all times of an LM refer."""

    input_tokens: NonNegative = 0.0
    output_tokens: NonNegative = 0.0
    input_megapixels: NonNegative = 0.0
    output_megapixels: NonNegative = 0.0


class WorkShares(Sourced):
    """Shares of the reference prompt's time by quantity; they sum to 1. A prompt with twice the
    output tokens takes twice that share."""

    fixed: Share = 0.0
    input_tokens: Share = 0.0
    output_tokens: Share = 0.0
    input_megapixels: Share = 0.0
    output_megapixels: Share = 0.0

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        total = self.fixed + sum(getattr(self, quantity) for quantity in QUANTITIES)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares must sum to 1, not {total:g}")
        return self


class CpuTimes(Sourced):
    """Seconds per reference prompt against cores: linear between points, constant above the last,
    inverse to the cores below the first."""

    cores: Annotated[tuple[Cores, ...], Field(min_length=1, max_length=1000)]
    seconds: Annotated[tuple[PositiveSeconds, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_a_table(self) -> Self:
        _check_table("cores", self.cores, self.seconds)
        return self

    def to_domain(self) -> domain.Curve:
        return domain.Curve(self.cores, self.seconds)


class GpuTimes(Sourced):
    """Seconds per reference prompt against the physical GPUs that a pod's slices span."""

    gpus: Annotated[tuple[Count, ...], Field(min_length=1)]
    seconds: Annotated[tuple[PositiveSeconds, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_a_table(self) -> Self:
        _check_table("gpus", self.gpus, self.seconds)
        if self.gpus[0] != 1:
            raise ValueError(f"gpus must begin with 1, not {self.gpus[0]}")
        return self

    def to_domain(self) -> domain.Curve:
        return domain.Curve(tuple(float(gpus) for gpus in self.gpus), self.seconds)


class Batching(Sourced):
    """Time of a batch of 1, 2, ... prompts over the time of one."""

    factors: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _batches_pay(self) -> Self:
        if self.factors[0] != 1.0:
            raise ValueError(f"factors must begin with 1 (a batch of one), not {self.factors[0]:g}")
        if any(after < before for before, after in pairwise(self.factors)):
            raise ValueError("factors must not fall: a larger batch is no faster as a whole")
        slow = [k for k, factor in enumerate(self.factors, 1) if factor > k]
        if slow:
            raise ValueError(
                f"a batch of {slow[0]} takes longer than its prompts one by one; end the list "
                "before it"
            )
        return self


def _check_table(name: str, amounts: tuple[float, ...], seconds: tuple[float, ...]) -> None:
    if len(amounts) != len(seconds):
        raise ValueError(
            f"{name} and seconds must be equally long, not {len(amounts)} and {len(seconds)}"
        )
    if any(after <= before for before, after in pairwise(amounts)):
        raise ValueError(f"{name} must ascend, not {list(amounts)}")
