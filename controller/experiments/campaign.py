"""Campaign files: a grid over strategies, seeds, workloads, testbeds, profiles, loads, faults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, JsonValue, model_validator

from controller.experiments.faults import Faults
from controller.inputs.catalog import locate, parse, read_yaml
from controller.inputs.fields import Count, Name, Positive, Record, Share, Text

ALL: Final = "all"

Reference = Annotated[
    str,
    Field(min_length=1, description="a shipped name, or a file from the campaign file's folder"),
]
Load = Annotated[
    float,
    Field(
        strict=True,
        gt=0,
        le=1000,
        allow_inf_nan=False,
        description="above 0, at most 1000; 1 is the workload's own",
    ),
]
Seed = Annotated[int, Field(strict=True, ge=0)]


class StrategyEntry(Record):
    """A strategy with parameters that differ from its own."""

    name: str
    label: str = Field(default="", description="name in figures; its name if not given")
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


class ProfileEntry(Record):
    """A profile, maybe with some of its numbers multiplied (sensitivity)."""

    name: Reference
    scale: dict[str, Positive] = Field(
        default_factory=dict, description="group of numbers -> factor"
    )


Strategies = Literal["all"] | Annotated[tuple[str | StrategyEntry, ...], Field(min_length=1)]
Seeds = Count | Annotated[tuple[Seed, ...], Field(min_length=1)]


class Part(Record):
    """Axes that a part of the grid sets anew; the others are the campaign's."""

    strategies: Strategies | None = None
    seeds: Seeds | None = Field(default=None, description="how many (0, 1, ...), or which")
    epochs: Count | None = None
    testbeds: Annotated[tuple[Reference, ...], Field(min_length=1)] | None = None
    profiles: Annotated[tuple[Reference | ProfileEntry, ...], Field(min_length=1)] | None = None
    workloads: Annotated[tuple[Reference, ...], Field(min_length=1)] | None = None
    loads: Annotated[tuple[Load, ...], Field(min_length=1)] | None = None
    faults: Annotated[tuple[Faults, ...], Field(min_length=1)] | None = None


class CampaignFile(Record):
    """The grid is the product of the axes; with ``parts``, the union of one such product each."""

    name: Name
    summary: Text
    strategies: Strategies = ALL
    seeds: Seeds = Field(default=5, description="how many (0, 1, ...), or which")
    epochs: Count = 30
    testbeds: Annotated[tuple[Reference, ...], Field(min_length=1)] = ("paper",)
    profiles: Annotated[tuple[Reference | ProfileEntry, ...], Field(min_length=1)] = ("a5000",)
    workloads: Annotated[tuple[Reference, ...], Field(min_length=1)] = ("paper",)
    loads: Annotated[tuple[Load, ...], Field(min_length=1)] = (1.0,)
    faults: Annotated[tuple[Faults, ...], Field(min_length=1)] = (Faults(),)
    slot_s: Positive = 30.0
    epoch_slots: Count = 50
    tau_s: Positive = Field(default=900.0, description="deadline, Eq. 3")
    lam: Share = Field(default=0.5, description="lambda of Eq. 10")
    parts: tuple[Part, ...] = ()

    @model_validator(mode="after")
    def _faults_differ(self) -> Self:
        for listed in (self.faults, *(part.faults or () for part in self.parts)):
            names = [faults.name for faults in listed]
            if len(set(names)) < len(names):
                raise ValueError(f"faults need different names, not {', '.join(names)}")
        return self

    def products(self) -> tuple[Part, ...]:
        """The products whose union is the grid, every axis set."""
        own = Part(**{name: getattr(self, name) for name in Part.model_fields})
        return tuple(
            own.model_copy(update={k: getattr(part, k) for k in part.model_fields_set})
            for part in self.parts
        ) or (own,)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says instead of the campaign file; None leaves the file's."""

    strategies: tuple[str, ...] | None = None
    seeds: int | None = None
    epochs: int | None = None
    testbeds: tuple[str, ...] | None = None
    profiles: tuple[str, ...] | None = None
    workloads: tuple[str, ...] | None = None
    loads: tuple[float, ...] | None = None


def load_campaign_file(name_or_path: str | Path) -> tuple[CampaignFile, Path]:
    """A campaign by shipped name or path, and the folder that its own references start from.

    Raises:
        InputError: it does not exist or is not a campaign file.
    """
    path = locate("campaigns", name_or_path)
    return parse(CampaignFile, str(path), read_yaml(path)), path.parent


def override(campaign: CampaignFile, changes: Overrides) -> CampaignFile:
    """The campaign with some axes replaced, in its parts too.

    Raises:
        InputError: a value is out of range.
    """
    given = {
        name: getattr(changes, name)
        for name in changes.__slots__
        if getattr(changes, name) is not None
    }
    if given.get("strategies") == (ALL,):
        given["strategies"] = ALL
    data = campaign.model_dump(exclude_unset=True)
    data["parts"] = [
        {axis: value for axis, value in part.items() if axis not in given}
        for part in data.get("parts", ())
    ]
    return parse(CampaignFile, "command line", {**data, **given})
