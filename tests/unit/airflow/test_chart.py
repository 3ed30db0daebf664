import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.airflow import chart
from controller.airflow.campaigns import Campaign, Standing
from controller.airflow.chart import HEIGHT, WIDTH, charts

DAY_S = 86400.0


def campaign(k: int, name: str = "nightly", day_s: float = DAY_S, **objectives: float | None):
    standings = tuple(Standing(strategy, 1, 1, value) for strategy, value in objectives.items())
    when = 1_796_000_000.0 - day_s * k
    return Campaign(f"{name}-{k}", when, True, name=name, standings=standings)


def test_one_campaign_is_no_course():
    assert charts([]) == []
    assert charts([campaign(0, RF=0.5), campaign(1, RF=None), campaign(2, "other", RF=0.1)]) == []


def test_each_name_has_its_own():
    found = charts([campaign(0, "a", RF=0.5), campaign(1, "b", RF=0.4), campaign(2, "a", RF=0.3),
                    campaign(3, "b", RF=0.2)])  # fmt: skip
    assert [(one.name, [c.folder for c in one.campaigns]) for one in found] == [
        ("a", ["a-0", "a-2"]), ("b", ["b-1", "b-3"]),
    ]  # fmt: skip


def test_time_runs_to_the_right_and_more_is_higher():
    (found,) = charts([campaign(0, RF=0.6, SOLVER=0.2), campaign(1, RF=0.5, SOLVER=0.3)])
    assert found.strategies == ("SOLVER", "RF")
    solver, rf = found.lines
    assert [point.text for point in solver.points] == [
        "SOLVER, nightly-1: 0.3000", "SOLVER, nightly-0: 0.2000",
    ]  # fmt: skip
    assert solver.points[0].x < solver.points[1].x
    assert rf.points[1].y < rf.points[0].y < solver.points[0].y < solver.points[1].y
    assert found.objective(found.campaigns[0], "RF") == 0.6
    assert found.objective(found.campaigns[0], "MA") is None


def test_a_line_breaks_where_a_strategy_is_missing():
    second = [None, 0.2, None, 0.2, 0.3]
    (found,) = charts([campaign(k, A=0.1, B=value) for k, value in enumerate(second)])
    line = found.lines[1]
    assert len(line.points) == 3
    assert line.path.count("M") == 2
    assert line.path.count("L") == 1


def test_old_ones_are_left_out_and_counted(monkeypatch):
    monkeypatch.setattr(chart, "MOST", 3)
    (found,) = charts([campaign(k, RF=0.1) for k in range(5)])
    assert [one.folder for one in found.campaigns] == ["nightly-0", "nightly-1", "nightly-2"]
    assert found.more == 2


def test_days_or_times():
    (found,) = charts([campaign(k, RF=0.1) for k in range(20)])
    labels = [date.label for date in found.dates]
    assert len(labels) <= 6
    assert labels[-1] == "30 Nov"
    (found,) = charts([campaign(k, day_s=60, RF=0.1) for k in range(3)])
    assert [date.label for date in found.dates] == ["00:51", "00:52", "00:53"]


@given(st.lists(st.floats(0, 1000), min_size=2, max_size=40))
def test_everything_is_within_the_drawing(values):
    (found,) = charts([campaign(k, RF=value) for k, value in enumerate(values)])
    for point in found.lines[0].points:
        assert 0 < point.x < WIDTH
        assert 0 < point.y < HEIGHT
    assert 2 <= len(found.levels) <= 8
    assert len({level.label for level in found.levels}) == len(found.levels)
    heights = [level.at for level in found.levels]
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize(
    ("low", "high", "levels"),
    [
        (0.2, 0.2, [0.2, 0.2025]),
        (0.0, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (0.31, 0.38, [0.3, 0.32, 0.34, 0.36, 0.38]),
    ],
)
def test_levels_are_round(low, high, levels):
    assert chart._levels(low, high) == levels
