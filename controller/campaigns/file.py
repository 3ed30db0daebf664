"""Campaign files: a grid over strategies, seeds, workloads, testbeds, profiles, loads, faults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from controller import strategies
from controller.campaigns.experiment import EPOCHS
from controller.campaigns.faults import Faults
from controller.campaigns.reasoner import Reasoner, ReasonerItem
from controller.campaigns.rules import RuleSet
from controller.domain.errors import InputError
from controller.domain.scenario import EPOCH_SLOTS, LAM, SLOT_S, TAU_S
from controller.inputs.catalog import locate, parse, read_yaml
from controller.inputs.fields import (
    LINE,
    Count,
    Name,
    Positive,
    PositiveSeconds,
    Record,
    Seed,
    Share,
    Text,
)

ALL: Final = "all"
MAX_DRAIN_SLOTS: Final = 100_000
# Seeds of a campaign that gives none. The exact paired test of ten seeds resolves p = 0.002, that
# of five 0.06; runs of agents cost calls.
SEEDS: Final = 10
SEEDS_OF_AGENTS: Final = 5
OWN: Final = "own"  # of plans_on: deciders know the run's profile

T = TypeVar("T")


def _some(values: tuple[T, ...]) -> tuple[T, ...]:
    """Refuse an empty list. Field(min_length=1) would complain about the length when an item is
    wrong."""
    if not values:
        raise ValueError("must not be empty")
    return values


def _entry(value: object) -> object:
    """Expand a bare name to an entry before it is checked: an error of a union would be one
    error per member."""
    return {"name": value} if isinstance(value, str) else value


def _known(entry: StrategyEntry) -> StrategyEntry:
    """Refuse a strategy or parameter that does not exist."""
    try:
        if entry.name != ALL:
            strategies.resolved_parameters(entry.name, entry.parameters)
    except InputError as error:
        raise ValueError(str(error)) from None
    return entry


def _list_of_all(value: object) -> object:
    return (ALL,) if value == ALL else value


def _counted(value: object) -> object:
    """Expand a number of seeds to that many, from 0."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        if value > MAX_SEEDS:
            raise ValueError(f"are too many: at most {MAX_SEEDS:,} seeds, one run each and more")
        return tuple(range(value))
    if not isinstance(value, list | tuple):
        raise ValueError("is neither a number of seeds nor a list of them")
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
MAX_SEEDS: Final = 10_000


class StrategyEntry(Record):
    """A strategy with parameters that differ from its own."""

    name: str = Field(description="as in `edgelm list strategies`, or all")
    label: str = Field(
        default="",
        max_length=80,
        pattern=LINE,
        description="name in figures, one line of at most 80 printable characters; its name if "
        "not given",
    )
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


class ProfileEntry(Record):
    """A profile, maybe with some of its numbers multiplied (sensitivity)."""

    name: Reference
    scale: dict[str, Positive] = Field(
        default_factory=dict, description="group of numbers -> factor"
    )
    parallel_share: Share | None = Field(
        default=None, description="of CPU work, from 0 to 1, in place of the profile's own"
    )


StrategyItem = Annotated[
    StrategyEntry,
    BeforeValidator(_entry, json_schema_input_type=str | StrategyEntry),
    AfterValidator(_known),
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
    Field(description="how many, such as 3 for 0, 1 and 2; or a list, such as [0, 7]"),
]
Testbeds = Annotated[Many[Reference], SOME]
Profiles = Annotated[Many[ProfileItem], SOME]
Workloads = Annotated[Many[Reference], SOME]
Loads = Annotated[Many[Load], SOME]
FaultList = Annotated[Many[Faults], SOME]
RuleSets = Annotated[
    Many[RuleSet],
    SOME,
    Field(description="what the paper leaves open, each set under a name of its own"),
]
Beliefs = Annotated[
    Many[ProfileItem],
    SOME,
    Field(description="profiles that strategies plan on; own: the profile of the run"),
]
Reasoners = Annotated[
    Many[ReasonerItem],
    SOME,
    Field(description="reference, openai, faulty:SPEC, a URL, or all of a reasoner's fields"),
]


