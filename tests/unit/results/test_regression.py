"""Two campaigns beside each other, with figures made up so that the answer is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from controller.domain.errors import InputError
from controller.results.folder import publish
from controller.results.manifest import Manifest, RunEntry, write_manifest
from controller.results.regression import compare_campaigns
from tests.unit.results.test_folder import experiment_of

Figures = tuple[float, float | None]  # objective, success rate


def campaign(root: Path, figures: Mapping[tuple[str, float, int], Figures], **axes: Any) -> Path:
    """A campaign of finished runs: (strategy, load, seed) -> figures."""
    entries = []
    root.mkdir()
    for (strategy, load, seed), (objective, success_rate) in figures.items():
        run, files = experiment_of(f"{strategy} {load} {seed}")
        summary = {
            "objective": objective, "success_rate": success_rate, "bound": None, "f_norm": 1.0,
            "t_mean_s": None, "pod_starts": 0, "gpu_utilisation": None, "per_lm": {},
            "per_epoch": [],
        }  # fmt: skip
        publish(root, run, {**files, "summary.json": json.dumps(summary).encode()})
        place = {"strategy": strategy, "seed": seed, "testbed": "paper", "load": load, **axes}
        entries.append(RunEntry.model_validate({"id": run, "state": "done", **place}))
    write_manifest(root, Manifest(model=3, name="made", runs=tuple(entries)))
    return root


def seeds(
    strategy: str, objectives: list[float], rates: list[float | None] | None = None
) -> dict[tuple[str, float, int], Figures]:
    rates = rates or [1.0] * len(objectives)
    pairs = zip(objectives, rates, strict=True)
    return {(strategy, 1.0, seed): found for seed, found in enumerate(pairs)}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return campaign(tmp_path / "old", seeds("RF", [0.10, 0.30, 0.50]))


def test_differences_are_taken_seed_by_seed(tmp_path: Path, old: Path) -> None:
    """Seeds differ by more than campaigns do: only pairs show it."""
    new = campaign(tmp_path / "new", seeds("RF", [0.12, 0.33, 0.52]))
    (found,) = compare_campaigns(new, old)
    change = found.changes["objective"]
    assert (found.strategy, found.seeds) == ("RF", (0, 1, 2))
    assert change.difference.mean == pytest.approx(0.07 / 3)
    assert (change.new, change.old) == (pytest.approx(0.97 / 3), pytest.approx(0.3))
    assert 0.0 < change.difference.low < change.difference.mean < change.difference.high
    assert change.regression
    assert found.regression
    document = found.document()
    assert document["setting"] == {"testbed": "paper", "load": 1.0, "target": "twin"}
    assert document["objective"]["regression"] is True
    assert document["success_rate"]["difference"] == 0.0
    json.dumps(document, allow_nan=False)


@pytest.mark.parametrize(
    ("objectives", "tolerance"),
    [
        ([0.10, 0.30, 0.50], 0.0),  # the same
        ([0.05, 0.20, 0.40], 0.0),  # better
        ([0.105, 0.305, 0.505], 0.01),  # certain, but within the tolerance
        ([0.10, 0.30, 0.70], 0.01),  # more than the tolerance, but by one seed alone
    ],
)
def test_what_is_no_regression(
    tmp_path: Path, old: Path, objectives: list[float], tolerance: float
) -> None:
    new = campaign(tmp_path / "new", seeds("RF", objectives))
    (found,) = compare_campaigns(new, old, tolerance)
    assert not found.regression


def test_the_tolerance_decides(tmp_path: Path, old: Path) -> None:
    new = campaign(tmp_path / "new", seeds("RF", [0.105, 0.305, 0.505]))
    (found,) = compare_campaigns(new, old, 0.001)
    assert found.regression


def test_one_seed_shows_nothing(tmp_path: Path) -> None:
    old = campaign(tmp_path / "old", seeds("RF", [0.1]))
    (found,) = compare_campaigns(campaign(tmp_path / "new", seeds("RF", [0.9])), old)
    assert not found.regression
    assert found.document()["objective"]["low"] is None


def test_a_lower_success_rate_is_worse(tmp_path: Path, old: Path) -> None:
    rates = [0.90, 0.92, 0.91]
    new = campaign(tmp_path / "new", seeds("RF", [0.10, 0.30, 0.50], list(rates)))
    (worse,) = compare_campaigns(new, old)
    assert worse.changes["success_rate"].regression
    assert not worse.changes["objective"].regression
    assert worse.regression
    (better,) = compare_campaigns(old, new)
    assert not better.regression


def test_a_figure_that_is_none_is_left_out_with_its_pair(tmp_path: Path, old: Path) -> None:
    new = campaign(tmp_path / "new", seeds("RF", [0.10, 0.30, 0.50], [None, 0.5, 0.5]))
    (found,) = compare_campaigns(new, old)
    assert found.changes["success_rate"].difference.n == 2
    nothing = campaign(tmp_path / "nothing", seeds("RF", [0.10, 0.30, 0.50], [None] * 3))
    (found,) = compare_campaigns(nothing, old)
    assert found.document()["success_rate"]["difference"] is None
    assert not found.regression


def test_only_what_both_have_is_compared(tmp_path: Path) -> None:
    old = {**seeds("RF", [0.1, 0.2, 0.3]), **seeds("LL", [0.1]), ("RF", 0.5, 0): (0.1, 1.0)}
    new = {**seeds("RF", [0.1, 0.2]), **seeds("RL", [0.1]), ("RF", 0.5, 0): (0.4, 1.0)}
    found = compare_campaigns(campaign(tmp_path / "new", new), campaign(tmp_path / "old", old))
    places = [(one.strategy, one.setting["load"], one.seeds) for one in found]
    assert places == [("RF", 1.0, (0, 1)), ("RF", 0.5, (0,))]


def test_an_older_campaign_without_targets_is_compared(tmp_path: Path, old: Path) -> None:
    new = campaign(tmp_path / "new", seeds("RF", [0.1, 0.3, 0.5]), target="twin")
    assert len(compare_campaigns(new, old)) == 1


def test_nothing_in_common_is_one_clear_error(tmp_path: Path, old: Path) -> None:
    new = campaign(tmp_path / "new", seeds("LL", [0.1]))
    with pytest.raises(InputError, match=r"LL with seeds 0 here, RF with seeds 0, 1, 2 there"):
        compare_campaigns(new, old)
    empty = campaign(tmp_path / "empty", {})
    with pytest.raises(InputError, match="none here"):
        compare_campaigns(empty, old)
    with pytest.raises(InputError, match="is no campaign folder"):
        compare_campaigns(tmp_path, old)
