"""The page of a campaign with agents: who reasoned, what planners saw, said and achieved."""

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from controller.report import write_report
from controller.report.analysis.data import analyse
from controller.report.render import make_renderer
from controller.report.sections.planner import make_browsers
from controller.results.campaign import read_campaign
from tests.samples.sample_agents import HOSTILE, REASON
from tests.samples.sample_campaign import Sample, edited_lines, rows_of, write_sample

SAMPLE = Sample(
    strategies=("RL", "SOLVER", "MAL", "MA"), seeds=(0, 1), epochs=3, agents=("MAL", "MA")
)
ONE = Sample(strategies=("MA",), seeds=(0,), epochs=1, agents=("MA",))
OPTIMISER = "reasoned by an optimiser, not a language model"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_sample(tmp_path_factory.mktemp("agents"), SAMPLE)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report" / "index.html").read_text("utf-8")


def test_who_reasoned_stands_beside_every_result_of_agents(page):
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, flags=re.DOTALL)
    with_agents = [caption for caption in captions if OPTIMISER in caption]
    assert len(with_agents) >= len(captions) - 1  # "gap" shows the best strategy alone
    assert f'<p class="note">MAL and MA: {OPTIMISER}.</p>' in page
    assert f'<p class="reasoned">MAL and MA: {OPTIMISER}.</p>' in page
    assert "The agents of MAL and MA reasoned by reference (optimiser, not a language" in page


def test_the_reference_of_a_comparison_is_named_too(tmp_path):
    sample = Sample(strategies=("SOLVER", "MA"), seeds=(0, 1), epochs=1, agents=("SOLVER",))
    page = write_report(write_sample(tmp_path, sample)).read_text("utf-8")
    table = page[page.index('id="significance-caption"') :]
    assert "Objective against SOLVER" in table
    assert f"SOLVER: {OPTIMISER}." in table[: table.index("</section>")]


def test_nothing_that_a_model_says_becomes_markup(page):
    assert HOSTILE not in page
    assert "<img" not in page
    assert html.escape(REASON, quote=False) in page
    assert page.count("<script>") == 1


def test_the_table_counts_what_the_decisions_say(folder):
    planner, scheduler, deployer = (
        row for row in rows_of(folder, "agents") if row["strategy"] == "MA"
    )
    assert [planner[name] for name in ("decisions", "ok", "repaired", "fallback", "late")] == [
        "8", "4", "2", "2", "0",
    ]  # fmt: skip
    assert (scheduler["decisions"], deployer["decisions"]) == ("70", "210")
    # 35 slots: 4 decisions of 1100 tokens; an epoch is 10 slots.
    assert float(planner["tokens_per_slot"]) == pytest.approx(4 * 1100 / 35, rel=1e-5)
    assert float(planner["tokens_per_epoch"]) == pytest.approx(40 * 1100 / 35, rel=1e-5)
    assert planner["cost_usd_per_run"] == "0"
    assert (folder / "report" / "figures" / "agent-outcomes.svg").exists()


def test_the_table_has_a_column_of_fallbacks_even_without_any(tmp_path):
    plain = edited_lines("decisions.jsonl", lambda line: {**line, "outcome": "ok"})
    page = write_report(write_sample(tmp_path, replace(ONE, edit=plain))).read_text("utf-8")
    table = page[page.index('id="agents-caption"') :]
    table = table[: table.index("</table>")]
    assert ">Fallback</th>" in table
    assert ">0\u00a0%</td>" in table
    assert ">none</td>" in table
    assert ">Late</th>" not in table
    assert "the drain" in table
    assert "not the reasoner's" not in page


def test_many_fallbacks_are_named_at_the_top(page, tmp_path):
    # 2 of 8 decisions of the planner, and none of the many others.
    warning = "MA: 25\u00a0% of its planner's decisions are fallbacks or late, not the reasoner"
    assert warning in page[: page.index("What was run</h2>")]
    none = {"outcome": "late", "tokens_in": 0, "tokens_out": 0}
    late = edited_lines("decisions.jsonl", lambda line: {**line, **none})
    page = write_report(write_sample(tmp_path, replace(ONE, edit=late))).read_text("utf-8")
    assert "MA: 100\u00a0% of its decisions are fallbacks or late, not the reasoner" in page


