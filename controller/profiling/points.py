"""Points of a measurement: what is to be measured, what has been, and the file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from controller.domain.errors import InputError
from controller.inputs.documents import parse
from controller.inputs.fields import NonNegative, Positive
from controller.inputs.speeds import QUANTITIES

SIZES = (0.5, 2.0)  # of the reference prompt, one quantity after the other


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """Requests of one kind on some cores: prompts in a batch, size of a prompt."""

    cores: int
    prompts: int
    size: tuple[float, ...]  # by QUANTITIES

    def columns(self) -> dict[str, float]:
        return dict(zip(QUANTITIES, self.size, strict=True))


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Measured(_Record):
    """Seconds of one point, request by request."""

    cores: int
    prompts: int
    size: tuple[float, ...]
    seconds: Annotated[list[Positive], Field(min_length=1)]
    batches: int  # that each request was divided into
    waited: float | None = None  # share of its threads' time without a core; None: unknown

    @property
    def point(self) -> Point:
        return Point(self.cores, self.prompts, self.size)


class Life(_Record):
    """Life of one server: seconds to readiness and to its end, phases of loading, memory."""

    cores: int
    start_s: NonNegative
    stop_s: NonNegative
    phases_s: dict[str, NonNegative]
    peak_ram_gb: NonNegative


class Setup(_Record):
    """The part of a measurement that must be the same when it goes on."""

    engine: str
    model: str
    lm: str
    device: str
    hardware: str
    repeats: int
    reference: tuple[float, ...]
    versions: dict[str, str]


class Measurement(_Record):
    """A measurement's file."""

    setup: Setup
    emulated: bool | None = None
    points: list[Measured] = Field(default_factory=list)
    lives: list[Life] = Field(default_factory=list)

    def lacks(self, points: Sequence[Point]) -> list[Point]:
        """Return the points that are not measured, in order."""
        done = {one.point for one in self.points}
        return [one for one in points if one not in done]

    def alive_on(self) -> set[int]:
        """Return the numbers of cores on which a server's life was seen to its end."""
        return {one.cores for one in self.lives}


@dataclass(frozen=True, slots=True)
class Notebook:
    """A measurement with its file, which is replaced after every point.

    Args:
        write: replaces a file's content at once, or not at all.
    """

    path: Path
    write: Callable[[Path, bytes], None]
    measurement: Measurement = field(repr=False)

    def save(self) -> None:
        """Write what has been measured."""
        self.write(self.path, self.measurement.model_dump_json(indent=1).encode())


def plan(cores: Sequence[int], batches: Sequence[int], reference: tuple[float, ...]) -> list[Point]:
    """Return the points: the reference prompt on every number of cores, then batches and sizes on
    the most."""
    found = [Point(one, 1, reference) for one in sorted(cores)]
    most = max(cores)
    found += [Point(most, prompts, reference) for prompts in sorted(batches)]
    for k, amount in enumerate(reference):
        for factor in SIZES if amount > 0 else ():
            size = tuple(one * factor if j == k else one for j, one in enumerate(reference))
            found.append(Point(most, 1, size))
    return list(dict.fromkeys(found))


def load(path: Path, setup: Setup) -> Measurement:
    """Return the measurement in a file, or a new one where there is none.

    Raises:
        InputError: the file is no measurement, or one of another setup.
    """
    if not path.exists():
        return Measurement(setup=setup)
    try:
        data: Any = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            str(path),
            f"is no file of points: {error}",
            remedy="remove it, or give another",
        ) from error
    found = parse(Measurement, str(path), data)
    for name, wanted in _fields(setup).items():
        had = getattr(found.setup, name)
        if had != wanted:
            raise InputError(
                str(path), f"was measured with another {name} than {wanted!r}",
                field=f"setup.{name}", value=had,
                remedy="give another --points, or remove the file to measure anew",
            )  # fmt: skip
    return found


def _fields(setup: Setup) -> dict[str, Any]:
    return {name: getattr(setup, name) for name in type(setup).model_fields}
