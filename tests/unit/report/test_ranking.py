import math

import pytest

from controller.report.analysis.ranking import compare_with_reference, vary
from tests.unit.report.campaigns import data_of

SEEDS = range(4)


def cells(**means: float) -> list[tuple[str, int, float | None]]:
    """Strategies around their means, 0.01 apart from seed to seed."""
    return [(s, seed, mean + 0.01 * seed) for s, mean in means.items() for seed in SEEDS]


def test_the_reference_is_the_best_of_the_papers_baselines():
    data = data_of(cells(RR=0.5, LL=0.3, SOLVER=0.1))
    assert data.reference() == "LL"
    assert [c.strategy for c in compare_with_reference(data)] == ["SOLVER", "RR"]


def test_without_the_papers_baselines_the_best_is_the_reference():
    data = data_of(cells(A=0.5, B=0.3))
    assert data.reference() == "B"
    assert [c.strategy for c in compare_with_reference(data)] == ["A"]


def test_share_is_over_the_same_seeds():
    data = data_of([("LL", 0, 0.4), ("LL", 1, 0.2), ("SOLVER", 1, 0.1)])
    (found,) = compare_with_reference(data)
    assert found.share == pytest.approx(0.5)
    assert found.paired.difference.n == 1


def test_strategies_without_a_common_seed_are_not_compared():
    data = data_of([("LL", 0, 0.4), ("SOLVER", 1, 0.1)])
    (found,) = compare_with_reference(data)
    assert math.isnan(found.share)
    assert found.paired.difference.n == 0


def test_the_same_ranking_holds():
    data = data_of(cells(A=0.1, B=0.2, C=0.3), load_0_5=cells(A=0.01, B=0.02, C=0.03))
    (found,) = vary(data)
    assert (found.tau, found.verdict, found.swaps) == (1, "holds", ())
    assert found.setting.value("load") == 0.5


def test_a_clear_swap_changes_the_ranking():
    data = data_of(cells(A=0.1, B=0.2, C=0.3), load_0_5=cells(B=0.1, A=0.2, C=0.3))
    (found,) = vary(data)
    assert found.verdict == "changes"
    assert found.clear_swaps == (("A", "B"),)
    assert found.tau == pytest.approx(1 / 3)


def test_a_swap_within_noise_does_not():
    noisy = [("A", s, 0.2 + 0.02 * (-1) ** s) for s in SEEDS] + [("B", s, 0.199) for s in SEEDS]
    data = data_of(cells(A=0.1, B=0.2), load_0_5=noisy)
    (found,) = vary(data)
    assert found.ranking == ("B", "A")
    assert found.verdict == "swaps within noise"


def test_one_seed_cannot_tell_a_change_from_noise():
    data = data_of([("A", 0, 0.1), ("B", 0, 0.2)], profile_b=[("A", 0, 0.3), ("B", 0, 0.2)])
    assert vary(data)[0].verdict == "swaps within noise"


def test_a_setting_with_one_strategy_has_nothing_to_rank():
    data = data_of(cells(A=0.1, B=0.2), load_2_0=cells(A=0.1))
    (found,) = vary(data)
    assert found.verdict == "nothing to rank"
    assert math.isnan(found.tau)


def test_a_diagnostic_is_shown_but_never_best():
    data = data_of(cells(LL=0.3, SOLVER=0.2, ORACLE=0.1))
    assert data.order() == ("ORACLE", "SOLVER", "LL")
    assert data.ranking() == ("SOLVER", "LL")
    assert data.reference() == "LL"
    assert [c.strategy for c in compare_with_reference(data)] == ["ORACLE", "SOLVER"]
