"""Who answers the agents of a run: part of the experiment, since it decides its results."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from controller.agents.endpoint.address import Address
from controller.agents.reasoner import REFERENCE_MODEL
from controller.domain.errors import InputError
from controller.inputs.fields import Count, NonNegative, Record
from controller.reference_model.faults import parse_faults

REFERENCE: Final = "reference"
FAULTY: Final = "faulty"
OPENAI: Final = "openai"
URL: Final = "url"

OPENAI_URL: Final = "https://api.openai.com/v1"
OPENAI_PLANNER: Final = "gpt-5"  # as the paper: a reasoning model plans, a light one follows
OPENAI_LOWER: Final = "gpt-4.1-mini"

ModelName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]


class Models(Record):
    """The model of each tier."""

    planner: ModelName
    scheduler: ModelName
    deployer: ModelName


class Reasoner(Record):
    """``reference`` and ``faulty`` are served by the run itself and declare their latency;
    ``openai`` and ``url`` are servers elsewhere, whose latency is measured."""

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
        """Served by the run itself; its latency is declared."""
        return self.kind in (REFERENCE, FAULTY)

    @property
    def is_language_model(self) -> bool:
        """False where the reference reasoner answers every tier, by whatever address."""
        models = self.named_models().model_dump().values()
        return not self.embedded and any(model != REFERENCE_MODEL for model in models)

    @property
    def address(self) -> str:
        """Where it is; empty if the run serves it."""
        return OPENAI_URL if self.kind == OPENAI and not self.url else self.url

    def named_models(self) -> Models:
        """The model of each tier, defaults filled in."""
        if self.models is not None:
            return self.models
        planner, lower = (REFERENCE_MODEL,) * 2 if self.embedded else (OPENAI_PLANNER, OPENAI_LOWER)
        return Models(planner=planner, scheduler=lower, deployer=lower)

    def short(self) -> str:
        """A word or two that tell it from others."""
        if self.kind == REFERENCE:
            return REFERENCE
        if self.kind == FAULTY:
            return f"{FAULTY}:{self.faults}"
        models = self.named_models()
        return " / ".join(dict.fromkeys((models.planner, models.scheduler, models.deployer)))

    def label(self) -> str:
        """For tables: who it is and what it is not."""
        place = "" if self.embedded else f" at {urlsplit(self.address).netloc}"
        kind = "" if self.is_language_model else " (optimiser, not a language model)"
        return f"{self.short()}{place}{kind}"

    def described(self) -> dict[str, Any]:
        """For summary.json."""
        return {
            "kind": self.kind,
            "label": self.label(),
            "models": self.named_models().model_dump(),
            "is_language_model": self.is_language_model,
        }


def _check_address(url: str) -> None:
    """What is wrong with an address is said without what it may hold of a password."""
    try:
        Address.of(url)
    except InputError as error:
        raise ValueError(str(error)) from None


def _check_faults(faults: str) -> None:
    try:
        parse_faults(faults)
    except InputError as error:
        raise ValueError(str(error)) from None


def _spelt(value: object) -> object:
    """Short forms: reference, openai, faulty:SPEC, or a server's URL."""
    if not isinstance(value, str):
        return value
    kind, _, rest = value.partition(":")
    if kind == FAULTY:
        return {"kind": FAULTY, "faults": rest}
    if "://" in value:
        return {"kind": URL, "url": value}
    return {"kind": value}


ReasonerItem = Annotated[Reasoner, BeforeValidator(_spelt, json_schema_input_type=str | Reasoner)]


def spelt(text: str, changes: dict[str, Any]) -> dict[str, Any]:
    """A reasoner from its short form and what else the command line says of it."""
    short = _spelt(text)
    return {**(short if isinstance(short, dict) else {}), **changes}
