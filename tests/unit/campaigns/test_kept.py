from pathlib import Path

import pytest

from controller.campaigns.grid import Grid
from controller.campaigns.kept import picked, read_grid
from controller.campaigns.states import joined
from controller.domain.errors import InputError
from controller.results.folder import experiment_path, run_id_of
from tests.samples.small import small_grid
from tests.unit.campaigns.test_states import finish


def kept(root: Path, **changes: object) -> Grid:
    grid = small_grid(**changes)
    with joined(root, grid):
        return grid


def test_a_folder_gives_back_the_grid_that_was_kept_in_it(tmp_path: Path) -> None:
    grid = kept(tmp_path, loads=(0.5, 1.0), seeds=(3, 5))
    before = (tmp_path / "campaign.json").read_bytes()
    again = read_grid(tmp_path)
    assert again == grid
    assert [cell.axes() for cell in again.cells] == [cell.axes() for cell in grid.cells]
    with joined(tmp_path, again):
        assert (tmp_path / "campaign.json").read_bytes() == before


def test_labels_parts_faults_and_reasoners_come_back(tmp_path: Path) -> None:
    strategies = (
        {"name": "LL", "label": "LL-churn", "parameters": {"lambda_churn": 0.2}},
        "MA",
    )
    faults = ({"name": "none"}, {"name": "random", "random": {"per_node_hour": 0.5, "repair_s": 9}})
    parts = ({"seeds": 1}, {"seeds": (7,), "faults": faults})
    reasoners = ("reference", "faulty:all=0.2")
    grid = kept(tmp_path, strategies=strategies, parts=parts, reasoners=reasoners)
    assert read_grid(tmp_path) == grid


def test_the_requests_of_a_trace_are_the_folders_own(tmp_path: Path) -> None:
    grid = kept(tmp_path, workloads=("azure-servegen",))
    ((sha256, path),) = read_grid(tmp_path).traces.items()
    assert grid.traces.keys() == {sha256}
    assert path == tmp_path / "traces" / f"{sha256}.csv"
    path.unlink()
    with pytest.raises(InputError, match=rf"{sha256}\.csv: is missing"):
        read_grid(tmp_path)


def test_a_file_of_each_experiment_is_there_before_any_run(tmp_path: Path) -> None:
    grid = kept(tmp_path)
    for cell in grid.cells:
        content = experiment_path(tmp_path, cell.run_id).read_bytes()
        assert run_id_of(content) == cell.run_id
    assert len(list((tmp_path / "experiments").iterdir())) == len(grid.cells)


def test_an_experiment_that_was_lost_is_read_from_its_finished_run(tmp_path: Path) -> None:
    grid = kept(tmp_path)
    first, second = (cell.experiment for cell in grid.cells[:2])
    finish(tmp_path, first)
    experiment_path(tmp_path, first.run_id).unlink()
    assert read_grid(tmp_path) == grid
    experiment_path(tmp_path, second.run_id).write_text("{}")
    with pytest.raises(InputError, match=rf"{second.run_id}\.json: is missing or was changed; run"):
        read_grid(tmp_path)
    kept(tmp_path)
    assert read_grid(tmp_path) == grid


def test_what_is_no_campaign_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no campaign folder"):
        read_grid(tmp_path)


def test_some_runs_of_a_grid_are_picked_in_its_order() -> None:
    grid = small_grid()
    first, second, third, _ = grid.cells
    assert picked(grid, None, "small") is grid
    chosen = picked(grid, [third.run_id, first.run_id], "small")
    assert chosen.cells == (first, third)
    assert chosen.campaign == grid.campaign
    with pytest.raises(InputError, match=r"small: --only: has no such run \(got 'ffff'\).*pending"):
        picked(grid, [second.run_id, "ffff"], "small")
    with pytest.raises(InputError, match="--only"):
        picked(grid, [], "small")
