"""Phases run in their order, from one to another, up to the first that fails."""

from __future__ import annotations

import pytest

from controller.bringup.phases import Phase, Result, run_phases
from controller.bringup.playbooks import Failure, Outcome, Watcher, message_of
from controller.bringup.remedies import UNREACHABLE, remedy_for
from controller.domain.errors import InputError


class Shown:
    """What a display was shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begin(self, number: int, of: int, phase: Phase) -> None:
        self.lines.append(f"{number}/{of} {phase.name}")

    def task(self, name: str) -> None: ...

    def result(self, host: str, task: str, state: str) -> None: ...

    def end(self, result: Result) -> None:
        self.lines.append(f"{result.name} {result.skipped or ('ok' if result.ok else 'failed')}")


def phase(name: str, *, ok: bool = True, skip: str = "") -> Phase:
    def execute(watcher: Watcher) -> Outcome:
        return Outcome(ok=ok, changed={"vm1": 2}, failures=[] if ok else [Failure("t", "vm1", "m")])

    return Phase(name, name.title(), lambda: skip, execute)


def test_all_phases_run_and_each_result_is_kept() -> None:
    shown, kept = Shown(), []
    results = run_phases([phase("one"), phase("two", skip="nothing")], shown, kept.append)
    assert shown.lines == ["1/2 one", "one ok", "2/2 two", "two nothing"]
    assert kept == results
    assert results[0].changed == {"vm1": 2}


def test_nothing_runs_after_a_failure() -> None:
    shown = Shown()
    run_phases([phase("one", ok=False), phase("two")], shown, lambda _: None)
    assert shown.lines == ["1/2 one", "one failed"]


def test_a_part_keeps_its_numbers() -> None:
    shown, three = Shown(), [phase("one"), phase("two"), phase("three")]
    run_phases(three, shown, lambda _: None, first="two", last="two")
    assert shown.lines == ["2/3 two", "two ok"]


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        ("zwei", None, "--from: is no phase (got 'zwei'); choose from one, two"),
        (None, "3", "--until: is no phase"),
        ("two", "one", "--until: comes before --from two"),
    ],
)
def test_bad_limits_are_refused(first: str | None, last: str | None, message: str) -> None:
    shown = Shown()
    with pytest.raises(InputError) as caught:
        run_phases([phase("one"), phase("two")], shown, lambda _: None, first=first, last=last)
    assert message in str(caught.value)
    assert shown.lines == []


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"msg": "No package matching 'x'"}, "No package matching 'x'"),
        ({"msg": "non-zero return code", "stderr": "E: gone\n"}, "E: gone"),
        (
            {"msg": "failed", "results": [{"msg": "a", "failed": True}, {"msg": "b"}]},
            "a",
        ),
        ({"censored": "the output has been hidden", "msg": "secret"}, "not shown: it may hold a"),
        ({}, "failed without a word"),
    ],
)
def test_a_failed_task_has_its_words(result: dict[str, object], message: str) -> None:
    assert message_of(result).startswith(message)


def test_long_words_are_shortened() -> None:
    assert len(message_of({"msg": "x " * 2000})) == 600


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("Quota exceeded for cores: Requested 16, but already used 48 of 60", "ask for more"),
        ("No valid host was found. There are not enough hosts", "cloud's administrator"),
        ("ubuntu@10.0.0.1: Permission denied (publickey).", "ansible_user"),
        ("Failed to connect to the host via ssh: Connection refused", "does its SSH port answer"),
        ("Missing sudo password", "EDGELM_BECOME_PASSWORD"),
        ("[Errno 28] No space left on device", "free disk space"),
        ("Could not get lock /var/lib/dpkg/lock-frontend", "another package manager"),
        ("Attempting to decrypt but no vault secrets found", "--vault-password-file"),
    ],
)
def test_what_people_meet_has_a_remedy(message: str, remedy: str) -> None:
    assert remedy in remedy_for(message, "failed")


def test_a_machine_that_does_not_answer_has_one_too() -> None:
    assert remedy_for("Connection timed out", "unreachable") == UNREACHABLE
    assert remedy_for("something new", "failed") == ""
    assert str(Failure("base: Chrony", "vm2", "no", "do it")) == (
        "base: Chrony\n    vm2: no\n    -> do it"
    )
