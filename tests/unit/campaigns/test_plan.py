import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.agents.endpoint.prices import Price, Prices
from controller.campaigns.estimate import PROBE_SLOTS, Estimates
from controller.campaigns.experiment import Experiment
from controller.campaigns.grid import Cell, Grid, retargeted
from controller.campaigns.plan import Plan, check_budget, make_plan
from controller.campaigns.states import joined
from controller.domain.errors import InputError
from controller.results import folder
from tests.samples.small import small_grid
from tests.unit.results.test_folder import FILES

PRICES = Prices({"gpt-5": Price(1.0, 0.1, 10.0), "gpt-4.1-mini": Price(0.5, 0.1, 2.0)})
DRAIN = 30  # slots, of 900 s


class Tried:
    """A probe that knows how long each strategy takes, and what it was asked."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds
        self.asked: list[Experiment] = []

    def __call__(self, experiment: Experiment) -> float:
        self.asked.append(experiment)
        return self.seconds.get(experiment.strategy, 1.0)


def finish(root: Path, experiment: Experiment, **summary: Any) -> None:
    """Publish a run with a summary of these fields."""
    files = {
        **FILES,
        "experiment.json": experiment.canonical_json().encode(),
        "summary.json": json.dumps(summary).encode(),
    }
    if experiment.reasoner:
        files["transcript.jsonl"] = b'{"kind":"head"}\n'
    folder.publish(root, experiment.run_id, files)


def planned(root: Path, grid: Grid, most: int = 64, **seconds: float) -> Plan:
    return make_plan(root, grid, most, Estimates(root, Tried(**seconds), PRICES))


def test_a_plan_is_the_pending_runs_in_the_order_of_the_runner(tmp_path: Path) -> None:
    grid = small_grid(strategies=("RF", "MA"))
    first, second, third, fourth = grid.cells  # RF 0, RF 1, MA 0, MA 1
    finish(tmp_path, first.experiment)
    document = planned(tmp_path, grid).document()
    ids = [cell.run_id for cell in grid.cells]
    assert [(row["label"], row["runs"]) for row in document["rows"]] == [
        ("MA, seed 0", [third.run_id]),
        ("MA, seed 1", [fourth.run_id]),
        ("RF, seed 1", [second.run_id]),
    ]
    assert document["digest"] == hashlib.sha256("\n".join(ids).encode()).hexdigest()[:12]
    assert (document["runs"], document["pending"]) == (4, 3)
    assert (document["campaign"], document["target"]) == ("small", "twin")
    assert document["folder"] == str(tmp_path)
    assert document["reasoners"] == ["reference (optimiser, not a language model)"]
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]  # nothing more is written


def test_a_plan_of_a_finished_campaign_has_no_rows(tmp_path: Path) -> None:
    grid = small_grid()
    for cell in grid.cells:
        finish(tmp_path, cell.experiment, wall_s=1.0, decisions={})
    plan = planned(tmp_path, grid)
    assert (plan.pending, plan.rows, plan.minutes, plan.usd) == (0, (), 0.0, 0.0)


@pytest.mark.parametrize("most", [1, 2, 3, 5, 7, 20, 100])
def test_rows_are_at_most_so_many_whole_and_unique(tmp_path: Path, most: int) -> None:
    grid = small_grid(strategies=("RF", "LL", "RL", "MA"), seeds=5, loads=(0.5, 1.0))
    plan = planned(tmp_path, grid, most, MA=20.0)
    everything = [run for row in plan.rows for run in row.runs]
    turns = [run.run_id for run in sorted(grid.cells, key=_turn)]
    assert everything == turns
    assert len(plan.rows) <= most
    labels = [row.label for row in plan.rows]
    assert len(set(labels)) == len(labels)


def _turn(cell: Cell) -> tuple[int, bool]:
    """Agents a seed ahead of the others."""
    if cell.experiment.reasoner:
        return cell.experiment.seed - 1, False
    return cell.experiment.seed, True


def test_rows_take_about_the_same_time(tmp_path: Path) -> None:
    grid = small_grid(strategies=("LL", "RF"), seeds=20)
    plan = planned(tmp_path, grid, 4, LL=3.0, RF=1.0)
    seconds = {c.run_id: 3.0 if c.experiment.strategy == "LL" else 1.0 for c in grid.cells}
    took = [sum(seconds[run] for run in row.runs) for row in plan.rows]
    assert len(took) == 4
    assert max(took) - min(took) <= 3.0


@pytest.mark.parametrize(
    ("changes", "most", "labels"),
    [
        ({"strategies": ("RF",), "seeds": 6}, 2, ["RF, seeds 0 to 2", "RF, seeds 3 to 5"]),
        ({"strategies": ("RF",), "seeds": (1, 4, 9)}, 1, ["RF, seeds 1, 4, 9"]),
        ({"strategies": ("RF",), "seeds": (1, 3, 5, 7, 9, 11)}, 1, ["RF, 6 seeds from 1 to 11"]),
        ({"seeds": 1}, 1, ["RF, LL, seed 0"]),
        ({"strategies": ("RF", "LL", "RL", "AL"), "seeds": 1}, 1, ["4 strategies, seed 0"]),
        (
            {"strategies": ("RF",), "seeds": 1, "loads": (0.5, 1.0)},
            2,
            ["RF, seed 0, load 0.5", "RF, seed 0, load 1"],
        ),
        (
            {"seeds": 1, "loads": (0.5, 1.0, 2.0)},
            2,
            ["RF, LL, seed 0, part 1 of 2", "RF, LL, seed 0, part 2 of 2"],
        ),
    ],
)
def test_a_label_says_what_the_row_is(
    tmp_path: Path, changes: dict[str, Any], most: int, labels: list[str]
) -> None:
    plan = planned(tmp_path, small_grid(**changes), most)
    assert [row.label for row in plan.rows] == labels


def test_time_is_that_of_finished_runs_by_strategy_and_slot(tmp_path: Path) -> None:
    """Of this folder and those beside it, whatever their length."""
    here, beside = tmp_path / "here", tmp_path / "beside"
    done = small_grid(epochs=3)
    with joined(beside, done):
        finish(beside, done.cells[0].experiment, wall_s=(30 + DRAIN) * 0.2, decisions={})
    mine = small_grid(epochs=7)
    with joined(here, mine):
        finish(here, mine.cells[2].experiment, wall_s=(70 + DRAIN) * 0.4, decisions={})
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "campaign.json").write_text("{}")
    tried = Tried()
    plan = make_plan(here, mine, 9, Estimates(here, tried, PRICES))
    assert tried.asked == []
    assert plan.pending == 3
    assert plan.minutes == pytest.approx(100 * (0.2 + 0.2 + 0.4) / 60, abs=1e-3)


def test_the_newest_runs_nearby_count_and_not_more_than_a_few_of_a_kind(tmp_path: Path) -> None:
    for age, slot_s in ((0, 0.1), (1, 0.9)):
        root = tmp_path / f"past-{age}"
        done = small_grid(strategies=("RF",), seeds=tuple(range(10 * age, 10 * age + 6)))
        with joined(root, done):
            for cell in done.cells:
                finish(root, cell.experiment, wall_s=(10 + DRAIN) * slot_s, decisions={})
        os.utime(root / "campaign.json", (1e9 - age, 1e9 - age))
    plan = planned(tmp_path / "here", small_grid(strategies=("RF",), seeds=(50,)))
    assert plan.minutes == pytest.approx((10 + DRAIN) * 0.1 / 60, abs=1e-3)


def test_time_is_tried_once_for_each_strategy_that_nobody_has_run(tmp_path: Path) -> None:
    grid = small_grid(epochs=7, epoch_slots=100, seeds=4)
    tried = Tried(RF=8.0, LL=4.0)
    plan = make_plan(tmp_path, grid, 9, Estimates(tmp_path, tried, PRICES))
    assert [one.strategy for one in tried.asked] == ["RF", "LL"]
    assert {(one.epochs, one.epoch_slots) for one in tried.asked} == {(1, PROBE_SLOTS)}
    expected_s = 4 * (700 + DRAIN) * (8.0 + 4.0) / (PROBE_SLOTS + DRAIN)
    assert plan.minutes == pytest.approx(expected_s / 60, abs=1e-3)


def test_time_on_a_testbed_is_that_of_the_slots_and_the_drain(tmp_path: Path) -> None:
    grid = retargeted(small_grid(), "emulated")
    tried = Tried()
    real = make_plan(tmp_path, grid, 9, Estimates(tmp_path, tried, PRICES))
    assert real.minutes == 4 * (10 * 30 + 900) / 60
    fast = make_plan(tmp_path, grid, 9, Estimates(tmp_path, tried, PRICES, time_scale=20.0))
    assert fast.minutes == 1.0 * 4
    assert tried.asked == []
    assert real.target == "emulated"


def remote(**changes: Any) -> Grid:
    return small_grid(strategies=("MA", "RF"), reasoners=("openai",), **changes)


def test_cost_is_that_of_the_tokens_which_such_runs_took(tmp_path: Path) -> None:
    here, beside = tmp_path / "here", tmp_path / "beside"
    done = remote(seeds=1)
    per_run = {
        "planner": {"calls": 2, "tokens_in": 1_000_000, "tokens_out": 100_000},
        "scheduler": {"calls": 9, "tokens_in": 2_000_000, "tokens_out": 500_000},
        "deployer": {"calls": 9, "tokens_in": 0, "tokens_out": 0},
    }
    reasoner = done.cells[0].experiment.reasoner
    assert reasoner
    with joined(beside, done):
        summary = {"wall_s": 600.0, "decisions": per_run, "reasoner": reasoner.described()}
        finish(beside, done.cells[0].experiment, **summary)
        finish(beside, done.cells[1].experiment, wall_s=60.0, decisions={})
    plan = planned(here, remote(seeds=3))
    assert plan.usd == pytest.approx(3 * (1.0 + 1.0 + 1.0 + 1.0))
    assert plan.minutes == pytest.approx(3 * 11)


def test_time_and_cost_that_nobody_knows_are_none_and_no_model_is_asked(tmp_path: Path) -> None:
    tried = Tried()
    plan = make_plan(tmp_path, remote(), 2, Estimates(tmp_path, tried, PRICES))
    assert (plan.minutes, plan.usd) == (None, None)
    assert [one.strategy for one in tried.asked] == ["RF"]
    assert len(plan.rows) == 2
    free = Prices(dict.fromkeys(("gpt-5", "gpt-4.1-mini"), Price(0.0, 0.0, 0.0)))
    assert make_plan(tmp_path, remote(), 2, Estimates(tmp_path, tried, free)).usd == 0.0
    assert make_plan(tmp_path, remote(), 2, Estimates(tmp_path, tried, Prices({}))).usd is None


@pytest.mark.parametrize(
    ("make", "limits", "named"),
    [
        (small_grid, (0.01, None), r"--hours-at-most: 4 pending runs are expected to take 0\.\d+ h "
         r"of one worker \(about .* minutes in all\), over the limit of 0\.01.*give fewer"),
        (remote, (None, 5.0), r"--usd-at-most: the cost of 4 pending runs is unknown, so it may be "
         r"over the limit \(got 5\.0\); make one short run"),
        (remote, (5.0, None), r"--hours-at-most: the time of 4 pending runs is unknown"),
    ],
)  # fmt: skip
def test_what_is_over_a_limit_or_unknown_is_refused(
    tmp_path: Path,
    make: Callable[[], Grid],
    limits: tuple[float | None, float | None],
    named: str,
) -> None:
    plan = planned(tmp_path, make(), RF=60.0, LL=60.0)
    with pytest.raises(InputError, match=named):
        check_budget(plan, *limits)
    check_budget(plan, None, None)


def test_what_is_within_the_limits_passes(tmp_path: Path) -> None:
    check_budget(planned(tmp_path, small_grid(), RF=60.0), 1.0, 0.0)
