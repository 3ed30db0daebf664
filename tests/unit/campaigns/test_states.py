import json
import multiprocessing
from pathlib import Path

import pytest

from controller.campaigns.experiment import Experiment
from controller.campaigns.states import joined
from controller.domain.errors import InputError
from controller.results import folder
from controller.results.manifest import read_manifest
from tests.samples.small import small_grid
from tests.unit.results.test_folder import FILES


def finish(root: Path, experiment: Experiment) -> None:
    """Publish a run with the right id and nothing in it."""
    files = {**FILES, "experiment.json": experiment.canonical_json().encode()}
    folder.publish(root, experiment.run_id, files)


def states(root: Path) -> list[str]:
    return [run.state for run in read_manifest(root).runs]


def test_the_manifest_is_the_grid_with_states(tmp_path: Path) -> None:
    grid = small_grid()
    with joined(tmp_path, grid) as manifest:
        assert states(tmp_path) == ["pending"] * 4
        finish(tmp_path, grid.cells[1].experiment)
        manifest.failed(grid.cells[2].run_id, "it broke")
        manifest.save()
    content = json.loads((tmp_path / "campaign.json").read_text())
    assert states(tmp_path) == ["pending", "done", "failed", "pending"]
    assert content["runs"][2]["error"] == "it broke"
    assert content["name"] == "small"
    first = content["runs"][0]
    assert first["id"] == grid.cells[0].run_id
    assert list(first.items())[2:] == [
        ("strategy", "RF"), ("seed", 0), ("testbed", "paper"), ("profile", "a5000"),
        ("workload", "paper"), ("load", 1.0), ("faults", "none"), ("rules", None),
        ("plans_on", None), ("epochs", 1), ("reasoner", None), ("target", "twin"),
    ]  # fmt: skip


def test_done_is_what_is_on_disk_not_what_was_written(tmp_path: Path) -> None:
    grid = small_grid()
    run_id = grid.cells[0].run_id
    with joined(tmp_path, grid) as manifest:
        finish(tmp_path, grid.cells[0].experiment)
        manifest.save()
    (folder.run_folder(tmp_path, run_id) / "slots.parquet").write_bytes(b"PAR1 cut sh")
    with joined(tmp_path, grid) as again:
        assert states(tmp_path)[0] == "pending"
        assert again.damaged[run_id].startswith("slots.parquet does not match its digest")


def test_what_a_kill_left_beside_a_finished_run_goes_with_the_next(tmp_path: Path) -> None:
    grid = small_grid()
    with joined(tmp_path, grid):
        finish(tmp_path, grid.cells[0].experiment)
    lock = tmp_path / "runs" / f".{grid.cells[0].run_id}.lock"
    lock.touch()
    with joined(tmp_path, grid):
        assert not lock.exists()


def test_what_a_kill_left_of_a_manifest_goes_with_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".campaign.json.12345.tmp"
    left.write_text("{ cut sh")
    with joined(tmp_path, small_grid()):
        assert states(tmp_path) == ["pending"] * 4
    assert not left.exists()


def test_the_failures_of_another_process_are_kept(tmp_path: Path) -> None:
    grid = small_grid()
    with joined(tmp_path, grid) as first, joined(tmp_path, grid) as second:
        first.failed(grid.cells[0].run_id, "first's")
        first.save()
        second.failed(grid.cells[1].run_id, "second's")
        second.save()
        assert states(tmp_path) == ["failed", "failed", "pending", "pending"]
        second.succeeded(grid.cells[1].run_id)
        second.save()
    assert states(tmp_path) == ["failed", "done", "pending", "pending"]


def test_another_grid_must_wait_for_this_one(tmp_path: Path) -> None:
    with (
        joined(tmp_path, small_grid()),
        pytest.raises(InputError, match="another grid"),
        joined(tmp_path, small_grid(seeds=3)),
    ):
        pass
    with joined(tmp_path, small_grid(seeds=3)):
        assert states(tmp_path) == ["pending"] * 6


@pytest.mark.parametrize("field", ["format", "model"])
def test_a_folder_of_another_version_is_refused_and_left_alone(tmp_path: Path, field: str) -> None:
    with joined(tmp_path, small_grid()):
        pass
    path = tmp_path / "campaign.json"
    old = {**json.loads(path.read_text()), field: 1}
    path.write_text(json.dumps(old))
    with (
        pytest.raises(InputError, match=rf"{field}: was written by another version.*got \d.*--out"),
        joined(tmp_path, small_grid()),
    ):
        pass
    assert json.loads(path.read_text()) == old


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with (
        pytest.raises(InputError, match=r"neither empty nor a campaign.*thesis\.tex"),
        joined(tmp_path, small_grid()),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(InputError, match="is a file"), joined(tmp_path / "out", small_grid()):
        pass


def test_the_campaign_keeps_its_own_copy_of_a_trace(tmp_path: Path) -> None:
    grid = small_grid(workloads=("azure-servegen",))
    with joined(tmp_path, grid):
        pass
    ((sha256, source),) = grid.traces.items()
    assert (tmp_path / "traces" / f"{sha256}.csv").read_bytes() == source.read_bytes()


def _join(root: Path, start: "multiprocessing.synchronize.Barrier") -> None:
    start.wait()
    with joined(root, small_grid()):
        start.wait()


def test_processes_that_begin_a_folder_at_once_share_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for step in range(3):
        root = tmp_path / f"{step}"
        start = context.Barrier(3)
        processes = [context.Process(target=_join, args=(root, start)) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0, 0]
