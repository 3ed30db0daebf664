import pytest

from controller.report import wording
from controller.report.formats import listed, percent, ranges, significant
from tests.unit.report.studies import study_of

NBSP = "\u00a0"


def test_the_headline_compares_with_the_best_baseline():
    study = study_of([("RR", 0, 0.5), ("LL", 0, 0.4), ("SOLVER", 0, 0.1)])
    assert wording.headline(study) == (
        f"SOLVER has the lowest objective, 0.100: 75{NBSP}% below LL, the best of the paper's "
        "baselines without agents"
    )


def test_the_headline_when_a_baseline_wins():
    study = study_of([("LL", 0, 0.1), ("SOLVER", 0, 0.4)])
    assert wording.headline(study) == "LL has the lowest objective, 0.100"


def test_the_headline_of_one_strategy_and_of_none():
    assert wording.headline(study_of([("RR", 0, 0.5)])) == "RR: objective 0.500"
    assert wording.headline(study_of([("RR", 0, None)])) == "Nothing has finished yet"


def test_the_headline_without_a_common_seed():
    study = study_of([("LL", 0, 0.4), ("SOLVER", 1, 0.1)])
    assert "no seed in common" in wording.headline(study)


def test_evidence_counts_the_seeds_that_are_won():
    study = study_of([("LL", 0, 0.4), ("LL", 1, 0.05), ("SOLVER", 0, 0.1), ("SOLVER", 1, 0.1)])
    assert wording.evidence(study).endswith("SOLVER is below LL on 1 of 2 seeds.")


def test_missing_groups_seeds_by_reason():
    study = study_of([("RR", 0, None), ("RR", 1, None), ("RR", 2, 0.1), ("RL", 5, None)])
    assert wording.missing(study) == (
        "RR, seed 0, 1 (2 runs): it broke",
        "RL, seed 5 (1 run): it broke",
    )
    assert wording.missing(study_of([("RR", 0, 0.1)])) == ()


def test_many_problems_are_counted():
    study = study_of([(f"S{k}", 0, None) for k in range(20)])
    found = wording.missing(study)
    assert len(found) == wording.MANY + 1
    assert found[-1] == "and 8 more kinds, all in tables/runs.csv"


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "0"), (1, "100"), (0.5, "50"), (0.1234, "12.3"), (0.0004, "under 0.1"),
     (0.9996, "over 99.9")],
)  # fmt: skip
def test_percent_is_whole_only_where_it_is(share, words):
    assert percent(share) == f"{words}{NBSP}%"


@pytest.mark.parametrize(
    ("value", "words"), [(0.01234, "0.0123"), (123.456, "123"), (12345.6, "12,346"), (0, "0")]
)
def test_significant_digits(value, words):
    assert significant(value) == words


def test_ranges_and_lists():
    assert ranges([3, 1, 2, 7, 8]) == "1 to 3, 7, 8"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a"]) == "a"
    assert listed([]) == ""
