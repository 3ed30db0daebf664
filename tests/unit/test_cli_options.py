"""Options of the command line that name models, and what ends a command."""

import os
import shlex
import signal
from pathlib import Path

import pytest

from controller.cli.app import Terminated, _relative, ended_by_signals, told_to_resume
from controller.cli.options import _models
from controller.domain.errors import InputError

TIERS = ("planner", "scheduler", "deployer")


@pytest.mark.parametrize(
    "name", ["qwen3", "/models/run=3/qwen.gguf", "a=b", "org/model:7b,q4", "x=planner"]
)
def test_a_models_name_may_hold_any_sign(name: str) -> None:
    assert _models(name) == dict.fromkeys(TIERS, name)


def test_a_model_for_each_tier() -> None:
    found = _models("planner=/m/run=3/a.gguf, scheduler = b,deployer=c=d")
    assert found == {"planner": "/m/run=3/a.gguf", "scheduler": "b", "deployer": "c=d"}


@pytest.mark.parametrize("text", ["planner=a", "planner=a,scheduler=b", "planner=a,planner=b,x=c"])
def test_models_for_some_tiers_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="must name a model for each tier"):
        _models(text)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_as_an_interrupt_does(
    number: signal.Signals, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["edgelm", "run", "my campaign.yaml"])
    former = signal.getsignal(number)
    with pytest.raises(Terminated) as caught, ended_by_signals():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == former
    assert told_to_resume(caught.value, "Finished runs are kept.") == 128 + number
    said = capsys.readouterr().err
    assert said.startswith("\nTerminated. Finished runs are kept. Resume with:")
    assert shlex.quote("my campaign.yaml") in said


def test_who_ignores_a_signal_goes_on_ignoring_it() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, former)


def test_errors_name_files_from_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _relative(f"{tmp_path}/a/b.yaml: seeds: wrong") == "a/b.yaml: seeds: wrong"
    assert _relative("/elsewhere/b.yaml: wrong") == "/elsewhere/b.yaml: wrong"
