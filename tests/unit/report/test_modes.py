"""Campaigns whose agents did not decide: the report must not say that they did."""

from pathlib import Path

import pytest

from controller.report import write_report
from controller.report.analysis.data import analyse
from controller.results.campaign import read_campaign
from tests.samples.sample_campaign import Sample, rows_of, write_sample

OPTIMISER = "reasoned by an optimiser, not a language model"


def write_mode(folder: Path, mode: str) -> Path:
    """SOLVER, MA as it is and MA in a mode of its own."""
    other = f"MA ({mode})" if mode == "approve" else f"MA ({mode}: SOLVER decides)"
    return write_sample(
        folder,
        Sample(
            strategies=("SOLVER", "MA", other), seeds=(0, 1), epochs=2, agents=("MA", other),
            modes={other: mode},
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def advised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_mode(tmp_path_factory.mktemp("advised"), "advise")
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(advised: Path) -> str:
    return (advised / "report" / "index.html").read_text("utf-8")


def test_modes_are_read_from_the_runs(advised):
    data = analyse(read_campaign(advised))
    assert (data.mode("MA"), data.incumbent("MA")) == ("apply", "")
    label = "MA (advise: SOLVER decides)"
    assert (data.mode(label), data.incumbent(label)) == ("advise", "SOLVER")
    assert (data.own_name(label), data.family(label)) == ("MA", "MA")


def test_an_adviser_is_not_said_to_have_decided(page):
    words = f"MA: {OPTIMISER}. MA (advise): SOLVER decided; agents, {OPTIMISER}, only advised."
    assert f'<p class="reasoned">{words}</p>' in page
    assert words in page[page.index("<figcaption>") :]
    assert (
        "In MA (advise) SOLVER decided in the agents' place: they only advised, and reasoned "
        "by reference"
    ) in page


def test_advice_has_a_table_of_its_own(advised):
    assert {row["strategy"] for row in rows_of(advised, "agents")} == {"MA"}
    planner, scheduler, deployer = rows_of(advised, "advice")
    assert {row["strategy"] for row in (planner, scheduler, deployer)} == {
        "MA (advise: SOLVER decides)"
    }
    assert scheduler["decided_by"] == "SOLVER"
    # Two runs of 25 slots: a decision of the planner in three slots, one of the scheduler and
    # three of deployers in all.
    assert [row["decisions"] for row in (planner, scheduler, deployer)] == ["6", "50", "150"]
    for row in (planner, scheduler, deployer):
        assert int(row["same"]) + int(row["differs"]) == int(row["decisions"])
    assert deployer["fallback"] == deployer["differs"]
    assert planner["fallback"] == "0"
    assert "took_mean_s" not in planner
    outcomes = rows_of(advised, "agent-outcomes")
    assert {row["strategy"] for row in outcomes} == {"MA"}


def test_the_browser_says_whose_policy_it_is(page):
    story = page[page.index('aria-label="Decisions of MA (advise: SOLVER decides), seed 0"') :]
    assert "It only advised: the policy below is SOLVER\u2019s. advice: same" in story
    assert "SOLVER decided in 0.25 s; the advice took 1000 tokens in, 100 out" in story
    assert "Decisions of SOLVER in this epoch" in story


def test_much_advice_that_is_the_fallbacks_is_named_at_the_top(page):
    assert "MA (advise: SOLVER decides): 3" in page[: page.index('class="tiles"')]
    assert "advice is a fallback or late, not the reasoner's." in page


def test_agents_that_are_off_were_not_asked(tmp_path):
    page = write_report(write_mode(tmp_path, "off")).read_text("utf-8")
    words = f"MA: {OPTIMISER}. MA (off): SOLVER decided, no agent was asked."
    assert f'<p class="reasoned">{words}</p>' in page
    assert "In MA (off) SOLVER decided in the agents' place: none was asked." in page
    assert {row["strategy"] for row in rows_of(tmp_path, "agents")} == {"MA"}
    assert "Decisions of MA (off" not in page


def test_a_person_who_confirms_is_named(tmp_path):
    page = write_report(write_mode(tmp_path, "approve")).read_text("utf-8")
    assert "A person confirmed each macro-policy." in page
    rows = rows_of(tmp_path, "guard")
    found = {row["strategy"]: row for row in rows if row["tier"] == "planner"}
    assert [found["MA (approve)"][name] for name in ("decisions", "changed", "approved")] == [
        "6", "2", "2",
    ]  # fmt: skip
