import json
from pathlib import Path

import pytest

from controller.bootstrap.twin import twin_engine
from controller.campaigns.progress import Silence
from controller.campaigns.runner import run_grid
from controller.report.standings import COLUMNS, print_table, standings
from tests.samples.small import small_grid


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("campaign")
    run_grid(small_grid(loads=(0.5, 1.0), seeds=3), root, twin_engine(), 2, Silence())
    return root


def test_standings_are_means_over_seeds_by_setting(folder: Path) -> None:
    found = standings(folder)
    assert [(s.setting["load"], s.strategy) for s in found] != []
    assert len(found) == 4
    assert {s.setting["load"] for s in found} == {0.5, 1.0}
    entries = json.loads((folder / "campaign.json").read_text())["runs"]
    for standing in found:
        mine = [
            json.loads((folder / "runs" / entry["id"] / "summary.json").read_text())
            for entry in entries
            if (entry["strategy"], entry["load"]) == (standing.strategy, standing.setting["load"])
        ]
        mean = sum(summary["objective"] for summary in mine) / 3
        assert standing.figures["objective"].mean == pytest.approx(mean)
    for load in (0.5, 1.0):
        means = [s.figures["objective"].mean for s in found if s.setting["load"] == load]
        assert means == sorted(means)


def test_the_table_shows_every_figure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(standings(folder))
    text = capsys.readouterr().out
    assert "…" not in text
    assert all(title in text for title, _ in COLUMNS.values())
    assert text.count("±") == 4 * len(COLUMNS) + 1


def test_the_document_is_json_without_nan(folder: Path) -> None:
    text = json.dumps([s.document() for s in standings(folder)], allow_nan=False)
    assert json.loads(text)[0]["objective"]["seeds"] == 3
