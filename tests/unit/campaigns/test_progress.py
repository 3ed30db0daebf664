import io
import re

import pytest

from controller.campaigns.progress import Bar, Lines, Silence, TimeToGo
from controller.domain.errors import Permanent


def test_lines_say_how_far_and_what_failed() -> None:
    out = io.StringIO()
    with Lines(out) as progress:
        progress.begin(3, ["RF"] * 9, 2)
        progress.ended("RF", "RF, seed 0", 0.5, "")
        progress.ended("RF", "RF, seed 1", 0.1, "it broke")
    first, second, third = out.getvalue().splitlines()
    assert first == "12 runs, 3 finished before"
    assert re.fullmatch(r"\[ 4/12\] RF, seed 0: 0\.50 s, about 2 s to go", second)
    assert third.startswith("[ 5/12] RF, seed 1: FAILED: it broke")


def test_a_run_is_expected_to_take_as_long_as_its_strategy_did() -> None:
    to_go = TimeToGo(["MA", "MA", "RF", "RF", "LL"], jobs=2)
    assert to_go.text() == ""
    to_go.record("MA", 20.0)
    to_go.record("RF", 1.0)
    # MA 20, RF 1, LL unknown: 10.5, the mean of all; two at a time
    assert to_go.text() == ", about 16 s to go"
    to_go.record("RF", 1.0)
    to_go.record("LL", 1.0)
    assert to_go.text() == ", about 20 s to go"  # one run alone
    to_go.record("MA", 20.0)
    assert to_go.text() == ""


def test_long_times_are_told_in_long_units() -> None:
    to_go = TimeToGo(["MA"] * 1000, jobs=1)
    to_go.record("MA", 1.0)
    assert to_go.text() == ", about 17 min to go"
    to_go.record("MA", 99.0)
    assert to_go.text() == ", about 13.9 h to go"


def test_the_bar_shows_what_a_server_said_as_it_said_it(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar() as progress:
        progress.begin(0, ["MA"], 1)
        progress.ended("MA", "MA [red], seed 0", 1.0, "HTTP 400: bad token [/INST]")
    assert "MA [red], seed 0: HTTP 400: bad token [/INST]" in capsys.readouterr().err


def test_a_log_says_how_far_a_run_is_when_it_has_been_quiet_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.StringIO()
    with Lines(out) as progress:
        progress.begin(0, ["MA"], 1)
        progress.advanced("MA, seed 0", "slot 3 of 50")
        monkeypatch.setattr("controller.campaigns.progress.QUIET_S", 0.0)
        progress.advanced("MA, seed 0", "slot 4 of 50")
    assert out.getvalue() == "1 run\nMA, seed 0: slot 4 of 50\n"


def test_what_failed_or_was_made_elsewhere_does_not_say_how_long_others_take() -> None:
    to_go = TimeToGo(["MA"] * 4, jobs=1)
    to_go.record("MA", 0.0)
    assert to_go.text() == ""
    to_go.record("MA", 30.0)
    assert to_go.text() == ", about 60 s to go"


class Closed(io.StringIO):
    """A log whose reader is gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(text)


def test_a_log_that_nobody_reads_ends_nothing() -> None:
    with Lines(Closed()) as progress:
        progress.begin(0, ["MA"], 1)
        progress.ended("MA", "MA, seed 0", 1.0, "")


def test_notes_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    with Lines(out) as progress:
        progress.note("runs/abc is made again: [red] is missing")
    with Bar() as bar:
        bar.note("runs/abc is made again: [red] is missing")
    for shown in (out.getvalue(), capsys.readouterr().err):
        assert "runs/abc is made again: [red] is missing" in shown


def test_nobody_says_neither_yes_nor_no() -> None:
    for progress in (Silence(), Lines(io.StringIO())):
        with pytest.raises(Permanent, match="nobody is at a terminal to approve a policy: MA"):
            progress.confirm("MA, slot 0\nApply it?")
