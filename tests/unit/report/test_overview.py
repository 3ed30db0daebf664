from dataclasses import replace

import pytest

from controller.report.analysis.data import analyse
from controller.report.overview import MANY, missing_runs, overview
from controller.report.render import make_renderer
from controller.report.sections.significance import wins
from controller.report.text import listed, percent, ranges, significant
from tests.unit.report.campaigns import data_of, headline_of, summary, words_of

NBSP = "\u00a0"


def test_the_headline_compares_with_the_best_baseline():
    data = data_of([("RR", 0, 0.5), ("LL", 0, 0.4), ("SOLVER", 0, 0.1)])
    assert headline_of(data) == (
        f"SOLVER has the lowest objective, 0.100: 75{NBSP}% below LL, the best of the paper's "
        f"baselines without agents. SOLVER may refuse requests and answers 90{NBSP}% of them"
    )


def test_the_headline_when_a_baseline_wins():
    data = data_of([("LL", 0, 0.1), ("SOLVER", 0, 0.4)])
    assert headline_of(data) == "LL has the lowest objective, 0.100"


def test_the_headline_of_one_strategy_and_of_none():
    assert headline_of(data_of([("RR", 0, 0.5)])) == "RR: objective 0.500"
    assert headline_of(data_of([("RR", 0, None)])) == "Nothing has finished yet"


def test_the_headline_without_a_common_seed():
    data = data_of([("LL", 0, 0.4), ("SOLVER", 1, 0.1)])
    assert "no seed in common" in headline_of(data)


def test_evidence_counts_the_seeds_that_are_won():
    data = data_of([("LL", 0, 0.4), ("LL", 1, 0.05), ("SOLVER", 0, 0.1), ("SOLVER", 1, 0.1)])
    text = make_renderer()("words/significance.html.j2", wins(data))
    assert text.endswith("SOLVER is below LL on 1 of 2 seeds.")


def test_missing_groups_seeds_by_reason():
    data = data_of([("RR", 0, None), ("RR", 1, None), ("RR", 2, 0.1), ("RL", 5, None)])
    assert [words_of("overview.html.j2", "missing", one) for one in missing_runs(data)] == [
        "RR, seed 0, 1 (2 runs): it broke",
        "RL, seed 5 (1 run): it broke",
    ]
    assert missing_runs(data_of([("RR", 0, 0.1)])) == ()


def test_many_problems_are_counted():
    data = data_of([(f"S{k}", 0, None) for k in range(20)])
    found = overview(data)
    assert (len(found.missing), found.more_missing) == (MANY, 8)


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


def test_strategies_whose_runs_several_versions_of_the_code_made_are_named():
    data = data_of([("RR", 0, 0.1), ("RR", 1, 0.1), ("RL", 0, 0.2)])
    assert overview(data).by_other_code == ()
    first = data.campaign.runs[0]
    edited = replace(first, figures=summary(0.1, code="0123456789ab"))
    runs = (edited, *data.campaign.runs[1:])
    assert overview(analyse(replace(data.campaign, runs=runs))).by_other_code == ("RR",)


def test_the_page_names_the_setting_that_its_headline_is_of():
    one = data_of([("RR", 0, 0.5)])
    assert overview(one).setting == ""
    three = data_of([("RR", 0, 0.5)], load_0_5=[("RR", 0, 0.1)], load_2=[("RR", 0, 0.9)])
    assert overview(three).setting == "load 1.0: one of 3 settings"
