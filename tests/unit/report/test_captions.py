"""Words on who leads and on what a mean is over."""

import re

import matplotlib as mpl
import numpy as np
import pytest

from controller.report import style, write_report
from controller.report.analysis.records import Records
from controller.report.analysis.requests import GRID_S, LmOutcomes
from controller.report.captions import averaged
from controller.report.sections.lms import failures
from controller.report.sections.objective import summary
from controller.report.sections.tradeoff import latency_fairness
from controller.report.text import counted, leading, percent, tied
from tests.samples.sample_campaign import Sample, write_sample
from tests.unit.report.campaigns import data_of, headline_of

TIE = data_of([("RR", 0, 0.5), ("SOLVER", 0, 0.12341), ("MA", 0, 0.12342)])


def test_all_that_read_the_same_lead():
    assert tied({"A": 0.00001, "B": 0.0, "C": 0.5}, percent) == ["B"]
    assert tied({"A": 0.99951, "B": 1.0, "C": 0.5}, "{:.3f}".format, highest=True) == ["A", "B"]


def test_where_all_tie_nobody_leads():
    values = {"A": 1.0, "B": 1.0, "C": 2.0}
    words = ("leads", "lead", "None leads")
    assert leading(values, ["A"], *words) == "A leads"
    assert leading(values, ["A", "B"], *words) == "A and B lead"
    assert leading(values, ["A", "B", "C"], *words) == "None leads"
    assert leading({"A": 1.0}, ["A"], *words) == "A leads"


@pytest.mark.parametrize(
    ("failed", "title"),
    [
        ({"RF": 1, "LL": 2, "MA": 1}, "RF and MA fail the fewest requests: 10"),
        ({"RF": 0, "LL": 0}, "No strategy fails fewer requests than another: 0"),
        ({"RF": 1}, "RF fails 10\xa0% of its requests"),
    ],
)
def test_the_fewest_failures_are_fewer_than_others(failed, title):
    nothing = np.zeros(GRID_S.shape)
    runs = {
        s: {0: {"LM1": LmOutcomes(10, nothing, np.zeros(4), {"timeout": n})}}
        for s, n in failed.items()
    }
    data = data_of([(s, 0, 0.5) for s in failed])
    vars(data)["records"] = Records(outcomes=runs)
    with mpl.rc_context(style.RC):
        figure = failures(data)
    assert figure is not None
    assert figure.title.startswith(title)


def test_the_headline_names_who_ties():
    assert headline_of(TIE).startswith("SOLVER and MA have the lowest objective, 0.123: 75")


def test_the_table_prints_all_that_tie_in_bold():
    table = summary(TIE)
    assert table is not None
    assert [cells[2].best for _, cells in table.page_rows()] == [True, True, False]


def test_markers_at_one_place_are_all_seen():
    with mpl.rc_context(style.RC):
        figure = latency_fairness(TIE)
    assert figure is not None
    assert figure.title == "No strategy differs from another in latency or fairness"
    ours = [line for line in figure.drawing.axes[0].lines if line.get_gid()]
    assert [line.get_markerfacecolor() == "none" for line in ours] == [False, True, True]
    assert ours[0].get_markersize() < ours[1].get_markersize() < ours[2].get_markersize()
    assert "A ring is drawn" in figure.caption


def test_one_seed_is_no_mean_over_seeds():
    assert averaged(TIE, " ± x") == "One seed, so there is no interval"
    two = data_of([("RR", 0, 0.5), ("RR", 1, 0.5)])
    assert averaged(two, " ± x") == "Mean over seeds ± x"


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs"), (1200, "1,200 runs")]
)
def test_one_is_singular(number, words):
    assert counted(number, "run") == words


def test_a_campaign_of_one_run_speaks_of_one(tmp_path):
    write_sample(tmp_path, Sample(strategies=("RL",), seeds=(0,), epochs=1))
    page = write_report(tmp_path).read_text("utf-8")
    assert "1 of 1 run finished" in page
    assert "1 epoch of 10 slots" in page
    assert not re.search(r"\b1 (epoch|run|slot|seed|block)s\b", page)
    assert "±" not in page
