"""Labels that look like code, a user's matplotlibrc, and disks that fail."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from controller.report.export import save_frame
from controller.report.table import make_frame

LABELS = ("[/x]", "$\\frac{$", '=HYPERLINK("http://x","y")', "<script>alert(1)</script>")
CAMPAIGN = {
    "name": "labels",
    "summary": "A few slots.",
    "strategies": [
        {"name": name, "label": label}
        for name, label in zip(("RF", "RR", "AL", "LL"), LABELS, strict=True)
    ],
    "seeds": 1, "epochs": 1, "epoch_slots": 4, "loads": [0.3],
}  # fmt: skip
# A limit on the size of files fails as a full disk does: in the middle of a write.
LIMITED = (
    "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
    "sys.argv = ['edgelm', 'report', sys.argv[1]]; from controller.cli import main; main()"
)


def edgelm(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "controller.cli", *arguments]
    return subprocess.run(command, cwd=cwd, text=True, capture_output=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a campaign ``out`` and its report, made where nothing of the user's is."""
    root = tmp_path_factory.mktemp("hostile")
    (root / "labels.yaml").write_text(yaml.safe_dump(CAMPAIGN))
    made = edgelm("run", "labels.yaml", "--jobs", "1", "--out", "out", cwd=root)
    assert made.returncode == 0, made.stderr
    assert all(label in made.stdout for label in LABELS)
    return root


def files(report: Path) -> dict[str, bytes]:
    return {str(p.relative_to(report)): p.read_bytes() for p in report.rglob("*") if p.is_file()}


def test_labels_are_text_everywhere(folder: Path) -> None:
    for table in (folder / "out/report/tables").glob("*.csv"):
        with table.open(newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [cell for cell in cells if cell.startswith("=")], table.name
    assert "<script>alert" not in (folder / "out/report/index.html").read_text()


def test_a_matplotlibrc_changes_nothing(folder: Path) -> None:
    before = files(folder / "out/report")
    (folder / "matplotlibrc").write_text(
        "text.usetex: True\nlines.linewidth: 9\nsvg.fonttype: path\n"
    )
    try:
        made = edgelm("report", "out", cwd=folder)
    finally:
        (folder / "matplotlibrc").unlink()
    assert made.returncode == 0, made.stderr
    assert files(folder / "out/report") == before


def test_a_broken_matplotlibrc_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe")
    drawing = "from controller.report.export import alone\nwith alone(): pass"
    subprocess.run([sys.executable, "-c", drawing], cwd=tmp_path, check=True)


def test_a_full_disk_leaves_the_old_report_whole(folder: Path) -> None:
    before = files(folder / "out/report")
    made = subprocess.run(
        [sys.executable, "-c", LIMITED, "out"],
        cwd=folder, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert made.returncode == 1
    assert len(made.stderr.splitlines()) == 1
    assert "cannot be written: File too large; the runs are kept" in made.stderr
    assert files(folder / "out/report") == before


def test_a_file_in_the_way_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to(folder / "out" / "runs")
    (tmp_path / "campaign.json").write_bytes((folder / "out/campaign.json").read_bytes())
    (tmp_path / "report").touch()
    made = edgelm("report", str(tmp_path), cwd=folder)
    assert made.returncode == 1
    assert "report: cannot be written: File exists" in made.stderr
    assert "remove the file that is in the way" in made.stderr


def test_formulas_of_a_table_are_text(tmp_path: Path) -> None:
    words = ["=1+1", "+1", "-x", "@x", "\tx", "plain", "-"]
    save_frame(make_frame(("strategy", "value"), [(w, -1.5) for w in words]), tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert [row[0][0] for row in rows] == ["'", "'", "'", "'", "'", "p", "'"]
    assert {row[1] for row in rows} == {"-1.5"}  # numbers stay numbers
