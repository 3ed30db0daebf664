"""Campaigns whose agents did not decide: the report must not say that they did."""

import json
from pathlib import Path

import pytest

from controller.report import write_report
from controller.report.mandates import Mandate
from controller.report.study import study_campaign
from controller.results.campaign import read_campaign
from tests.samples.sample_agents import give_mandate
from tests.samples.sample_campaign import Sample, rows_of, write_sample

OPTIMISER = "reasoned by an optimiser, not a language model"


def write_mode(folder: Path, mode: str) -> Path:
    """SOLVER, MA as it is and MA in a mode of its own."""
    sample = Sample(strategies=("SOLVER", "MA", "MAL"), seeds=(0, 1), epochs=2,
                    agents=("MA", "MAL"))  # fmt: skip
    write_sample(folder, sample)
    path = folder / "campaign.json"
    grid = json.loads(path.read_text())
    for run in grid["runs"]:
        if run["strategy"] == "MAL":
            run["strategy"] = f"MA ({mode}: SOLVER decides)"
            run["id"] = give_mandate(folder / "runs" / run["id"], mode).name
    path.write_text(json.dumps(grid))
    return folder


@pytest.fixture(scope="module")
def advised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_mode(tmp_path_factory.mktemp("advised"), "advise")
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(advised: Path) -> str:
    return (advised / "report" / "index.html").read_text("utf-8")


def test_mandates_are_read_from_the_runs(advised):
    study = study_campaign(read_campaign(advised))
    assert study.mandate("MA") == Mandate()
    assert study.mandate("MA (advise: SOLVER decides)") == Mandate("advise", "SOLVER")


def test_an_adviser_is_not_said_to_have_decided(page):
    words = f"MA: {OPTIMISER}. MA (advise): SOLVER decided; agents, {OPTIMISER}, only advised."
    assert f'<p class="reasoned">{words}</p>' in page
    assert words in page[page.index("<figcaption>") :]
    assert (
        "In MA (advise) SOLVER decided in the agents&#39; place: they only advised, and reasoned "
        "by reference"
    ) in page


def test_advice_has_a_table_of_its_own(advised):
    assert {row["strategy"] for row in rows_of(advised, "agents")} == {"MA"}
    planner, scheduler, deployer = rows_of(advised, "advice")
    assert {row["strategy"] for row in (planner, scheduler, deployer)} == {
        "MA (advise: SOLVER decides)"
    }
    assert scheduler["decided_by"] == "SOLVER"
    # Two runs of 25 slots: a line of the planner in three slots, one of the scheduler and three
    # of deployers in all; every other line differs.
    assert [row["decisions"] for row in (planner, scheduler, deployer)] == ["6", "50", "150"]
    differs = sum(int(row["differs"]) for row in (planner, scheduler, deployer))
    assert differs == 2 * ((3 + 25 + 75) // 2)
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
    assert "advice is a fallback or late, not the reasoner&#39;s." in page


def test_agents_that_are_off_were_not_asked(tmp_path):
    page = write_report(write_mode(tmp_path, "off")).read_text("utf-8")
    words = f"MA: {OPTIMISER}. MA (off): SOLVER decided, no agent was asked."
    assert f'<p class="reasoned">{words}</p>' in page
    assert "In MA (off) SOLVER decided in the agents&#39; place: none was asked." in page
    assert {row["strategy"] for row in rows_of(tmp_path, "agents")} == {"MA"}
    assert "Decisions of MA (off" not in page


def test_a_person_who_confirms_is_named(tmp_path):
    page = write_report(write_mode(tmp_path, "approve")).read_text("utf-8")
    assert "A person confirmed each macro-policy." in page
