"""The gate waits for what comes, and says what does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.bootstrap.condition import Finding
from controller.bootstrap.gate import pass_gate
from controller.domain.errors import Permanent

WELL = Finding("player", ok=True, found="asks for runs")
ILL = Finding("node vm3, machine", ok=False, found="cordoned", remedy="kubectl describe node vm3")


def test_it_opens_when_everything_is_well_and_tells_each_trouble_once() -> None:
    looks = iter([[WELL, ILL], [WELL, ILL], [WELL]])
    told: list[str] = []

    def examine() -> Iterator[Finding]:
        yield from next(looks)

    pass_gate(examine, 60.0, told.append, lambda seconds: None)
    assert told == ["waiting: node vm3, machine: cordoned -> kubectl describe node vm3"]
    assert next(looks, None) is None


def test_it_stays_shut_for_what_does_not_come() -> None:
    with pytest.raises(Permanent, match=r"not well after 0 s: node vm3, machine: cordoned -> kube"):
        pass_gate(lambda: iter([WELL, ILL]), 0.0, lambda line: None, lambda seconds: None)
