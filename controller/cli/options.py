"""Options that several commands share, and the parsing of lists in them."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from controller.domain.errors import InputError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def count(text: str) -> int:
    """Parse a whole number, 1 or more.

    Raises:
        typer.BadParameter: it is something else.
    """
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is no whole number, 1 or more")
    return int(text)


def number_of(what: str) -> Any:
    """Build an option for a whole number, 1 or more."""
    return typer.Option(metavar="N", parser=count, help=what)


def instead(what: str) -> Any:
    """Build an option for a comma-separated list that replaces the campaign's."""
    return typer.Option(metavar="NAME,...", help=f"{what} instead of the campaign's.")


def listed(text: str | None) -> tuple[str, ...] | None:
    """Split at commas; None stays None."""
    return None if text is None else tuple(part.strip() for part in text.split(","))


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Parse comma-separated numbers; None stays None.

    Raises:
        InputError: a part is not a number.
    """
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            option, "is no list of numbers", value=text, remedy="write it like 0.5,1"
        ) from error


def reasoners(
    who: str | None, model: str | None, temperature: float | None, effort: str | None
) -> tuple[dict[str, Any], ...] | None:
    """Return the reasoners given on the command line as fields of a campaign file, None if no
    option is given. Without ``who`` the other options change the reference reasoner.

    Raises:
        InputError: ``model`` names a model for some of the tiers only.
    """
    from controller.campaigns.reasoner import REFERENCE, reasoner_fields

    changes: dict[str, Any] = {"temperature": temperature, "reasoning_effort": effort}
    changes = {name: value for name, value in changes.items() if value is not None}
    if model is not None:
        changes["models"] = _models(model)
    if who is None:
        return (reasoner_fields(REFERENCE, changes),) if changes else None
    return tuple(reasoner_fields(one, changes) for one in _reasoner_list(who))


def _reasoner_list(text: str) -> list[str]:
    """Split ``reference,faulty:slow=0.1,drop=0.1,openai``: a part that names no reasoner belongs
    to the faults before it."""
    found: list[str] = []
    for part in text.split(","):
        if found and found[-1].startswith("faulty:") and "=" in part and ":" not in part:
            found[-1] += f",{part}"
        else:
            found.append(part.strip())
    return found


def _models(text: str) -> dict[str, str]:
    from controller.domain.decisions import TIERS

    if "=" not in text:
        return dict.fromkeys(TIERS, text)
    named = dict(part.strip().partition("=")[::2] for part in text.split(","))
    if sorted(named) != sorted(TIERS):
        raise InputError(
            "--model", "must name a model for each tier", value=text,
            remedy="write one name, or planner=A,scheduler=B,deployer=C",
        )  # fmt: skip
    return named


def cores() -> int:
    """Return the number of cores that this process may use."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1
