"""Damage to a finished run: every reader gets one clear error, never other figures."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from controller.domain.errors import InputError
from controller.results.campaign import Campaign, read_campaign, read_run
from controller.results.comparison import compare
from controller.results.digests import SUMS
from controller.results.folder import publish, run_folder
from controller.results.manifest import Manifest, RunEntry, read_manifest, write_manifest
from controller.results.run import Run, run_in_memory
from controller.results.writing import run_files
from tests.samples.sealing import seal
from tests.samples.small import small_experiment, small_outcome

REMEDY = r"run the campaign again with `edgelm run`"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign of two finished runs."""
    root = tmp_path_factory.mktemp("campaign")
    entries = []
    for seed in (1, 2):
        experiment = small_experiment(epochs=2, seed=seed)
        publish(root, experiment.run_id, run_files(experiment.canonical_json(), small_outcome()))
        axes = {"strategy": "RF", "seed": seed, "testbed": "paper", "load": 1.0}
        entries.append(RunEntry.model_validate({"id": experiment.run_id, "state": "done", **axes}))
    write_manifest(root, Manifest(model=3, name="made", runs=tuple(entries)))
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(original, tmp_path / "campaign"))


def folders(root: Path) -> list[Path]:
    return [run_folder(root, run.id) for run in read_manifest(root).runs]


def as_format_1(root: Path) -> None:
    """Take away what older versions did not write."""
    path = root / "campaign.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 1, "model": 2}))
    for run in folders(root):
        (run / SUMS).unlink()


def cut(path: Path) -> None:
    """Leave out the last line."""
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def doubled(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, lines[-1]]))


