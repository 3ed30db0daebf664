"""Field types of input files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
NAME_RULE = "at most 63 letters, digits, '_', '.', '-', the first a letter or digit"

LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]*$"  # no control character

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN), Field(description=NAME_RULE)]
Text = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2000),
    Field(description="a sentence or a few"),
]
Model = Annotated[
    str,
    StringConstraints(max_length=120, pattern=r"^\S(.*\S)?$"),
    Field(description="a model's name on one line"),
]
Modality = Annotated[
    str,
    StringConstraints(max_length=63, pattern=r"^[a-z]+(-[a-z]+)*-to-[a-z]+(-[a-z]+)*$"),
    Field(description="INPUT-to-OUTPUT in lower-case words, such as text-to-image"),
]
# Bounds are far beyond what exists and far within what arithmetic, memory and the solver bear, so
# that what passes can be run. A kind of number that needs closer ones has a type of its own.
Positive = Annotated[
    float,
    Field(
        strict=True,
        ge=1e-9,
        le=1e12,
        allow_inf_nan=False,
        description="a number above 0, from 1e-9 to 1e12",
    ),
]
NonNegative = Annotated[
    float,
    Field(
        strict=True,
        ge=0,
        le=1e12,
        allow_inf_nan=False,
        description="a number from 0 to 1e12",
    ),
]
Seconds = Annotated[
    float,
    Field(
        strict=True,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
        description="seconds, 0 to 1e6 (eleven days)",
    ),
]
PositiveSeconds = Annotated[
    float,
    Field(
        strict=True,
        ge=1e-6,
        le=1e6,
        allow_inf_nan=False,
        description="seconds, above 0: from 1e-6 to 1e6 (eleven days)",
    ),
]
Cores = Annotated[
    float,
    Field(
        strict=True,
        ge=0.01,
        le=4096,
        allow_inf_nan=False,
        description="cores, above 0: from 0.01 to 4096, more than one machine has",
    ),
]
Gigabytes = Annotated[
    float,
    Field(
        strict=True,
        ge=0.001,
        le=1e6,
        allow_inf_nan=False,
        description="gigabytes, above 0: from 0.001 to 1e6 (a petabyte)",
    ),
]
Share = Annotated[
    float,
    Field(strict=True, ge=0, le=1, allow_inf_nan=False, description="a number from 0 to 1"),
]
Count = Annotated[
    int, Field(strict=True, ge=1, le=1_000_000, description="a whole number, 1 to a million")
]
Seed = Annotated[
    int, Field(strict=True, ge=0, lt=2**63, description="a whole number, 0 or more, below 2^63")
]
Flag = Annotated[bool, Field(strict=True, description="true or false")]
Source = Literal["measured", "published", "estimated"]


class Record(BaseModel):
    """Part of a file: immutable, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sourced(Record):
    """Numbers with their source."""

    source: Source = Field(description="measured, published or estimated")
    how: Text = Field(description="which measurement or publication, or how it was estimated")
