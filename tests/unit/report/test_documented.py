"""What is on disk is in the documentation: docs/report.md and docs/records.md."""

import json
import re
from pathlib import Path

import pytest

from controller.report import write_report
from tests.samples.sample_campaign import Sample, write_sample

DOCS = Path(__file__).parents[3] / "docs"
SAMPLE = Sample(strategies=("SOLVER", "MAL", "MA"), seeds=(0, 1), epochs=3, loads=(1.0, 1.5),
                agents=("MAL", "MA"), modes={"MAL": "advise"})  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_sample(tmp_path_factory.mktemp("documented"), SAMPLE)
    write_report(folder)
    return folder


def quoted(name: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", (DOCS / name).read_text("utf-8")))


def test_every_table_of_the_report_is_named(folder):
    names = {path.stem for path in (folder / "report" / "tables").iterdir()}
    assert {"agents", "advice", "guard", "alignment"} <= names
    assert names <= quoted("report.md")


@pytest.mark.parametrize("name", ["transcript.jsonl", "decisions.jsonl"])
def test_every_field_of_what_agents_leave_is_named(folder, name):
    lines = next(folder.glob("runs/*/transcript.jsonl")).with_name(name).read_text().splitlines()
    fields = {field for line in map(json.loads, lines) for field in line}
    replies = {field for line in map(json.loads, lines) for field in line.get("reply", ())}
    assert fields | replies <= quoted("records.md") | {"kind"}