def dropped(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def removed(path: Path) -> None:
    path.unlink()


def replaced_by(content: bytes) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.write_bytes(content)

    return replace


DAMAGE = {
    "lines dropped": ("decisions.jsonl", dropped),
    "lines doubled": ("decisions.jsonl", doubled),
    "cut at a line's end": ("decisions.jsonl", cut),
    "a byte of decisions": ("decisions.jsonl", flipped),
    "a byte of requests": ("requests.parquet", flipped),
    "a byte of slots": ("slots.parquet", flipped),
    "a byte of the experiment": ("experiment.json", flipped),
    "a byte of the summary": ("summary.json", flipped),
    "experiment []": ("experiment.json", replaced_by(b"[]")),
    "experiment null": ("experiment.json", replaced_by(b"null")),
    "experiment 1": ("experiment.json", replaced_by(b"1")),
    "no slots": ("slots.parquet", removed),
}


def read_of(run: Run, name: str) -> object:
    stem = name.split(".")[0]
    return getattr(run, stem)


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_the_runs_problem_and_an_error_of_whoever_reads(root: Path, case: str) -> None:
    name, damage = DAMAGE[case]
    before = read_campaign(root).runs[0]
    damage(folders(root)[0] / name)
    damaged, whole = read_campaign(root).runs
    assert damaged.figures is None
    assert damaged.state == "pending"
    assert damaged.problem.startswith(f"damaged: {name} ")
    assert whole.problem == ""
    for run in (before, damaged) if damage is not removed else (before,):
        with pytest.raises(InputError, match=rf"{name}: .*{REMEDY}"):
            read_of(run, name)
    with pytest.raises(InputError, match=rf"is no finished run: {name} "):
        read_run(folders(root)[0])


def test_another_runs_requests_are_noticed(root: Path) -> None:
    one, other = folders(root)
    frame = pl.read_parquet(other / "requests.parquet").head(10)
    frame.write_parquet(one / "requests.parquet")
    (damaged, _) = read_campaign(root).runs
    assert "requests.parquet does not match its digest" in damaged.problem


def test_another_runs_folder_is_noticed(root: Path) -> None:
    one, other = folders(root)
    shutil.rmtree(one)
    shutil.copytree(other, one)
    (damaged, whole) = read_campaign(root).runs
    assert f"experiment.json is that of run {other.name}" in damaged.problem
    assert whole.figures


def test_a_link_to_another_runs_folder_is_noticed(root: Path) -> None:
    first, second = folders(root)
    shutil.rmtree(first)
    first.symlink_to(second)
    run = read_campaign(root).runs[0]
    assert run.state == "pending"
    assert "is that of run" in run.problem
    assert read_run(first).id == second.name  # by itself it is the run that the link leads to


def test_a_damaged_run_is_not_in_the_table(root: Path) -> None:
    flipped(folders(root)[0] / "slots.parquet")
    campaign = read_campaign(root)
    assert len(campaign.table) == 1
    assert not campaign.complete


def test_lost_digests_do_not_turn_a_run_into_an_unchecked_one(root: Path) -> None:
    (folders(root)[0] / SUMS).unlink()
    (damaged, _) = read_campaign(root).runs
    assert "SHA256SUMS is missing" in damaged.problem
    with pytest.raises(InputError, match=r"requests\.parquet: is not in SHA256SUMS"):
        _ = damaged.requests


def test_a_campaign_of_an_older_format_and_model_is_read_with_a_note(root: Path) -> None:
    as_format_1(root)
    campaign = read_campaign(root)
    assert [bool(run.figures) for run in campaign.runs] == [True, True]
    assert not campaign.runs[0].checked
    assert campaign.notes == (
        "2 runs have no SHA256SUMS, as older versions of edgelm wrote them: their files are read "
        "unchecked",
    )
    assert len(campaign.runs[0].requests) > 0


@pytest.mark.parametrize("kind", ["requests", "slots", "decisions", "experiment"])
def test_nonsense_in_an_unchecked_run_is_a_clear_error(root: Path, kind: str) -> None:
    as_format_1(root)
    (run, _) = read_campaign(root).runs
    (path,) = folders(root)[0].glob(f"{kind}.*")
    path.write_bytes({"decisions": b'{"slot":0}\n[]\n'}.get(kind, b"PAR1 nonsense PAR1"))
    with pytest.raises(InputError, match=rf"{path.name}: .*{REMEDY}"):
        getattr(run, kind)


def test_no_flipped_byte_of_an_unchecked_table_ends_the_program(root: Path) -> None:
    """Polars may panic, which is no Exception."""
    as_format_1(root)
    path = folders(root)[0] / "slots.parquet"
    content = path.read_bytes()
    for place in range(4, len(content), max(1, len(content) // 150)):
        spoilt = bytearray(content)
        spoilt[place] ^= 0xFF
        path.write_bytes(spoilt)
        with contextlib.suppress(InputError):
            _ = read_campaign(root).runs[0].slots


def test_a_changed_run_sealed_again_differs_when_compared(root: Path) -> None:
    run = folders(root)[0]
    doubled(run / "decisions.jsonl")
    seal(run)
    files = run_files((run / "experiment.json").read_text(), small_outcome())
    found = compare(read_run(run), files)
    assert [name for name, same in found.items() if not same] == ["decisions.jsonl"]


def test_a_run_read_by_itself_is_that_of_the_campaign(root: Path) -> None:
    alone, listed = read_run(folders(root)[0]), read_campaign(root).runs[0]
    assert (alone.id, alone.strategy, alone.seed) == (listed.id, listed.strategy, listed.seed)
    assert alone.figures == listed.figures
    assert alone.checked


def test_a_run_in_memory_needs_no_digests() -> None:
    experiment = small_experiment(epochs=2)
    run = run_in_memory("RF", run_files(experiment.canonical_json(), small_outcome()))
    assert run.checked
    assert run.experiment["target"] == run.summary["target"] == "twin"
    with pytest.raises(InputError, match=r"transcript\.jsonl: is missing"):
        _ = run.transcript


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "Invalid JSON"),
        ("{", "Invalid JSON"),
        ("[]", "should be an object"),
        ('{"format": 2}', "Field required"),
        (
            '{"format": 2, "name": "x", "runs": [{"id": "../../x", "state": "done"}]}',
            r"runs\.0\.id",
        ),
        ('{"format": 99, "name": "x", "runs": []}', "another version.*formats 1 and 2.*got 99"),
    ],
)
def test_a_broken_manifest_is_named(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "campaign.json").write_text(content)
    with pytest.raises(InputError, match=rf"campaign\.json: .*{problem}"):
        read_campaign(tmp_path)


def test_what_is_no_campaign_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="is no campaign folder"):
            read_campaign(folder)


def test_a_figure_that_is_added_later_makes_no_folder_unreadable(root: Path) -> None:
    run = folders(root)[0]
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "later": 1.0}))
    seal(run)
    assert isinstance(read_campaign(root), Campaign)
    assert read_campaign(root).runs[0].figures
    del summary["target"], summary["t_p95_s"]
    (run / "summary.json").write_text(json.dumps(summary))
    seal(run)
    assert read_campaign(root).runs[0].figures
