import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.airflow.files import OTHER, content_type, report_file
from tests.unit.airflow.campaign_folders import write_campaign


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    home = write_campaign(folder, "one", {"RF": [0.1]})
    report = home / "report"
    (report / ".index.html.1.tmp").touch()
    (folder / "secret").write_text("secret")
    (report / "link.html").symlink_to(folder / "secret")
    (report / "folder").symlink_to(folder)
    (report / "circle").symlink_to("circle")
    (folder / "other").symlink_to(home)
    os.mkfifo(report / "pipe")
    linked = write_campaign(folder, "linked", {"RF": [0.1]}, report=None)
    (linked / "report").symlink_to(home / "report")
    return folder


def test_files_of_a_report_are_found(root):
    report = root.resolve() / "one" / "report"
    for path in ("index.html", "figures/latency.svg"):
        assert report_file(root, "one", path) == report / path


def test_results_may_be_a_link(root, tmp_path):
    (tmp_path / "results").symlink_to(root)
    assert report_file(tmp_path / "results", "one", "index.html") is not None


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "../campaign.json", "figures/../../campaign.json", "/etc/passwd",
     "figures//latency.svg", "figures/./latency.svg", "figures", "figures/", "missing.html",
     "..\\campaign.json", "index.html\0", ".index.html.1.tmp", "link.html", "folder/secret",
     "circle", "circle/a", "pipe", "x" * 300, "a/" * 5000 + "a", "index.html/a"],
)  # fmt: skip
def test_nothing_else_is(root, path):
    assert report_file(root, "one", path) is None


@pytest.mark.parametrize("name", ["", ".", "..", "other", "linked", "missing", "one/..", "\0"])
def test_no_campaign_leads_elsewhere(root, name):
    assert report_file(root, name, "index.html") is None


@given(st.lists(st.sampled_from(["..", ".", "/", "\\", "one", "report", "secret", "%2e"])))
def test_no_path_reaches_beyond_the_report(root, parts):
    found = report_file(root, "one", "/".join(parts))
    assert found is None or found.is_relative_to(root.resolve() / "one" / "report")


def test_types(root):
    report = root / "one" / "report"
    assert content_type(report / "index.html") == "text/html; charset=utf-8"
    assert content_type(report / "a.SVG") == "image/svg+xml"
    assert content_type(report / "a.parquet") == OTHER
    assert content_type(report / "a") == OTHER
