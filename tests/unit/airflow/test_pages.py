"""Pages: what they say, that they escape it, and that they ask for nothing from elsewhere."""

import re
from datetime import UTC, datetime

import pytest

from controller.airflow.campaigns import list_campaigns, read_campaign
from controller.airflow.pages import (
    colours_of,
    dag_page,
    message_page,
    overview_page,
    run_page,
)
from controller.airflow.testbed import Holding
from controller.report.style import KNOWN
from tests.unit.airflow.campaign_folders import write_campaign

EVIL = '"><script>alert(1)</script>'
HELD = Holding("http://vm1:8700", EVIL, datetime(2026, 11, 30, 12, 40, tzinfo=UTC), 7)


@pytest.fixture
def root(tmp_path):
    write_campaign(tmp_path, "two", {"RF": [0.4], "SOLVER": [0.2, "failed"]}, age=0)
    write_campaign(tmp_path, "one", {"RF": [0.5], "SOLVER": [0.3, "pending"]}, age=24, report=None)
    write_campaign(tmp_path, "odd", {EVIL: [0.5]}, name=EVIL, age=25)
    (write_campaign(tmp_path, "bad", {}, age=26) / "campaign.json").write_text(EVIL)
    return tmp_path


def words(page: str) -> str:
    body = page[page.index("<body") :]
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def all_pages(root):
    found = list_campaigns(root)
    yield overview_page("/edgelm", str(root), found, HELD)
    yield overview_page("/edgelm", "", [], None)
    yield dag_page(EVIL, "/edgelm", str(root), found)
    yield run_page(EVIL, "/edgelm", str(root), EVIL, None)
    yield run_page(EVIL, "/edgelm", "", EVIL, None)
    for one in found:
        yield run_page(EVIL, "/edgelm", str(root), one.folder, one)
    yield message_page(EVIL, EVIL, "/edgelm/", EVIL)


def test_no_page_runs_or_fetches_anything(root):
    for page in all_pages(root):
        assert "<script" not in page
        assert "alert(1)" not in page or "&lt;script&gt;alert(1)" in page
        assert not re.search(r"""(?:src|srcset|data|action)=|@import|url\(|<link|<iframe""", page)
        addresses = re.findall(r'href="([^"]*)"', page)
        assert [one for one in addresses if not one.startswith("/edgelm/")] == []
        assert "color-scheme: light dark" in page
        assert page.count("<h1>") == 1


def test_the_overview_has_states_objectives_and_reports(root):
    page = overview_page("/a/edgelm", str(root), list_campaigns(root), None)
    said = words(page)
    assert "2 of 3 done, 1 failed" in said
    assert "SOLVER 0.2000 1/2 RF 0.4000" in said
    assert 'href="/a/edgelm/campaigns/two/report/index.html"' in page
    assert "/campaigns/one/report" not in page
    assert "none yet" in said
    assert "unreadable" in said


def test_objective_over_time_is_drawn_and_listed(root):
    page = overview_page("/edgelm", str(root), list_campaigns(root), None)
    assert page.count("<svg") == 1
    assert "paper: objective over time" in words(page)
    assert "<title>SOLVER, one: 0.3000</title>" in page
    assert "two 2026-11-30 00:53 0.2000 0.4000 one 2026-11-29 00:53 0.3000 0.5000" in words(page)


@pytest.mark.parametrize(
    ("holding", "sentence"),
    [
        (HELD, "until 2026-11-30 12:40:00 UTC fence 7, http://vm1:8700"),
        (Holding("http://vm1:8700"), "The testbed is free http://vm1:8700"),
        (Holding("http://vm1:8700", problem="it answers 500"),
         "Who has the testbed is unknown (http://vm1:8700) : it answers 500"),
        (Holding(problem="no host"), "Who has the testbed is unknown: no host"),
    ],
)  # fmt: skip
def test_the_testbed(root, holding, sentence):
    assert sentence in words(overview_page("/edgelm", str(root), [], holding))


def test_without_a_connection_nothing_is_said_of_it(root):
    assert "testbed" not in words(overview_page("/edgelm", str(root), [], None))


def test_empty_and_unset_folders_say_what_to_do(tmp_path):
    assert "Trigger the DAG run_campaign" in words(overview_page("/e", str(tmp_path), [], None))
    assert "Set EDGELM_RESULTS to the folder" in words(overview_page("/e", "", [], None))


def test_a_run_without_a_report_says_how_far_it_is(root):
    page = run_page("manual", "/edgelm", str(root), "one", read_campaign(root, "one"))
    assert 'http-equiv="refresh"' in page
    assert "2 of 3 done" in words(page)
    page = run_page("manual", "/edgelm", str(root), "none", None)
    assert f"there is no {root}/none" in words(page)


def test_strategies_have_the_colours_of_reports(root):
    colours = colours_of(list_campaigns(root))
    assert colours["RF"] == f"light-dark({KNOWN['RF'].colour}, {KNOWN['RF'].dark})"
    assert set(colours) == {"RF", "SOLVER", EVIL}
