"""The printed schemas accept the shipped files and refuse what reading refuses."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import pytest
from pydantic import TypeAdapter

from controller.inputs.catalog import load_testbed, locate, names, read_yaml
from controller.inputs.profile import ProfileFile
from controller.inputs.schema import schema_of
from controller.inputs.testbed import TestbedFile

MODELS = {"testbed": TestbedFile, "profile": ProfileFile, "numbers": TypeAdapter(dict[str, int])}
FILES = [(kind, name) for kind in ("testbed", "profile") for name in names(f"{kind}s")]


def _validator(kind: str) -> Any:
    document = schema_of(kind, MODELS[kind])
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_shipped_files_are_valid(kind: str, name: str) -> None:
    _validator(kind).validate(read_yaml(locate(f"{kind}s", name)))


def test_dumped_content_is_valid() -> None:
    _validator("testbed").validate(load_testbed("paper").model_dump(mode="json"))


VM3 = ("all", "children", "workers", "hosts", "vm3")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*VM3, "edgelm_cores"), -1),
        ((*VM3, "edgelm_cores"), "16"),
        ((*VM3, "edgelm_core"), 16),
        ((*VM3, "edgelm_site"), "a site"),
        ((*VM3[:-1], "vm 3"), {}),
        (("all", "vars", "edgelm_lms"), []),
        (("all", "children", "control", "hosts"), {}),
        (("all", "children", "others"), {"hosts": {}}),
    ],
)
def test_wrong_content_is_invalid(path: tuple[str, ...], value: object) -> None:
    document: Any = copy.deepcopy(read_yaml(locate("testbeds", "paper")))
    part = document
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    assert not _validator("testbed").is_valid(document)


def test_ansibles_own_variables_are_valid() -> None:
    document: Any = copy.deepcopy(read_yaml(locate("testbeds", "paper")))
    document["all"]["children"]["workers"]["hosts"]["vm3"]["ansible_host"] = "192.0.2.3"
    _validator("testbed").validate(document)


def test_what_is_no_model_has_a_schema_too() -> None:
    assert _validator("numbers").is_valid({"one": 1})
    assert not _validator("numbers").is_valid({"one": "1"})
