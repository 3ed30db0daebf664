"""Whatever the text, the outcome is an object or an InputError that helps."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from controller.campaigns.validation import check_file
from controller.domain.errors import InputError
from controller.files import read_regular
from controller.inputs.catalog import locate
from controller.inputs.documents import combine, parse, read_yaml, read_yaml_text
from controller.inputs.fields import Record
from controller.inputs.profile import ProfileFile
from controller.inputs.testbed import TestbedFile

PAPER = read_yaml(locate("testbeds", "paper"))
A5000 = read_yaml(locate("profiles", "a5000"))


def _refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        read_yaml_text("my.yaml", text)
    return str(caught.value)


def test_duplicate_key_is_refused_with_both_lines() -> None:
    message = _refusal("a: 1\nb: 2\na: 3\n")
    assert "my.yaml: line 3" in message
    assert "duplicate key 'a'" in message
    assert "line 1" in message


def test_duplicate_key_is_refused_deep_inside() -> None:
    assert "duplicate key 'vm2'" in _refusal("all:\n  hosts:\n    vm2: {x: 1}\n    vm2: {x: 2}\n")


def test_keys_of_a_merge_may_be_overridden() -> None:
    text = "base: &b {x: 1, y: 2}\nmine:\n  <<: *b\n  x: 3\n"
    assert read_yaml_text("my.yaml", text) == {"base": {"x": 1, "y": 2}, "mine": {"x": 3, "y": 2}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1, 2", "line 1"),
        ("a: 1\n\tb: 2", "line 2"),
        ("a: !!python/object:os.system {}", "python/object"),
        ("a: *nobody", "nobody"),
        ("a: !!bool x", "cannot read"),
        ("a: !!timestamp x", "cannot read"),
        ("a: !!int ''", "cannot read"),
        ("a: !!map x", "cannot read"),
        ("a: " + "9" * 5000, "cannot read"),
        ("? {x: 1}\n: 2", "unhashable"),
        ("a: \x00", "no YAML"),
        ("a: 1\n---\nb: 2", "single document"),
        ("a: &x [*x]", "too many items"),
        ("[" * 3000, "nested too deeply"),
    ],
)
def test_wrong_yaml_is_refused(text: str, says: str) -> None:
    message = _refusal(text)
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10), ("-010", -10), ("0o10", 8), ("0x1F", 31), ("1e-3", 0.001), (".5", 0.5),
        ("true", True), ("~", None), ("", None), ("1:30", "1:30"), ("190:20:30", "190:20:30"),
        ("no", "no"), ("on", "on"), ("2024-13-45", "2024-13-45"), ("1_000", "1_000"),
        ("0b11", "0b11"), ("1.", 1.0), ("+.inf", math.inf), ("0.1.2", "0.1.2"),
    ],
)  # fmt: skip
def test_plain_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = read_yaml_text("my.yaml", f"a: {text}")
    assert found == {"a": value}
    assert isinstance(found, dict)
    assert type(found["a"]) is type(value)


def test_pipes_and_devices_are_refused_unread(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    endless = tmp_path / "endless.csv"
    endless.symlink_to("/dev/zero")
    for path, what in ((pipe, "a pipe"), (endless, "a device"), (tmp_path, "a folder")):
        with pytest.raises(InputError, match=rf"is {what}; "):
            read_regular(path, 1000)
        with pytest.raises(InputError, match=what):
            check_file(path)


def test_a_file_that_is_another_is_not_shown() -> None:
    with pytest.raises(InputError) as caught:
        parse(TestbedFile, "passwd", "root:x:0:0:secret")
    assert "secret" not in str(caught.value)
    assert "give a file of fields" in str(caught.value)


@pytest.mark.parametrize("key", [None, 1, True])
def test_keys_that_are_no_text_are_named(key: object) -> None:
    with pytest.raises(InputError, match=r"has a key that is no text.*in quotes"):
        parse(TestbedFile, "t.yaml", {"all": {key: 1}})


def test_aliases_cannot_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 9)]
    assert "too many items" in _refusal("\n".join(lines))


def test_numbers_read_as_people_write_them() -> None:
    assert read_yaml_text("my.yaml", "[1e3, 1.5e-3, -2E+2, 3, 4.0]") == [1e3, 1.5e-3, -2e2, 3, 4.0]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: M\xf6ller".encode("latin-1"))
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"# " + b"x" * 8_000_000)
    for path, says in ((latin, "UTF-8"), (huge, "8 MB"), (tmp_path, "folder")):
        with pytest.raises(InputError, match=says) as caught:
            read_yaml(path)
        assert str(path) in str(caught.value)


class _Point(Record):
    x: float
    y: float


@pytest.mark.parametrize("model", [dict[str, _Point], TypeAdapter(dict[str, _Point])])
def test_parse_takes_any_type(model: Any) -> None:
    assert parse(model, "s", {"a": {"x": 1, "y": 2}}) == {"a": _Point(x=1, y=2)}
    with pytest.raises(InputError, match=r"s: a\.y: is missing"):
        parse(model, "s", {"a": {"x": 1}})


def _with(document: object, path: tuple[str | int, ...], value: object) -> Any:
    changed: Any = copy.deepcopy(document)
    part = changed
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    return changed


VM3 = ("all", "children", "workers", "hosts", "vm3")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ((*VM3, "edgelm_ram_gb"), -1, ["vm3.edgelm_ram_gb", "-1", "above 0"]),
        ((*VM3, "edgelm_ram_gb"), math.nan, ["vm3.edgelm_ram_gb", "nan", "finite"]),
        ((*VM3, "edgelm_cores"), math.inf, ["vm3.edgelm_cores", "inf", "finite"]),
        ((*VM3, "edgelm_cores"), True, ["vm3.edgelm_cores", "True", "valid number"]),
        ((*VM3, "edgelm_cores"), "16", ["vm3.edgelm_cores", "'16'", "valid number"]),
        ((*VM3, "edgelm_core"), 16, ["vm3.edgelm_core:", "not a known field", "edgelm_cores"]),
        ((*VM3, "edgelm_gpus", "count"), 0, ["edgelm_gpus.count", "0", "physical GPUs"]),
        ((*VM3, "edgelm_gpus", "slices"), 1.5, ["edgelm_gpus.slices", "1.5", "integer"]),
        ((*VM3, "edgelm_site"), "we the curious", ["edgelm_site", "at most 63 letters"]),
        (("all", "vars", "edgelm_lms"), [], ["edgelm_lms", "at least 1"]),
        (("all", "vars", "edgelm_lms", 2, "modality"), "smell", ["edgelm_lms[2].modality", "text"]),
        (("all", "children", "control", "hosts"), {}, ["control.hosts", "at least 1"]),
        (("all", "children", "workers"), None, ["workers", "WorkerGroup"]),
    ],
)
def test_message_names_source_field_value_and_remedy(
    path: tuple[str | int, ...], value: object, says: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        parse(TestbedFile, "my.yaml", _with(PAPER, path, value))
    message = str(caught.value)
    assert message.startswith("my.yaml: all.")
    assert "\n" not in message
    for part in says:
        assert part in message


def test_several_errors_are_all_listed() -> None:
    document = _with(PAPER, (*VM3, "edgelm_ram_gb"), -1)
    del document["all"]["children"]["workers"]["hosts"]["vm4"]["edgelm_cpu"]
    with pytest.raises(InputError) as caught:
        parse(TestbedFile, "my.yaml", document)
    first, *rest = str(caught.value).splitlines()
    assert first == "my.yaml: 2 errors:"
    assert "vm3.edgelm_ram_gb" in rest[0]
    assert "vm4.edgelm_cpu: is missing" in rest[1]
    assert "AMD EPYC 7453" in rest[1], "the remedy says what kind of thing belongs there"


def test_a_flood_of_errors_is_cut() -> None:
    errors = [InputError("s", f"problem {k}") for k in range(100)]
    lines = str(combine("s", errors)).splitlines()
    assert lines[0] == "s: 100 errors:"
    assert len(lines) == 22
    assert lines[-1].strip() == "and 80 more"


def test_long_values_are_shortened() -> None:
    with pytest.raises(InputError) as caught:
        parse(TestbedFile, "my.yaml", _with(PAPER, (*VM3, "edgelm_cores"), "x\n" * 5000))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("data", [None, [], "text", 3, {"all": None}, {1: 2}])
def test_other_content_is_refused(data: object) -> None:
    with pytest.raises(InputError, match=r"my\.yaml"):
        parse(TestbedFile, "my.yaml", data)


def _outcome(attempt: Callable[[], object]) -> str:
    """``read``, or what an InputError says; any other error is a failure."""
    try:
        attempt()
    except InputError as error:
        return str(error)
    return "read"


TOKENS = (
    *"ab:-[]{}&*!|>%@?#'\" \n\t,.019eE~\\<=",
    *("\n- ", ": ", "!!int ", "!!float ", "!!bool ", "!!null ", "!!timestamp ", "!!map ", "!!seq "),
    *(
        "!!set ",
        "!!omap ",
        "!!pairs ",
        "!!binary ",
        "!!str ",
        "<<: ",
        "&a ",
        "*a ",
        "1:2",
        "0x",
        "---",
    ),
    *("2024-01-01", "\\ud800", "\\U00110000", ".inf", ".nan"),
)
yamlish = st.lists(st.sampled_from(TOKENS), max_size=25).map("".join)


@settings(max_examples=400, deadline=None)
@given(st.one_of(yamlish, st.text(max_size=40)))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert _outcome(lambda: read_yaml_text("my.yaml", text)).startswith(("read", "my.yaml: "))


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("LM1")
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def _places(part: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items: list[tuple[str | int, object]] = []
    if isinstance(part, dict):
        items = list(part.items())
    elif isinstance(part, list):
        items = list(enumerate(part))
    return [place for key, item in items for place in [(*path, key), *_places(item, (*path, key))]]


@pytest.mark.parametrize(("model", "document"), [(TestbedFile, PAPER), (ProfileFile, A5000)])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_change_of_a_file_is_read_or_refused(
    model: type[TestbedFile | ProfileFile], document: object, data: st.DataObject
) -> None:
    place = data.draw(st.sampled_from(_places(document)))
    changed = _with(document, place, data.draw(values))
    outcome = _outcome(lambda: parse(model, "my.yaml", changed).to_domain())
    assert outcome.startswith(("read", "my.yaml: "))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_broken_text_of_a_file_is_read_or_refused(data: st.DataObject) -> None:
    text = locate("testbeds", "campus").read_text()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    broken = text[:start] + data.draw(yamlish) + text[end:]
    outcome = _outcome(
        lambda: parse(TestbedFile, "my.yaml", read_yaml_text("my.yaml", broken)).to_domain()
    )
    assert outcome.startswith(("read", "my.yaml: "))
