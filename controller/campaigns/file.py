"""Campaign files: a grid over strategies, seeds, workloads, testbeds, profiles, loads, faults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_validator

from controller.campaigns.faults import Faults
from controller.campaigns.reasoner import Reasoner, ReasonerItem
from controller.inputs.catalog import locate, parse, read_yaml
from controller.inputs.fields import Count, Name, Positive, Record, Share, Text

ALL: Final = "all"

T = TypeVar("T")


def _some(values: tuple[T, ...]) -> tuple[T, ...]:
    """Field(min_length=1) would complain about the length when an item is wrong."""
    if not values:
        raise ValueError("must not be empty")
    return values


def _entry(value: object) -> object:
    """A bare name is an entry without more. Short forms are spelt out before they are checked,
    since an error of a union is one error per member."""
    return {"name": value} if isinstance(value, str) else value


def _list_of_all(value: object) -> object:
    return (ALL,) if value == ALL else value


def _counted(value: object) -> object:
    """A number of seeds is that many, from 0."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return tuple(range(value))
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a whole number, 1 or more, or a list of seeds, not {value!r}")
    return value


SOME: Final = AfterValidator(_some)
Many = Annotated[tuple[T, ...], Field(json_schema_extra={"minItems": 1})]

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
Seed = Annotated[int, Field(strict=True, ge=0, description="a whole number, 0 or more")]


class StrategyEntry(Record):
    """A strategy with parameters that differ from its own."""

    name: str = Field(description="as in `edgelm list strategies`, or all")
    label: str = Field(default="", description="name in figures; its name if not given")
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


class ProfileEntry(Record):
    """A profile, maybe with some of its numbers multiplied (sensitivity)."""

    name: Reference
    scale: dict[str, Positive] = Field(
        default_factory=dict, description="group of numbers -> factor"
    )


StrategyItem = Annotated[
    StrategyEntry, BeforeValidator(_entry, json_schema_input_type=str | StrategyEntry)
]
ProfileItem = Annotated[
    ProfileEntry, BeforeValidator(_entry, json_schema_input_type=Reference | ProfileEntry)
]
Strategies = Annotated[
    tuple[StrategyItem, ...],
    SOME,
    BeforeValidator(
        _list_of_all, json_schema_input_type=Literal["all"] | Many[str | StrategyEntry]
    ),
]
Seeds = Annotated[
    tuple[Seed, ...],
    SOME,
    BeforeValidator(_counted, json_schema_input_type=Count | Many[Seed]),
    Field(description="how many (0, 1, ...), or which"),
]
Testbeds = Annotated[Many[Reference], SOME]
Profiles = Annotated[Many[ProfileItem], SOME]
Workloads = Annotated[Many[Reference], SOME]
Loads = Annotated[Many[Load], SOME]
FaultList = Annotated[Many[Faults], SOME]
Reasoners = Annotated[
    Many[ReasonerItem],
    SOME,
    Field(description="reference, openai, faulty:SPEC, a URL, or all of a reasoner's fields"),
]


class Part(Record):
    """Axes that a part of the grid sets anew; the others are the campaign's."""

    strategies: Strategies | None = None
    seeds: Seeds | None = None
    epochs: Count | None = None
    testbeds: Testbeds | None = None
    profiles: Profiles | None = None
    workloads: Workloads | None = None
    loads: Loads | None = None
    faults: FaultList | None = None
    reasoners: Reasoners | None = None


class CampaignFile(Record):
    """The grid is the product of the axes; with ``parts``, the union of one such product each."""

    name: Name
    summary: Text
    strategies: Strategies = (StrategyEntry(name=ALL),)
    seeds: Seeds = (0, 1, 2, 3, 4)
    epochs: Count = 30
    testbeds: Testbeds = ("paper",)
    profiles: Profiles = (ProfileEntry(name="a5000"),)
    workloads: Workloads = ("paper",)
    loads: Loads = (1.0,)
    faults: FaultList = (Faults(),)
    reasoners: Reasoners = (Reasoner(),)
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
            own.model_copy(update={axis: value for axis, value in part if value is not None})
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
    reasoners: tuple[dict[str, Any], ...] | None = None


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
    data = campaign.model_dump(exclude_unset=True)
    data["parts"] = [
        {axis: value for axis, value in part.items() if axis not in given}
        for part in data.get("parts", ())
    ]
    return parse(CampaignFile, "command line", {**data, **given})
