"""Concurrent scrapes of the nodes' exporters for the slot loop (section V-D). An exporter that does
not answer in time has a fault and no values: old ones are never passed off as new."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import aiohttp

from controller.telemetry.exposition import Labels, Sample, parse
from controller.telemetry.names import Emitter, Metric, of

MOST_BYTES: Final = 8 * 2**20  # of an answer; a node exporter's is about 0.1 MB


class Exporter(StrEnum):
    """Exporter that runs on the nodes."""

    NODE = "node"
    DCGM = "dcgm"


PORTS: Final[Mapping[Exporter, int]] = {Exporter.NODE: 9100, Exporter.DCGM: 9400}
_EMITTERS: Final[Mapping[Exporter, Emitter]] = {
    Exporter.NODE: Emitter.NODE_EXPORTER,
    Exporter.DCGM: Emitter.DCGM_EXPORTER,
}


@dataclass(frozen=True, slots=True)
class Target:
    """One exporter of one node."""

    node: str
    exporter: Exporter
    url: str


@dataclass(frozen=True, slots=True)
class Scrape:
    """Values of one answer. ``taken_s`` is when it was read, by the scraper's clock.

    ``values`` are those in the table of names, by metric and by the labels that the table gives.
    """

    taken_s: float
    values: Mapping[tuple[str, Labels], float]

    def series(self, metric: Metric) -> dict[Labels, float]:
        """Return the values of a metric by labels."""
        return {
            labels: value for (name, labels), value in self.values.items() if name == metric.name
        }

    def total(self, metric: Metric) -> float | None:
        """Return the sum over a metric's series, None if there are none."""
        found = self.series(metric)
        return sum(found.values()) if found else None


@dataclass(frozen=True, slots=True)
class Reading:
    """Answer of one target, or why there is none.

    ``age_s`` is the age of the values at the end of the round; where there are none, the time since
    the last answer, None if there never was one.
    """

    target: Target
    scrape: Scrape | None
    age_s: float | None
    fault: str | None


class Scraper:
    """Reader of the exporters of all nodes, a round at a time.

    Args:
        session: carries the requests; it is the caller's to close.
        targets: may be replaced between two rounds.
        deadline_s: seconds for a whole round: all targets are asked at once.
        now_s: monotonic clock.
        wall_s: Unix time, by which timestamps in answers are judged.
        oldest_s: age from which a value with a timestamp is too old to be believed.
    """

    def __init__(
        self,
        targets: Iterable[Target],
        session: aiohttp.ClientSession,
        *,
        deadline_s: float = 2.0,
        now_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
        oldest_s: float = 60.0,
    ) -> None:
        self.targets = tuple(targets)
        self._session, self._deadline_s = session, deadline_s
        self._now_s, self._wall_s, self._oldest_s = now_s, wall_s, oldest_s
        self._answered_s: dict[Target, float] = {}

    async def round(self) -> list[Reading]:
        """Ask every target, and return their readings in the order of the targets."""
        answers = await asyncio.gather(*(self._ask(one) for one in self.targets))
        now_s = self._now_s()
        return [
            self._reading(target, answer, now_s)
            for target, answer in zip(self.targets, answers, strict=True)
        ]

    def _reading(self, target: Target, answer: Scrape | str, now_s: float) -> Reading:
        if isinstance(answer, Scrape):
            self._answered_s[target] = answer.taken_s
            return Reading(target, answer, now_s - answer.taken_s, None)
        last_s = self._answered_s.get(target)
        return Reading(target, None, None if last_s is None else now_s - last_s, answer)

    async def _ask(self, target: Target) -> Scrape | str:
        """Return the target's values, or what is wrong with it."""
        try:
            async with asyncio.timeout(self._deadline_s):
                text = await self._read(target.url)
        except TimeoutError:
            return f"{target.url}: no answer within {self._deadline_s:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return f"{target.url}: {str(error) or type(error).__name__}"
        taken_s = self._now_s()
        try:
            # A thread, so that seven answers of 10 ms each do not stop the loop for long.
            samples = await asyncio.to_thread(parse, text)
            values = select(samples, _EMITTERS[target.exporter])
        except ValueError as error:
            return f"{target.url}: not Prometheus' text format: {str(error)[:100]}"
        except KeyError as error:
            return f"{target.url}: no series of {error.args[0]}; see docs/telemetry.md"
        oldest_s = max((self._wall_s() - one.time_s for one in samples if one.time_s), default=0.0)
        if oldest_s > self._oldest_s:
            return f"{target.url}: its values are {oldest_s:.0f} s old"
        return Scrape(taken_s, values)

    async def _read(self, url: str) -> str:
        """Return an answer's body.

        Raises:
            ValueError: another status than 200, or a body that is too long or not UTF-8.
        """
        async with self._session.get(url, allow_redirects=False) as answer:
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")
            body = bytearray()
            async for part in answer.content.iter_any():
                body += part
                if len(body) > MOST_BYTES:
                    raise ValueError(f"an answer of over {MOST_BYTES} bytes")
        return body.decode()


def targets(
    addresses: Mapping[str, str],
    gpu_nodes: Iterable[str],
    ports: Mapping[Exporter, int] = PORTS,
) -> list[Target]:
    """Return the exporters of the nodes, given their addresses: DCGM runs where GPUs are."""
    gpus = frozenset(gpu_nodes)
    return [
        Target(node, exporter, f"http://{_host(address)}:{ports[exporter]}/metrics")
        for node, address in addresses.items()
        for exporter in Exporter
        if exporter is not Exporter.DCGM or node in gpus
    ]


def select(samples: Iterable[Sample], emitter: Emitter) -> dict[tuple[str, Labels], float]:
    """Return the values of the table's metrics, by name and the table's labels.

    Raises:
        KeyError: a metric without series that should have some.
        ValueError: a series with two values.
    """
    wanted = {metric.name: metric for metric in of(emitter)}
    values: dict[tuple[str, Labels], float] = {}
    for one in samples:
        metric = wanted.get(one.name)
        if metric is None:
            continue
        key = (one.name, tuple(pair for pair in one.labels if pair[0] in metric.labels))
        # An exporter that knows pods repeats a GPU's value for each pod that shares the GPU.
        if values.setdefault(key, one.value) != one.value:
            raise ValueError(f"{one.name} has two values for {dict(key[1])}")
    found = {name for name, _ in values}
    for metric in wanted.values():
        if metric.always and metric.name not in found:
            raise KeyError(metric.name)
    return values


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
