"""Profile files: times of each LM on each hardware, every number with its source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from controller.domain import profile as domain
from controller.inputs.documents import parse
from controller.inputs.fields import (
    Model,
    Name,
    NonNegative,
    Record,
    Seconds,
    Sourced,
    Text,
)
from controller.inputs.scaling import scale, share_cores
from controller.inputs.speeds import QUANTITIES, Batching, CpuTimes, GpuTimes, Reference, WorkShares

# A scaled profile's name carries its factors, so it may be longer than other names.
ProfileName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$"),
    Field(description="letters, digits, '_', '.', '-', the first a letter or digit"),
]


class Batchings(Record):
    """Batch factors by device; without them, prompts are served one by one."""

    cpu: Batching | None = None
    gpu: Batching | None = None

    def on(self, device: Literal["cpu", "gpu"]) -> domain.Batching:
        batching: Batching | None = getattr(self, device)
        return domain.Batching(batching.factors) if batching else domain.Batching()


class LifeCycle(Sourced):
    """Seconds from a pod's creation to readiness, and from its deletion to its end."""

    start_cpu_s: Seconds
    start_gpu_s: Seconds
    stop_s: Seconds


class Gigabytes(Sourced):
    """Least memory that a running pod needs."""

    gb: NonNegative


class Footprint(Record):
    """Resources of a running pod."""

    ram: Gigabytes
    vram: Gigabytes


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
    """Payloads of the uplink (origin to destination) and the downlink (back)."""

    uplink: Bytes
    downlink: Bytes


class LmEntry(Record):
    """Profile of one LM."""

    reference: Reference
    work: WorkShares
    cpu: dict[Model, CpuTimes] = Field(description="by CPU model; {} where it cannot run on CPUs")
    gpu: dict[Model, GpuTimes] = Field(description="by GPU model; {} where it cannot run on GPUs")
    batching: Batchings = Batchings()
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
        """Return the domain's profile of an LM."""
        reference = domain.Prompt(*(getattr(self.reference, name) for name in QUANTITIES))
        return domain.LmProfile(
            reference=reference,
            work_model=self._work_model(),
            cpu={model: times.to_domain() for model, times in self.cpu.items()},
            gpu={model: times.to_domain() for model, times in self.gpu.items()},
            cpu_batching=self.batching.on("cpu"),
            gpu_batching=self.batching.on("gpu"),
            start_cpu_s=self.life_cycle.start_cpu_s,
            start_gpu_s=self.life_cycle.start_gpu_s,
            stop_s=self.life_cycle.stop_s,
            resident_ram_gb=self.footprint.ram.gb,
            resident_vram_gb=self.footprint.vram.gb,
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
        """Return the domain's profile."""
        return domain.Profile(
            name=self.name,
            lms={name: lm.to_domain() for name, lm in self.lms.items()},
            switch_loss=self.switch_loss.share,
            summary=self.summary,
            sources={path: f"{block.source}: {block.how}" for path, block in self.blocks()},
        )

    def blocks(self) -> Iterator[tuple[str, Sourced]]:
        """Yield (path, block) of every block of numbers."""
        return _blocks("", self)

    def scaled(self, factors: Mapping[str, float]) -> ProfileFile:
        """Return the profile with some numbers multiplied, as its new name and summary record.

        Args:
            factors: by ``cpu_service``, ``gpu_service``, ``start``, ``stop``, ``payload``,
                ``switch_loss``; all but the last also for one LM: ``gpu_service.LM4``.

        Raises:
            InputError: unknown key, factor out of bounds, or a result that is not a profile.
        """
        document = scale(self.model_dump(mode="json"), factors)
        return parse(ProfileFile, f"profile {self.name}, scaled", document)

    def with_parallel_share(self, share: float) -> ProfileFile:
        """Return the profile with CPU times for another parallel share, in [0, 1]: 0 where more
        cores are no faster, 1 where twice the cores take half the time."""
        document = share_cores(self.model_dump(mode="json"), share)
        return parse(ProfileFile, f"profile {self.name}, parallel share {share:g}", document)


def _blocks(path: str, part: object) -> Iterator[tuple[str, Sourced]]:
    if isinstance(part, Sourced):
        yield path, part
    elif isinstance(part, Record):
        for name in type(part).model_fields:
            yield from _blocks(f"{path}.{name}".lstrip("."), getattr(part, name))
    elif isinstance(part, dict):
        for name, item in part.items():
            yield from _blocks(f"{path}.{name}", item)
