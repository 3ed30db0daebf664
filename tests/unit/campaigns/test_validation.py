import json
from pathlib import Path

import pytest

from controller.campaigns.validation import MODELS, catalog, check_file, json_schema
from controller.domain.errors import InputError
from controller.inputs.catalog import KINDS, locate, names
from tests.samples.small import small_experiment


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in KINDS for n in names(k)])
def test_every_catalog_file_is_good_and_known_by_its_content(
    kind: str, name: str, tmp_path: Path
) -> None:
    source = locate(kind, name)
    copy = tmp_path / "anything.yaml"
    copy.write_bytes(source.read_bytes())
    trace = source.with_suffix(".csv")
    if trace.exists():
        (tmp_path / trace.name).write_bytes(trace.read_bytes())
    found, content = check_file(copy)
    assert found in (kind, kind.removesuffix("s"))
    assert content.startswith(name)


def test_an_experiment_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "experiment.json"
    path.write_text(small_experiment().canonical_json())
    assert check_file(path) == ("experiment", f"run {small_experiment().run_id}")


def test_prices_are_known_by_their_content(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    price = {"input": 1, "output": 2, "source": "a price list", "date": "2026-01-01"}
    path.write_text(json.dumps({"models": {"small": price, "large": price}}))
    assert check_file(path) == ("prices", "2 models")

    path.write_text(json.dumps({"models": {"small": {**price, "output": -1}}}))
    with pytest.raises(InputError, match=r"models\.small\.output"):
        check_file(path)


def test_files_of_a_bring_up_are_known_by_their_content(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text("cni: routes\nnetwork: 10.9.0.0/24\n")
    assert check_file(path) == ("cloud", "image ubuntu-24.04, network 10.9.0.0/24")
    path.write_text("hosts: {vm1: {ansible_host: 10.0.0.1}, vm2: {}}\n")
    assert check_file(path) == ("hosts", "2 machines")


def test_an_unknown_kind_lists_the_kinds() -> None:
    with pytest.raises(InputError, match=r"'testbeds'.*testbed, profile"):
        json_schema("testbeds")


def test_requests_are_counted() -> None:
    path = locate("workloads", "azure-servegen").with_suffix(".csv")
    kind, content = check_file(path)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert (kind, content) == ("requests", f"{len(lines) - 1} requests")


@pytest.mark.parametrize("name", ["none.csv", "none.yaml"])
def test_a_missing_file_is_refused_with_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No such file.*; check path and permissions"):
        check_file(tmp_path / name)


@pytest.mark.parametrize("text", ["- 1", "word", "colour: red"])
def test_what_is_nothing_of_ours_is_said_so(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="unknown file type"):
        check_file(path)


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_has_a_schema(kind: str) -> None:
    schema = json_schema(kind)
    assert schema["title"] == f"edgelm {kind}"
    assert json.loads(json.dumps(schema)) == schema


def test_every_catalog_name_has_a_sentence() -> None:
    assert all(sentence for entries in catalog().values() for sentence in entries.values())
