"""Field types of input files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
NAME_RULE = "at most 63 letters, digits, '_', '.', '-', the first a letter or digit"

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
Positive = Annotated[
    float,
    Field(strict=True, gt=0, allow_inf_nan=False, description="a finite number above 0"),
]
NonNegative = Annotated[
    float,
    Field(strict=True, ge=0, allow_inf_nan=False, description="a finite number, 0 or more"),
]
Share = Annotated[
    float,
    Field(strict=True, ge=0, le=1, allow_inf_nan=False, description="a number from 0 to 1"),
]
Count = Annotated[int, Field(strict=True, ge=1, description="a whole number, 1 or more")]
Flag = Annotated[bool, Field(strict=True, description="true or false")]
Source = Literal["measured", "published", "estimated"]


class Record(BaseModel):
    """Part of a file: immutable, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sourced(Record):
    """Numbers with their source."""

    source: Source = Field(description="measured, published or estimated")
    how: Text = Field(description="which measurement or publication, or how it was estimated")
