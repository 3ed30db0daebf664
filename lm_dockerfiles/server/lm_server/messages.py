"""Requests as they come in: checked before anything is stored."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat

MOST_PROMPTS = 64
MOST_TOKENS = 4096
MOST_TEXT = 32_768  # characters
MOST_IMAGE = 8 * 2**20  # characters of base64
MOST_PIXELS = 2048  # of an output image's side
MOST_STEPS = 200
MOST_WAIT_S = 30.0


def _no_text(value: Any) -> Any:
    if isinstance(value, str | bool):
        raise ValueError("give a number")
    return value


# JSON Schema's numbers: 77.0 is an integer, "77" and true are not.
Number = BeforeValidator(_no_text)
Side = Annotated[int, Field(ge=8, le=MOST_PIXELS), Number]


class Prompt(BaseModel):
    """One prompt of a request. ``seed`` makes a repeated computation give the same result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Annotated[str, Field(max_length=MOST_TEXT)] = ""
    image_base64: Annotated[str, Field(max_length=MOST_IMAGE)] = ""
    seed: Annotated[int, Field(ge=0, lt=2**63), Number] = 0
    output_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS), Number] = 100
    # Of an image that is asked for; the LM's own where they are left out.
    width: Side | None = None
    height: Side | None = None
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS), Number] | None = None


class Request(BaseModel):
    """A batch of prompts. The same ``id`` again is the same request, not another one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
    prompts: Annotated[list[Prompt], Field(min_length=1, max_length=MOST_PROMPTS)]
    deadline_unix_s: Annotated[FiniteFloat, Number]  # later, a prompt is not computed any more


def problems(errors: list[Any]) -> list[dict[str, str]]:
    """Return pydantic's errors as field and problem, without the values: they are contents."""
    return [{"field": ".".join(map(str, e["loc"])), "problem": e["msg"]} for e in errors]
