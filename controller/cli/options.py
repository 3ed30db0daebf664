"""Options that several commands share, and the parsing of lists in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from controller.domain.errors import InputError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

# Axis of a campaign -> the option that replaces it.
OPTIONS: Final = {
    "strategies": "--strategy",
    "seeds": "--seeds",
    "epochs": "--epochs",
    "testbeds": "--testbed",
    "profiles": "--profile",
    "workloads": "--workload",
    "loads": "--load",
    "reasoners": "--reasoner",
}


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


# Options that replace the axes of a campaign.
Strategies = Annotated[str | None, instead("Strategies ('all': every one)")]
CampaignName = Annotated[
    str,
    typer.Argument(
        metavar="CAMPAIGN", help="Shipped name (edgelm list), file, or a campaign's folder."
    ),
]
Seeds = Annotated[int | None, number_of("Number of seeds; N runs seeds 0 to N-1.")]
Epochs = Annotated[int | None, number_of("Epochs of a run.")]
Testbeds = Annotated[str | None, instead("Testbeds, names or files,")]
Profiles = Annotated[str | None, instead("Profiles, names or files,")]
Workloads = Annotated[str | None, instead("Workloads, names or files,")]
Loads = Annotated[
    str | None,
    typer.Option(metavar="X,...", help="Load factors: 0.5 is half of the workload's own load."),
]
Reasoners = Annotated[
    str | None,
    typer.Option(
        metavar="WHO,...",
        help="Reasoners behind the agents: reference (an optimiser), openai, a server's URL, "
        "or faulty:KIND=RATE.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The reasoner's model, or planner=A,scheduler=B,deployer=C."),
]
Temperature = Annotated[float | None, typer.Option(help="Sampling temperature.")]
Effort = Annotated[
    str | None,
    typer.Option(metavar="EFFORT", help="Reasoning effort: minimal, low, medium or high."),
]
Mode = Annotated[
    str | None,
    typer.Option(
        help="Mode of the agents: off and advise apply the incumbent's decisions, approve asks "
        "you about each policy, apply applies the agents'."
    ),
]
Prices = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Prices of models, added to the shipped list."),
]


def listed(text: str | None) -> tuple[str, ...] | None:
    """Split at commas; None stays None."""
    return None if text is None else tuple(part.strip() for part in text.split(","))


def axes_of(
    strategy: str | None,
    seeds: int | None,
    epochs: int | None,
    testbed: str | None,
    profile: str | None,
    workload: str | None,
    load: str | None,
    who: tuple[dict[str, Any], ...] | None,
) -> dict[str, Any]:
    """Return the axes that options of the command line replace, None where they do not."""
    return {
        "strategies": listed(strategy),
        "seeds": seeds,
        "epochs": epochs,
        "testbeds": listed(testbed),
        "profiles": listed(profile),
        "workloads": listed(workload),
        "loads": numbers("--load", load),
        "reasoners": who,
    }


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

    parts = [part.strip() for part in text.split(",")]
    if not any(part.partition("=")[0].rstrip() in TIERS for part in parts if "=" in part):
        return dict.fromkeys(TIERS, text)  # a name may have an = or a comma
    named = {tier.rstrip(): name.lstrip() for tier, _, name in (p.partition("=") for p in parts)}
    if sorted(named) != sorted(TIERS) or len(parts) != len(TIERS):
        raise InputError(
            "--model", "must name a model for each tier", value=text,
            remedy="write one name, or planner=A,scheduler=B,deployer=C",
        )  # fmt: skip
    return named


def cores() -> int:
    """Return the number of cores that this process may use."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1
