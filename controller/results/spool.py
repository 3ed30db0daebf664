"""Journals of a run with several processes: each appends to a file of its own, merged in one order.

A line is a checksum and a decision as in decisions.jsonl, or a state on the wire. A killed process
leaves at most one line cut short, which is not read; any other damage is an error. Each run has a
folder of its own, since lines do not say whose they are.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from controller import wire
from controller.domain.decisions import (
    TIERS,
    Decision,
    Deployment,
    MacroPolicy,
    RoutingPlan,
)
from controller.domain.errors import InputError
from controller.domain.state import ClusterState, join_rows
from controller.domain.testbed import Testbed
from controller.results.journal import DecisionLines, Made, RunJournal

Ints = NDArray[np.int64]

REMEDY: Final = "remove the line to merge what is left; what it recorded is lost"


class Spool:
    """The journal of one process, in a file. What is written survives a crash of the process."""

    def __init__(self, path: Path, testbed: Testbed) -> None:
        self._testbed = testbed
        self._lines = DecisionLines(testbed)
        self._entries = RunJournal()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        _end_whole(path)

    def planned(self, slot: int, decision: Decision[MacroPolicy]) -> None:
        self._entries.planned(slot, decision)
        self._flush()

    def scheduled(self, slot: int, decision: Decision[RoutingPlan]) -> None:
        self._entries.scheduled(slot, decision)
        self._flush()

    def deployed(
        self,
        slot: int,
        state: ClusterState,
        decision: Decision[Deployment],
        voided: NDArray[np.bool_],
    ) -> None:
        self._entries.deployed(slot, state, decision, voided)
        self._flush()

    def missed(self, slot: int, tier: str, rows: Ints, fault: str) -> None:
        self._entries.missed(slot, tier, rows, fault)
        self._flush()

    def observed(self, state: ClusterState) -> None:
        content = {"state": wire.state_to_wire(self._testbed, state)}
        self._write(json.dumps(content, separators=(",", ":"), allow_nan=False) + "\n")

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _flush(self) -> None:
        for entry in self._entries.entries:
            for line in self._lines.of(entry):
                self._write(line)
        self._entries.entries.clear()

    def _write(self, text: str) -> None:
        """Append one line."""
        line = text.encode()
        self._file.write(b"%08x %b" % (zlib.crc32(line), line))
        self._file.flush()


@dataclass(frozen=True, slots=True)
class MergedJournal:
    """The journal of a run with several processes: decisions.jsonl, and the states by slot."""

    lines: bytes
    states: list[ClusterState]

    def made(self) -> Iterator[Made]:
        """Yield every decision as summaries count it."""
        for line in self.lines.splitlines():
            one = json.loads(line)
            tokens = one.get("tokens_in", 0), one.get("tokens_out", 0)
            guarded = "undone" in one or "bounded" in one
            cost_usd = one.get("cost_usd")
            yield Made(one["tier"], one["outcome"], one["took_s"], *tokens, cost_usd, guarded)


def merge_spools(spools: Mapping[str, bytes], testbed: Testbed) -> MergedJournal:
    """Return one journal of the contents of spools, whatever order the processes wrote in.

    A decision or state that stands twice, since a process has restarted, counts once: the first.
    A decision counts more than a miss, which a process may record before it is restarted and
    decides in the same slot after all.

    Raises:
        InputError: a line is damaged; names the spool.
    """
    rows = {name: n for n, name in enumerate(testbed.node_names)}
    decisions: dict[tuple[int, int, int], bytes] = {}
    misses: dict[tuple[int, int, int], bytes] = {}
    states: dict[tuple[int, int], ClusterState] = {}
    for source, written in spools.items():
        for line, content in _whole_lines(source, written):
            if "state" in content:
                state = wire.state_from_wire(testbed, content["state"])
                states.setdefault((state.slot, int(state.rows[0])), state)
            else:
                node = content["node"]
                place = (
                    content["slot"],
                    TIERS.index(content["tier"]),
                    -1 if node is None else rows[node],
                )
                (misses if content["decided"] is None else decisions).setdefault(place, line)
    decisions = {**misses, **decisions}
    ordered = [states[place] for place in sorted(states)]
    by_slot = groupby(ordered, key=lambda state: state.slot)
    return MergedJournal(
        b"".join(decisions[place] for place in sorted(decisions)),
        [join_rows(list(group)) for _, group in by_slot],
    )


def _whole_lines(source: str, content: bytes) -> Iterator[tuple[bytes, dict[str, Any]]]:
    *lines, _ = content.split(b"\n")
    for number, written in enumerate(lines, 1):
        checksum, _, rest = written.partition(b" ")
        line = rest + b"\n"
        if checksum != b"%08x" % zlib.crc32(line):
            raise InputError(source, f"line {number} is damaged", remedy=REMEDY)
        yield line, json.loads(line)


def _end_whole(path: Path) -> None:
    """Cut off what a killed process left of its last line."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