class Axes(Record):
    """The axes of a grid. One that is not given is the paper's."""

    strategies: Strategies = (StrategyEntry(name=ALL),)
    seeds: Seeds | None = Field(
        default=None,
        description="how many, such as 3 for 0, 1 and 2; or a list, such as [0, 7]; "
        f"{SEEDS} if not given, {SEEDS_OF_AGENTS} for agents",
    )
    epochs: Count = EPOCHS
    testbeds: Testbeds = ("paper",)
    profiles: Profiles = (ProfileEntry(name="a5000"),)
    workloads: Workloads = ("paper",)
    loads: Loads = (1.0,)
    faults: FaultList = (Faults(),)
    rules: RuleSets = (RuleSet(),)
    plans_on: Beliefs = (ProfileEntry(name=OWN),)
    reasoners: Reasoners = (Reasoner(),)

    def settings(self) -> Iterator[dict[str, Any]]:
        """Yield the product of the axes in ``FIELDS``, as fields of an experiment."""
        for values in product(*(getattr(self, axis) for axis in FIELDS)):
            yield dict(zip(FIELDS.values(), values, strict=True))


# Axes whose values are fields of the experiment as they stand: axis -> field.
FIELDS: Final = {"loads": "load", "faults": "faults", "rules": "rules"}


def _without_defaults(schema: dict[str, Any]) -> None:
    for field in schema["properties"].values():
        field.pop("default", None)


class Part(Axes):
    """Axes that a part of the grid sets anew; the others are the campaign's."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    @model_serializer(mode="wrap")
    def _given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write only what the part sets."""
        return {axis: value for axis, value in dump(self).items() if axis in self.model_fields_set}


class _Title(Record):
    """The head of a campaign file."""

    name: Name
    summary: Text


class CampaignFile(Axes, _Title):
    """The grid is the product of the axes; with ``parts``, the union of one such product each."""

    slot_s: PositiveSeconds = SLOT_S
    epoch_slots: Count = EPOCH_SLOTS
    tau_s: PositiveSeconds = Field(default=TAU_S, description="deadline, Eq. 3; at most 1e6")
    lam: Share = Field(default=LAM, description="lambda of Eq. 10")
    parts: tuple[Part, ...] = ()

    @model_validator(mode="after")
    def _deadline_is_near(self) -> Self:
        if self.tau_s > MAX_DRAIN_SLOTS * self.slot_s:
            raise ValueError(
                f"tau_s {self.tau_s:g} is more than {MAX_DRAIN_SLOTS:,} slots of slot_s "
                f"{self.slot_s:g}, which a run drains at its end; lower tau_s, or raise slot_s"
            )
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for axes in (self, *self.parts):
            for axis in ("faults", "rules"):
                names = [one.name for one in getattr(axes, axis)]
                if len(set(names)) < len(names):
                    raise ValueError(f"{axis} need different names, not {', '.join(names)}")
        return self

    def products(self) -> tuple[Axes, ...]:
        """Return the products whose union is the grid."""
        own = Axes(**{axis: getattr(self, axis) for axis in Axes.model_fields})
        return tuple(
            own.model_copy(update={axis: getattr(part, axis) for axis in part.model_fields_set})
            for part in self.parts
        ) or (own,)


def load_campaign_file(name_or_path: str | Path) -> tuple[CampaignFile, Path]:
    """Return a campaign by shipped name or path, and its file.

    Raises:
        InputError: it does not exist or is not a campaign file.
    """
    path = locate("campaigns", name_or_path)
    return parse(CampaignFile, str(path), read_yaml(path)), path


def override(
    campaign: CampaignFile, changes: Mapping[str, Any], options: Mapping[str, str] | None = None
) -> CampaignFile:
    """Return the campaign with some axes replaced, in its parts too.

    Args:
        changes: axis -> values as in a campaign file; None leaves the campaign's.
        options: axis -> option of the command line that gave it, for errors.

    Raises:
        InputError: there is no such axis, or a value is out of range.
    """
    given = {axis: values for axis, values in changes.items() if values is not None}
    for axis in given:
        if axis not in Axes.model_fields:
            choices = ", ".join(Axes.model_fields)
            raise InputError(
                "changes", "is no axis of a campaign", field=axis, remedy=f"choose {choices}"
            )
    data = campaign.model_dump(exclude_unset=True)
    data["parts"] = [
        {axis: value for axis, value in part.items() if axis not in given}
        for part in data.get("parts", ())
    ]
    source = "changes" if options is None else "command line"
    return parse(CampaignFile, source, {**data, **given}, options or {})
