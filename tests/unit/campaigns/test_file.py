from pathlib import Path
from typing import Any

import pytest
import yaml

from controller import strategies
from controller.campaigns.file import (
    StrategyEntry,
    load_campaign_file,
    override,
)
from controller.campaigns.grid import resolve
from controller.domain.errors import InputError
from controller.inputs.catalog import load_testbed, locate, names
from tests.samples.small import small_campaign, small_grid


def write(folder: Path, **content: Any) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "summary": "A test's.", **content}))
    return path


def test_the_papers_campaign_is_all_strategies_by_five_seeds() -> None:
    grid = resolve("paper")
    assert len(grid.cells) == len(strategies.names()) * 5
    assert {cell.experiment.epochs for cell in grid.cells} == {30}
    assert [cell.label for cell in grid.cells[::5]] == strategies.names()
    assert len({cell.run_id for cell in grid.cells}) == len(grid.cells)


@pytest.mark.parametrize("name", names("campaigns"))
def test_every_shipped_campaign_resolves(name: str) -> None:
    grid = resolve(name)
    assert grid.campaign.name == name
    assert grid.cells


def test_sensitivity_varies_each_group_of_numbers_both_ways_and_the_load() -> None:
    grid = resolve("sensitivity")
    profiles = {cell.experiment.profile.name for cell in grid.cells}
    loads = {cell.experiment.load for cell in grid.cells}
    assert len(profiles) == 1 + 2 * 6 + 4  # CPU x2 and x3, two parallel shares
    assert (min(loads), max(loads)) == (0.2, 1.5)
    rest = {"strategy", "seed", "reasoner"}
    settings = {
        tuple(value for axis, value in cell.axes().items() if axis not in rest)
        for cell in grid.cells
    }
    never_refuse = 2 * 3  # two strategies at three loads
    assert len(grid.cells) == (len(settings) * len(strategies.names()) + never_refuse) * 3


def test_the_grid_is_the_product_of_its_axes() -> None:
    grid = small_grid(loads=(0.5, 1.0), seeds=(3, 5))
    places = [(c.label, c.experiment.load, c.experiment.seed) for c in grid.cells]
    assert places == [
        (label, load, seed) for load in (0.5, 1.0) for label in ("RF", "LL") for seed in (3, 5)
    ]


def test_parts_are_a_union_without_repeats() -> None:
    grid = small_grid(parts=({"loads": (0.5, 1.0)}, {"loads": (1.0, 2.0), "seeds": 1}))
    places = [(c.experiment.load, c.experiment.seed) for c in grid.cells if c.label == "RF"]
    assert places == [(0.5, 0), (0.5, 1), (1.0, 0), (1.0, 1), (2.0, 0)]


def test_a_strategy_may_have_other_parameters_under_a_label() -> None:
    (name, value), *_ = strategies.resolved_parameters("LL", {}).items()
    entry = {"name": "LL", "label": "LL, bolder", "parameters": {name: value * 2}}
    grid = small_grid(strategies=("LL", entry), seeds=1)
    plain, bolder = grid.cells
    assert (plain.label, bolder.label) == ("LL", "LL, bolder")
    assert plain.experiment.parameters[name] == value
    assert bolder.experiment.parameters == {**plain.experiment.parameters, name: value * 2}


def test_what_would_look_the_same_in_figures_is_refused() -> None:
    (name, value), *_ = strategies.resolved_parameters("LL", {}).items()
    twin = {"name": "LL", "parameters": {name: value * 2}}
    with pytest.raises(InputError, match=r"same names.*label"):
        small_grid(strategies=("LL", twin))


def test_a_campaign_names_files_from_its_own_folder(tmp_path: Path) -> None:
    testbed = locate("testbeds", "campus").read_text()
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines" / "ours.yaml").write_text(testbed)
    path = write(tmp_path, strategies=["RF"], testbeds=["machines/ours.yaml"], profiles=["t4"])
    (cell, *_) = resolve(path).cells
    assert cell.experiment.testbed == load_testbed("campus")


def test_a_trace_is_known_by_its_content(tmp_path: Path) -> None:
    shipped = locate("workloads", "azure-servegen")
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        for source in (shipped, shipped.with_suffix(".csv")):
            (folder / source.name).write_bytes(source.read_bytes())
        write(folder, strategies=["RF"], seeds=1, workloads=["azure-servegen.yaml"])
    here, there = (resolve(tmp_path / name / "mine.yaml") for name in "ab")
    assert [c.run_id for c in here.cells] == [c.run_id for c in there.cells]
    assert str(tmp_path) not in here.cells[0].experiment.canonical_json()
    trace = tmp_path / "b" / "azure-servegen.csv"
    trace.write_text(trace.read_text() + "10498,LM3,,1,,,,\n")
    assert resolve(tmp_path / "b" / "mine.yaml").cells[0].run_id != here.cells[0].run_id


def test_overrides_replace_axes_in_the_parts_too() -> None:
    campaign = small_campaign(parts=({"loads": (0.5, 1.0)}, {"seeds": 3, "loads": (2.0,)}))
    changed = override(campaign, {"loads": (0.7,), "strategies": ("RL",), "epochs": 2})
    products = changed.products()
    assert [part.loads for part in products] == [(0.7,), (0.7,)]
    assert [part.seeds for part in products] == [(0, 1), (0, 1, 2)]
    assert [part.strategies for part in products] == [(StrategyEntry(name="RL"),)] * 2
    assert {part.epochs for part in products} == {2}
    assert override(campaign, {}) == campaign


