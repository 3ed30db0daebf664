"""The reasoner that answers a run's agents: part of the experiment, since results depend on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from controller.agents.chat import REFERENCE_MODEL
from controller.agents.endpoint.address import Address
from controller.domain.errors import InputError
from controller.inputs.fields import Count, NonNegative, Record
from controller.reference_model.faults import parse_faults

REFERENCE: Final = "reference"
FAULTY: Final = "faulty"
OPENAI: Final = "openai"
URL: Final = "url"

ModelName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]


class Models(Record):
    """The model of each tier."""

    planner: ModelName
    scheduler: ModelName
    deployer: ModelName

    @classmethod
    def of_all(cls, name: str) -> Models:
        """Return one model for every tier."""
        return cls(planner=name, scheduler=name, deployer=name)


@dataclass(frozen=True, slots=True)
class Service:
    """A hosted service with a name of its own."""

    url: str
    planner: str  # model: as in the paper, a reasoning model plans, a light one follows
    lower: str  # model of scheduler and deployers


SERVICES: Final = {OPENAI: Service("https://api.openai.com/v1", "gpt-5", "gpt-4.1-mini")}


class Reasoner(Record):
    """A reasoner: ``reference`` and ``faulty`` are served by the run itself and declare their
    latency; ``openai`` and ``url`` are servers elsewhere, whose latency is measured."""

    kind: Literal["reference", "faulty", "openai", "url"] = REFERENCE
    url: str = Field(default="", description="base address, as http://localhost:8000/v1")
    models: Models | None = None
    faults: str = Field(default="", description="KIND=RATE,... of a faulty one")
    temperature: NonNegative | None = None
    reasoning_effort: Literal["minimal", "low", "medium", "high"] | None = None
    max_tokens: Count | None = Field(default=None, description="of one reply, reasoning included")
    first_token_s: NonNegative = Field(default=0.4, description="declared, not measured")
    token_s: NonNegative = Field(default=0.01, description="declared, per token of the reply")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.kind == URL and not self.url:
            raise ValueError("a reasoner of kind url needs its url")
        if self.url:
            _check_address(self.url)
        if self.kind == URL and self.models is None:
            raise ValueError("a reasoner of kind url needs models (--model NAME)")
        if self.embedded and self.models is not None:
            raise ValueError(
                "the reference reasoner has no other models (--model needs --reasoner openai or "
                "a URL)"
            )
        if self.kind == FAULTY and not self.faults:
            raise ValueError("a faulty reasoner needs faults, as faulty:all=0.2")
        _check_faults(self.faults)
        return self

    @property
    def embedded(self) -> bool:
        """True if the run itself serves it; its latency is declared."""
        return self.kind in (REFERENCE, FAULTY)

    @property
    def is_language_model(self) -> bool:
        """False where the reference reasoner answers every tier, by whatever address."""
        models = self.named_models().model_dump().values()
        return not self.embedded and any(model != REFERENCE_MODEL for model in models)

    @property
    def address(self) -> str:
        """Its base URL; empty if the run serves it."""
        return self.url or (SERVICES[self.kind].url if self.kind in SERVICES else "")

    def named_models(self) -> Models:
        """Return the model of each tier, defaults filled in."""
        if self.models is not None:
            return self.models
        if self.embedded:
            return Models.of_all(REFERENCE_MODEL)
        service = SERVICES[self.kind]
        return Models(planner=service.planner, scheduler=service.lower, deployer=service.lower)

    def short(self) -> str:
        """Return a word or two that distinguish it from others."""
        if self.kind == REFERENCE:
            return REFERENCE
        if self.kind == FAULTY:
            return f"{FAULTY}:{self.faults}"
        models = self.named_models()
        return " / ".join(dict.fromkeys((models.planner, models.scheduler, models.deployer)))

    @property
    def place(self) -> str:
        """Its address without what all addresses have; empty if the run serves it."""
        parts = urlsplit(self.address)
        return parts.netloc + parts.path.rstrip("/").removesuffix("/v1")

    def label(self) -> str:
        """Return its name for tables, with a note where it is no language model."""
        place = "" if self.embedded else f" at {self.place}"
        kind = "" if self.is_language_model else " (optimiser, not a language model)"
        return f"{self.short()}{place}{kind}"

    def described(self) -> dict[str, Any]:
        """Return its description for summary.json."""
        return {
            "kind": self.kind,
            "label": self.label(),
            "models": self.named_models().model_dump(),
            "is_language_model": self.is_language_model,
        }


def short_names(reasoners: Sequence[Reasoner]) -> list[str]:
    """Return names that tell reasoners apart: of two of one model the addresses too, of two at one
    address what else differs."""
    names = [one.short() for one in reasoners]
    for more in (_at_place, _with_options):
        names = [
            f"{name}{more(one)}" if names.count(name) > 1 else name
            for name, one in zip(names, reasoners, strict=True)
        ]
    return names


def _at_place(reasoner: Reasoner) -> str:
    return f" at {reasoner.place}" if reasoner.place else ""


def _with_options(reasoner: Reasoner) -> str:
    options = reasoner.model_dump(
        include={"temperature", "reasoning_effort", "max_tokens", "first_token_s", "token_s"},
        exclude_defaults=True,
    )
    return "".join(f", {name} {value}" for name, value in options.items())


def _check_address(url: str) -> None:
    """Raise for a wrong address, without quoting it: it may hold a password."""
    try:
        Address.of(url)
    except InputError as error:
        raise ValueError(str(error)) from None


def _check_faults(faults: str) -> None:
    try:
        parse_faults(faults)
    except InputError as error:
        raise ValueError(str(error)) from None


def _expanded(value: object) -> object:
    """Return the fields of a short form: reference, openai, faulty:SPEC, or a server's URL."""
    if not isinstance(value, str):
        return value
    kind, _, rest = value.partition(":")
    if kind == FAULTY:
        return {"kind": FAULTY, "faults": rest}
    if "://" in value:
        return {"kind": URL, "url": value}
    return {"kind": value}


ReasonerItem = Annotated[
    Reasoner, BeforeValidator(_expanded, json_schema_input_type=str | Reasoner)
]


def reasoner_fields(text: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a reasoner from its short form, with ``changes`` applied."""
    short = _expanded(text)
    return {**(short if isinstance(short, dict) else {}), **changes}
