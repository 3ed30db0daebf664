"""Arrival processes of a workload file: one pydantic model for each ``kind``."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from controller.inputs.fields import Count, Flag, Record, Share

MAX_EPOCHS: Final = 1_000_000  # of all phases


def _form(rate: object) -> str:
    return "by LM" if isinstance(rate, dict) else "for all"


Rate = Annotated[
    float,
    Field(strict=True, ge=0, le=1e6, allow_inf_nan=False, description="a number from 0 to 1e6"),
]
Slots = Annotated[
    float,
    Field(
        strict=True,
        ge=0.01,
        le=1e9,
        allow_inf_nan=False,
        description="slots, above 0: from 0.01, since shorter periods are the mean of both, to 1e9",
    ),
]
PerLm = Annotated[
    Annotated[Rate, Tag("for all")] | Annotated[dict[str, Rate], Tag("by LM")],
    Discriminator(_form),
    Field(description="one number for all LMs, or one per LM by name"),
]
MaxPrompts = Annotated[
    int,
    Field(strict=True, ge=1, le=1000, description="K_q, the prompts of a request, go up to this"),
]


class Paper(Record):
    """The paper's arrivals (section V-A): every node, LM and slot draws K_q uniformly on
    0..max_prompts; 0 is no request."""

    kind: Literal["paper"] = "paper"
    max_prompts: MaxPrompts = 8
    arrivals: Literal["slot_start", "uniform"] = Field(
        default="slot_start", description="when in the slot requests are born"
    )


class Poisson(Record):
    """Poisson arrivals per node and LM; K_q uniform on 1..max_prompts."""

    kind: Literal["poisson"] = "poisson"
    requests_per_slot: PerLm = Field(description="mean requests of a node in a slot")
    max_prompts: MaxPrompts = 8


class Bursty(Record):
    """A Markov-modulated Poisson process of two states with exponential sojourns. The state is
    shared by all LMs of a node, or by the whole cluster."""

    kind: Literal["bursty"] = "bursty"
    calm_requests_per_slot: PerLm = Field(description="mean requests of a node in a calm slot")
    burst_requests_per_slot: PerLm = Field(description="mean requests of a node in a burst slot")
    calm_slots: Slots = Field(
        description="mean length of a calm period, 0.01 to 1e9 slots; shorter ones are a mean rate"
    )
    burst_slots: Slots = Field(
        description="mean length of a burst, 0.01 to 1e9 slots; shorter ones are a mean rate"
    )
    scope: Literal["node", "cluster"] = Field(
        default="node", description="node: one state per node; cluster: one for all"
    )
    max_prompts: MaxPrompts = 8


class Diurnal(Record):
    """A Poisson process whose rate swings as ``1 + amplitude * sin(2 pi (t - shift) / period)``."""

    kind: Literal["diurnal"] = "diurnal"
    requests_per_slot: PerLm = Field(description="requests of a node in a slot, mean of a period")
    period_slots: Slots
    amplitude: Share = Field(default=0.8, description="swing over the mean, 0 to 1")
    shift_slots: float = Field(
        default=0.0,
        ge=-1e9,
        le=1e9,
        allow_inf_nan=False,
        description="slot in which the rate first crosses its mean, rising",
    )
    max_prompts: MaxPrompts = 8


class TraceFile(Record):
    """Requests from a file of our own format (docs/workloads.md)."""

    kind: Literal["trace"] = "trace"
    file: str = Field(min_length=1, description="beside the workload file, shipped, or a path")
    sha256: str = Field(
        default="",
        pattern=r"^([0-9a-f]{64})?$",
        description="digest of the file; filled in when the workload is loaded, checked when read",
    )
    repeat: Flag = Field(default=False, description="start over when the trace has ended")
    origins: Literal["random", "round_robin"] = Field(
        default="random", description="how to choose an origin for requests without one"
    )


class Phase(Record):
    """Consecutive epochs with one load mix."""

    epochs: Count
    weights: dict[str, Rate] = Field(
        default_factory=dict, description="multiplies the requests of an LM; 1 if not named"
    )
    load: Rate = Field(default=1.0, description="multiplies the requests of all LMs")


Synthetic = Annotated[Paper | Poisson | Bursty | Diurnal, Field(discriminator="kind")]


class Phases(Record):
    """An arrival process whose load mix changes from epoch to epoch."""

    kind: Literal["phases"] = "phases"
    phases: tuple[Phase, ...] = Field(min_length=1, max_length=10_000)
    after: Literal["hold", "repeat"] = Field(
        default="hold", description="after the last phase: stay in it, or start over"
    )
    inner: Synthetic

    @model_validator(mode="after")
    def _ends(self) -> Self:
        epochs = sum(phase.epochs for phase in self.phases)
        if epochs > MAX_EPOCHS:
            raise ValueError(
                f"the phases have {epochs:,} epochs, but at most {MAX_EPOCHS:,} are possible; "
                "shorten them"
            )
        return self


Process = Annotated[
    Paper | Poisson | Bursty | Diurnal | TraceFile | Phases, Field(discriminator="kind")
]
