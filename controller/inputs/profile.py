"""Profile files: how long each LM takes on each hardware, every number with its source."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from controller.domain import profile as domain
from controller.inputs.fields import (
    Count,
    Model,
    Name,
    NonNegative,
    Positive,
    Record,
    Share,
    Sourced,
    Text,
)

QUANTITIES = ("input_tokens", "output_tokens", "input_megapixels", "output_megapixels")

# A scaled profile's name carries its factors, so it may be longer than other names.
ProfileName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$"),
    Field(description="letters, digits, '_', '.', '-', the first a letter or digit"),
]


class Reference(Sourced):
    """The prompt that all times of an LM are for."""

    input_tokens: NonNegative = 0.0
    output_tokens: NonNegative = 0.0
    input_megapixels: NonNegative = 0.0
    output_megapixels: NonNegative = 0.0


class WorkShares(Sourced):
    """What the time of the reference prompt goes into; the shares sum to 1. A prompt with twice
    the output tokens takes twice that share."""

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
    """Seconds per reference prompt against cores; between the points linear, beyond constant."""

    cores: Annotated[tuple[Positive, ...], Field(min_length=1)]
    seconds: Annotated[tuple[Positive, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_a_table(self) -> Self:
        _check_table("cores", self.cores, self.seconds)
        return self

    def to_domain(self) -> domain.Curve:
        return domain.Curve(self.cores, self.seconds)


class GpuTimes(Sourced):
    """Seconds per reference prompt against the physical GPUs that a pod's slices span."""

    gpus: Annotated[tuple[Count, ...], Field(min_length=1)]
    seconds: Annotated[tuple[Positive, ...], Field(min_length=1)]

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

    def to_domain(self) -> domain.Batching:
        return domain.Batching(self.factors)


class Batchings(Record):
    """Batches by device; (1.0,) is prompt by prompt."""

    cpu: Batching
    gpu: Batching


class LifeCycle(Sourced):
    """Seconds from a pod's creation to its readiness, and from its deletion to its end."""

    start_cpu_s: NonNegative
    start_gpu_s: NonNegative
    stop_s: NonNegative


class Footprint(Sourced):
    """What a running pod needs at least."""

    ram_gb: NonNegative
    vram_gb: NonNegative = Field(description="on a GPU; 0 or more")
    host_cores: NonNegative = Field(description="cores that a pod on a GPU holds")


class Bytes(Sourced):
    """Payload of one prompt or one result."""

    fixed: NonNegative = 0.0
    per_input_token: NonNegative = 0.0
    per_output_token: NonNegative = 0.0
    per_input_megapixel: NonNegative = 0.0
    per_output_megapixel: NonNegative = 0.0

    def to_domain(self) -> domain.Size:
        return domain.Size(
            self.fixed,
            self.per_input_token,
            self.per_output_token,
            self.per_input_megapixel,
            self.per_output_megapixel,
        )


class Payload(Record):
    """Uplink: origin to destination. Downlink: back."""

    uplink: Bytes
    downlink: Bytes


class LmEntry(Record):
    """One LM."""

    reference: Reference
    work: WorkShares
    cpu: dict[Model, CpuTimes] = Field(description="by CPU model; {} where it cannot run on CPUs")
    gpu: dict[Model, GpuTimes] = Field(description="by GPU model; {} where it cannot run on GPUs")
    batching: Batchings
    life_cycle: LifeCycle
    footprint: Footprint
    payload: Payload

    @model_validator(mode="after")
    def _shares_have_amounts(self) -> Self:
        for quantity in QUANTITIES:
            if getattr(self.work, quantity) > 0 and getattr(self.reference, quantity) == 0:
                raise ValueError(
                    f"work.{quantity} has a share of the time, but reference.{quantity} is 0"
                )
        if not self.cpu and not self.gpu:
            raise ValueError("has neither cpu nor gpu times, so it runs nowhere")
        return self

    def to_domain(self) -> domain.LmProfile:
        """The domain's profile of an LM."""
        reference = domain.Prompt(*(getattr(self.reference, name) for name in QUANTITIES))
        return domain.LmProfile(
            reference=reference,
            work_model=self._work_model(),
            cpu={model: times.to_domain() for model, times in self.cpu.items()},
            gpu={model: times.to_domain() for model, times in self.gpu.items()},
            cpu_batching=self.batching.cpu.to_domain(),
            gpu_batching=self.batching.gpu.to_domain(),
            start_cpu_s=self.life_cycle.start_cpu_s,
            start_gpu_s=self.life_cycle.start_gpu_s,
            stop_s=self.life_cycle.stop_s,
            host_cores=self.footprint.host_cores,
            resident_ram_gb=self.footprint.ram_gb,
            resident_vram_gb=self.footprint.vram_gb,
            uplink_bytes=self.payload.uplink.to_domain(),
            downlink_bytes=self.payload.downlink.to_domain(),
        )

    def _work_model(self) -> domain.Size:
        amounts = (getattr(self.reference, name) for name in QUANTITIES)
        shares = (getattr(self.work, name) for name in QUANTITIES)
        rates = (s / a if s > 0 else 0.0 for s, a in zip(shares, amounts, strict=True))
        return domain.Size(self.work.fixed, *rates)


class SwitchLoss(Sourced):
    """Share of a GPU's time lost to switching while two or more of its slices are busy."""

    share: Annotated[
        float,
        Field(strict=True, ge=0, lt=1, allow_inf_nan=False, description="from 0 to below 1"),
    ]


class ProfileFile(Record):
    """Service times, life cycles, memory and payloads of LMs."""

    name: ProfileName
    summary: Text = Field(description="which hardware, measured or estimated, in a sentence")
    switch_loss: SwitchLoss
    lms: Annotated[dict[Name, LmEntry], Field(min_length=1)]

    def to_domain(self) -> domain.Profile:
        """The domain's profile."""
        return domain.Profile(
            name=self.name,
            lms={name: lm.to_domain() for name, lm in self.lms.items()},
            switch_loss=self.switch_loss.share,
            summary=self.summary,
            sources={path: f"{block.source}: {block.how}" for path, block in self.blocks()},
        )

    def blocks(self) -> Iterator[tuple[str, Sourced]]:
        """(path, block) of every block of numbers."""
        return _blocks("", self)


def _blocks(path: str, part: object) -> Iterator[tuple[str, Sourced]]:
    if isinstance(part, Sourced):
        yield path, part
    elif isinstance(part, Record):
        for name in type(part).model_fields:
            yield from _blocks(f"{path}.{name}".lstrip("."), getattr(part, name))
    elif isinstance(part, dict):
        for name, item in part.items():
            yield from _blocks(f"{path}.{name}", item)


def _check_table(name: str, amounts: tuple[float, ...], seconds: tuple[float, ...]) -> None:
    if len(amounts) != len(seconds):
        raise ValueError(
            f"{name} and seconds must be equally long, not {len(amounts)} and {len(seconds)}"
        )
    if any(after <= before for before, after in pairwise(amounts)):
        raise ValueError(f"{name} must ascend, not {list(amounts)}")
