import json

import pytest

from controller.airflow import campaigns
from controller.airflow.campaigns import (
    Standing,
    list_campaigns,
    read_campaign,
    read_campaigns,
)
from controller.airflow.settings import RESULTS, results_folder
from tests.unit.airflow.campaign_folders import write_campaign


def test_states_and_standings(tmp_path):
    values = {"RF": [0.4, 0.5, "failed"], "SOLVER": [0.2, "pending", "pending"], "MA": ["failed"]}
    write_campaign(tmp_path, "one", values)
    (found,) = list_campaigns(tmp_path)
    assert (found.folder, found.name, found.runs) == ("one", "paper", 7)
    assert (found.done, found.failed, found.pending) == (3, 2, 2)
    assert found.standings == (
        Standing("SOLVER", 1, 3, 0.2),
        Standing("RF", 2, 3, 0.45),
        Standing("MA", 0, 1, None),
    )
    assert found.has_report
    assert found.problem == ""


def test_the_last_changed_come_first_and_only_so_many(tmp_path, monkeypatch):
    for age, name in enumerate("dbac"):
        write_campaign(tmp_path, name, {"RF": [0.1]}, age=age)
    assert [one.folder for one in list_campaigns(tmp_path)] == ["d", "b", "a", "c"]
    monkeypatch.setattr(campaigns, "MOST", 2)
    assert [one.folder for one in list_campaigns(tmp_path)] == ["d", "b"]


def test_a_run_that_has_finished_counts_before_campaign_json_says_so(tmp_path):
    home = write_campaign(tmp_path, "one", {"RF": ["pending", "failed"]}, report=None)
    assert read_campaign(tmp_path, "one").done == 0
    for run_id, objective in (("000000000000", 0.25), ("000000000001", 0.75)):
        (home / "runs" / run_id).mkdir(parents=True)
        text = json.dumps({"objective": objective})
        (home / "runs" / run_id / "summary.json").write_text(text)
    found = read_campaign(tmp_path, "one")
    assert (found.done, found.failed, found.pending) == (2, 0, 0)
    assert found.standings == (Standing("RF", 2, 2, 0.5),)
    assert not found.has_report


def test_a_changed_file_is_read_again(tmp_path):
    home = write_campaign(tmp_path, "one", {"RF": [0.1]})
    assert read_campaign(tmp_path, "one").standings[0].objective == 0.1
    (home / "runs" / "000000000000" / "summary.json").write_text('{"objective": 0.3}')
    assert read_campaign(tmp_path, "one").standings[0].objective == 0.3
    write_campaign(tmp_path / "new", "one", {"RF": [0.1]}, name="other", age=2)
    (tmp_path / "new" / "one" / "campaign.json").replace(home / "campaign.json")
    assert read_campaign(tmp_path, "one").name == "other"


@pytest.mark.parametrize(
    "text", ["{}", "[1]", "null", '{"objective": null}', '{"objective": "x"}', "{", "[" * 10**5]
)
def test_a_summary_without_an_objective_has_none(tmp_path, text):
    home = write_campaign(tmp_path, "one", {"RF": [0.1]})
    (home / "runs" / "000000000000" / "summary.json").write_text(text)
    assert read_campaign(tmp_path, "one").standings == (Standing("RF", 1, 1, None),)


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "null", '{"name": "a", "runs": [{}]}'])
def test_a_damaged_campaign_is_shown_as_such(tmp_path, text):
    write_campaign(tmp_path, "good", {"RF": [0.1]})
    write_campaign(tmp_path, "bad", {"RF": [0.1]}, age=1)
    (tmp_path / "bad" / "campaign.json").write_text(text)
    found = {one.folder: one for one in list_campaigns(tmp_path)}
    assert found["good"].done == 1
    assert "campaign.json" in found["bad"].problem
    assert found["bad"].runs == 0


def test_what_is_no_campaign_is_left_out(tmp_path):
    write_campaign(tmp_path, "one", {"RF": [0.1]})
    write_campaign(tmp_path, ".hidden", {"RF": [0.1]})
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert [one.folder for one in list_campaigns(tmp_path)] == ["one"]
    assert list_campaigns(tmp_path / "nowhere") == []
    assert [one.folder for one in read_campaigns(tmp_path, ["one", "gone", "one"])] == ["one"]


@pytest.mark.parametrize("name", ["", ".", "..", "../one", "one/../one", ".hidden", "a\0b", "/one"])
def test_no_name_leads_elsewhere(tmp_path, name):
    write_campaign(tmp_path, "one", {"RF": [0.1]})
    assert read_campaign(tmp_path, name) is None


def test_a_campaign_that_may_not_be_read(tmp_path):
    home = write_campaign(tmp_path, "one", {"RF": [0.1]})
    (home / "campaign.json").unlink()
    (home / "campaign.json").symlink_to("campaign.json")  # a link to itself
    assert list_campaigns(tmp_path) == []


def test_the_folder_is_named_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv(RESULTS, raising=False)
    assert results_folder() is None
    monkeypatch.setenv(RESULTS, "")
    assert results_folder() is None
    monkeypatch.setenv(RESULTS, str(tmp_path))
    assert results_folder() == tmp_path