BAD = {
    "unknown strategy": (
        {"strategies": ["RF", "XX"]},
        r"mine\.yaml: strategies\[1\]: .*XX.*; choose one of RR, RL",
    ),
    "misspelt strategy": ({"strategies": ["rf"]}, r"strategies\[0\].*'rf'.*did you mean RF\?"),
    "unknown parameter": (
        {"strategies": [{"name": "RF", "parameters": {"nope": 1}}]},
        r"mine\.yaml: strategies\[0\]: strategy RF: nope: is not a parameter",
    ),
    "bad parameter of a part": (
        {"parts": [{"strategies": [{"name": "LL", "parameters": {"v": -1}}]}]},
        r"mine\.yaml: parts\[0\]\.strategies\[0\]: strategy LL: v: must be .*got -1",
    ),
    "unknown testbed": ({"testbeds": ["papper"]}, r"papper.*campus, paper"),
    "unknown workload": ({"workloads": ["papper"]}, r"papper.*bursty"),
    "missing file": ({"profiles": ["./none.yaml"]}, r"none\.yaml: does not exist"),
    "negative load": ({"loads": [-1]}, r"loads\[0\].*above 0"),
    "load zero": ({"loads": [0]}, r"loads\[0\].*above 0"),
    "load nan": ({"loads": [float("nan")]}, r"loads\[0\]"),
    "no seeds": ({"seeds": 0}, r"seeds"),
    "negative number of seeds": (
        {"seeds": -1},
        r"seeds: is neither.*; how many, such as 3",
    ),
    "negative time": (
        {"faults": [{"name": "x", "outages": [{"node": "vm7", "down_s": -5}]}]},
        r"faults\[0\]\.outages\[0\]\.down_s: .*got -5\); a number from 0 to 1e12",
    ),
    "negative seed": ({"seeds": [-1]}, r"seeds"),
    "no epochs": ({"epochs": 0}, r"epochs"),
    "empty axis": ({"workloads": []}, r"workloads"),
    "unknown field": ({"lambda": 0.5}, r"lambda: is not a known field.*lam"),
    "bad lambda": ({"lam": 1.5}, r"lam"),
    "unfit profile": ({"profiles": ["t4"]}, r"profile t4 has no times"),
    "unknown node": (
        {"faults": [{"name": "x", "outages": [{"node": "vm1", "down_s": 1}]}]},
        r"mine\.yaml: faults 'x': outages\[0\]\.node: .*'vm1'\); its nodes are vm2, vm3",
    ),
    "faults of one name": ({"faults": [{"name": "x"}, {"name": "x"}]}, r"different names"),
    "unknown scale": (
        {"profiles": [{"name": "a5000", "scale": {"speed": 2}}]},
        r"speed.*cpu_service",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_campaign_is_refused_before_anything_runs(case: str, tmp_path: Path) -> None:
    content, message = BAD[case]
    with pytest.raises(InputError, match=message):
        resolve(write(tmp_path, **content))


def test_an_lm_that_the_profile_lacks_is_refused_with_both_files(tmp_path: Path) -> None:
    testbed = locate("testbeds", "paper").read_text().replace("name: LM4", "name: LM5")
    (tmp_path / "ours.yaml").write_text(testbed)
    files = rf"{tmp_path / 'ours.yaml'}, {locate('profiles', 'a5000')}"
    with pytest.raises(InputError, match=rf"{files}: testbed paper: LM5: is not in profile a5000"):
        resolve(write(tmp_path, testbeds=["ours.yaml"]))


def test_all_wrong_fields_are_named_at_once(tmp_path: Path) -> None:
    outages = [{"node": "vm7", "down_s": -5}, {"node": "vm7", "down_s": 5, "up_s": 3}]
    path = write(
        tmp_path, strategies=["rf", "XX"], seeds=-1, faults=[{"name": "x", "outages": outages}]
    )
    with pytest.raises(InputError) as caught:
        resolve(path)
    first, *lines = str(caught.value).splitlines()
    assert first == f"{path}: 5 errors:"
    fields = [line.split(": ")[0].strip() for line in lines]
    outage = "faults[0].outages"
    assert fields == [
        "strategies[0]",
        "strategies[1]",
        "seeds",
        f"{outage}[0].down_s",
        f"{outage}[1]",
    ]
    assert lines[-1].endswith("up_s must be later than down_s 5.0, not 3.0")


def test_a_workload_for_another_testbed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine-load.yaml").write_text(
        "name: mine\nsummary: x\nprocess: {kind: poisson, requests_per_slot: {LM1: 1, LM9: 2}}\n"
    )
    with pytest.raises(InputError, match=r"LM9.*LM1, LM2"):
        resolve(write(tmp_path, workloads=["mine-load.yaml"]))


def test_a_campaign_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    path.write_text("- 1\n")
    with pytest.raises(InputError, match=r"list\.yaml"):
        load_campaign_file(path)
