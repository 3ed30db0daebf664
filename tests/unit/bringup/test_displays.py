"""A bring-up's progress, on a terminal and in a file."""

from __future__ import annotations

import pytest

from controller.bringup.phases import Phase, Result
from controller.bringup.playbooks import Failure, Outcome
from controller.cli.phases import LiveDisplay, PlainDisplay, summary

PHASE = Phase("hosts", "Base system", lambda: "", lambda _: Outcome())


@pytest.mark.parametrize("kind", [PlainDisplay, LiveDisplay])
def test_what_changes_and_fails_is_shown_with_its_host(
    kind: type[PlainDisplay | LiveDisplay], capsys: pytest.CaptureFixture[str]
) -> None:
    display = kind()
    display.begin(3, 10, PHASE)
    display.task("base : Chrony [/etc]")
    display.result("vm2", "base : Chrony [/etc]", "ok")
    display.result("vm3", "base : Chrony [/etc]", "changed")
    display.result("vm4", "base : Chrony [/etc]", "failed")
    display.end(Result("hosts", ok=False, seconds=61.4, changed={"vm3": 1}))
    out, err = capsys.readouterr()
    assert out == ""
    assert "[3/10] hosts: Base system" in err
    assert "changed  vm3: base : Chrony [/etc]" in err
    assert "failed  vm4: base : Chrony [/etc]" in err
    assert "ok  vm2" not in err
    assert "FAILED: changed 1, 61 s" in err


def test_a_phase_is_a_line() -> None:
    assert summary(Result("drain", skipped="no machine was removed")) == (
        "skipped: no machine was removed"
    )
    done = Result("hosts", seconds=9.6, changed={"a": 1, "b": 2}, unreachable=("vm5",))
    assert summary(done) == "done: changed 3, 10 s, not reached: vm5"
    stopped = Result("hosts", ok=False, cancelled=True, failures=(Failure("t", "h", "m"),))
    assert summary(stopped).startswith("stopped: changed 0")