def test_tiers_without_agents_are_not_counted(tmp_path):
    def without_agents(line: dict) -> dict:
        if line["tier"] == "deployer":
            del line["tokens_in"], line["tokens_out"], line["cost_usd"]
        return line

    edit = edited_lines("decisions.jsonl", without_agents)
    sample = replace(ONE, strategies=("MAL",), agents=("MAL",), edit=edit)
    page = write_report(write_sample(tmp_path, sample)).read_text("utf-8")
    assert "planner 1 ok; scheduler 10 ok." in page
    assert "deployer 3" not in page


def test_an_epoch_tells_what_was_seen_said_and_done(page):
    story = page[page.index('aria-label="Decisions of MA, seed 0"') :]
    second = story[story.index("<b>Epoch 2</b>") : story.index("<b>Epoch 3</b>")]
    assert "Epoch begins." in second
    assert "where this is epoch 1, counted from 0" in second
    assert "followed to their end. The next prompt knows only what was decided" in second
    assert "75 %" in second
    assert "LM1: 2.5 requests a slot of 4 prompts" in second
    assert "Called try_policy" in second
    assert "&#34;objective&#34;: 0.5" in second
    assert "the reply holds no JSON object" in second
    third = story[story.index("<b>Epoch 3</b>") : story.index("<b>Epoch 4</b>")]
    assert "No reply could be used" in third
    assert "planner 1 fallback; scheduler 10 ok; deployer 30 ok" in third
    assert "the run only ended what it had begun" in story[story.index("<b>Epoch 4</b>") :]


def test_only_so_many_epochs_are_shown_as_fit(folder):
    data, render = analyse(read_campaign(folder)), make_renderer()
    whole = make_browsers(data, render)
    assert [len(one.epochs) for one in whole] == [4, 4]
    assert not any(one.shown for one in whole)
    room = 2 * max(len(epoch) for epoch in whole[0].epochs) + 200
    browser, _ = make_browsers(data, render, 2 * room)
    assert 1 < len(browser.epochs) < 4
    assert any("<b>Epoch 2</b>" in epoch for epoch in browser.epochs), "repaired ones come first"
    assert sum(len(epoch.encode()) for epoch in browser.epochs) <= room
    words = render("browser.html.j2", browser)
    assert "Of 4 decisions as many are shown as the page has room for" in words
    assert "epochs 2, 3" in words
    assert data.problems == []


def test_a_run_without_a_transcript_tells_what_is_left(tmp_path):
    edit = edited_lines("transcript.jsonl", lambda _: {"kind": "head", "format": 1})
    page = write_report(write_sample(tmp_path, replace(ONE, edit=edit))).read_text("utf-8")
    assert "It was not asked, or the run has no transcript." in page
    assert "75 %" in page


@pytest.mark.parametrize("name", ["transcript.jsonl", "decisions.jsonl"])
def test_damaged_files_of_agents_are_named_and_the_rest_is_there(tmp_path, name):
    call = b'{"kind":"call","slot":0,"tier":"planner"}\n'

    def damage(files: dict[str, bytes]) -> dict[str, bytes]:
        return {**files, **({name: call} if "transcript.jsonl" in files else {})}

    write_sample(tmp_path, replace(ONE, strategies=("RL", "MA"), edit=damage))
    run = next(tmp_path.glob("runs/*/transcript.jsonl")).parent
    page = write_report(tmp_path).read_text("utf-8")
    notice = page[page.index("Not in the figures") :]
    assert re.search(rf"runs/{run.name}\b.*{name}", notice)
    assert 'id="results"' in page


def test_one_seed_is_said_to_be_too_few(tmp_path, page):
    assert "One seed only" not in page
    sample = Sample(strategies=("RL", "SOLVER"), seeds=(0,), epochs=1)
    assert "One seed only" in write_report(write_sample(tmp_path, sample)).read_text("utf-8")


@pytest.mark.parametrize(
    ("reasoner", "words"),
    [
        ("reference", OPTIMISER),
        ({"label": "gpt-x at example.org", "is_language_model": True}, "gpt-x at example.org"),
        ({"kind": "url"}, "reasoned by unnamed"),
    ],
)
def test_any_form_of_naming_the_reasoner_will_do(tmp_path, reasoner, words):
    def named(files: dict[str, bytes]) -> dict[str, bytes]:
        summary = {**json.loads(files["summary.json"]), "reasoner": reasoner}
        return {**files, "summary.json": json.dumps(summary).encode()}

    page = write_report(write_sample(tmp_path, replace(ONE, edit=named))).read_text("utf-8")
    assert words in page
