"""Formats of replies: strict schemas, and reading what models write."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from controller.agents.replies import (
    LONGEST_PROBLEM,
    MAX_PROBLEMS,
    SEARCHED,
    Format,
    deployer_format,
    find_json,
    listed,
    planner_format,
    scheduler_format,
)
from controller.domain.errors import InvalidDecision
from controller.domain.scenario import Scenario
from tests.unit.agents.epochs import cluster
from tests.unit.policies.states import shipped

PAPER = shipped()
POD = {"mode": "cpu", "cores": 2.5, "vgpus": 0}
AWKWARD = ("edge-1.site.example", "2nd node", "class", "a:b/c")  # no identifiers
ORIGINS = PAPER.testbed.node_names
FORMATS = (
    planner_format(PAPER),
    scheduler_format(ORIGINS, dict.fromkeys(PAPER.testbed.lm_names, ORIGINS), elsewhere=False),
    scheduler_format(AWKWARD, {"lm-1.5": AWKWARD, "lm 2": AWKWARD[:1]}, elsewhere=True),
    deployer_format(["LM1", "lm-1.5b"]),
)


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object schema within one."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects(part)


def example(schema: Any, definitions: Any) -> Any:
    """Some value that a schema allows."""
    if "$ref" in schema:
        return example(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if schema["type"] == "object":
        return {key: example(part, definitions) for key, part in schema["properties"].items()}
    if schema["type"] == "array":
        return [example(schema["items"], definitions)]
    return {"string": "because", "number": 0.5, "integer": 1}[schema["type"]]


def sample(form: Format) -> dict[str, Any]:
    made: dict[str, Any] = example(form.schema, form.schema.get("$defs", {}))
    return made


def refused(form: Format, reply: object) -> str:
    with pytest.raises(InvalidDecision) as caught:
        form.parse(reply if isinstance(reply, str) else json.dumps(reply))
    return str(caught.value)


@pytest.mark.parametrize("form", FORMATS)
def test_every_object_names_all_its_fields_and_allows_no_others(form: Format) -> None:
    Draft202012Validator.check_schema(form.schema)
    found = list(objects(form.schema))
    assert found
    for one in found:
        assert one["additionalProperties"] is False
        assert sorted(one["required"]) == sorted(one["properties"])


@pytest.mark.parametrize("form", FORMATS)
def test_what_the_schema_allows_is_read_and_nothing_less_or_more(form: Format) -> None:
    validator, reply = Draft202012Validator(form.schema), sample(form)
    validator.validate(reply)
    assert set(form.parse(json.dumps(reply))) == set(reply)
    key = next(iter(reply))
    for wrong in (
        {**reply, "more": 1},
        {name: part for name, part in reply.items() if name != key},
        {**reply, key: None},
        [reply],
    ):
        assert not validator.is_valid(wrong)
        assert refused(form, wrong)


@pytest.mark.parametrize("form", FORMATS)
def test_schemas_spend_no_tokens_on_titles_and_descriptions(form: Format) -> None:
    for one in objects(form.schema):
        assert not {"title", "description"} & set(one)


def test_names_need_not_be_identifiers() -> None:
    reply = {
        "lm-1.5": dict.fromkeys(AWKWARD, AWKWARD[1]),
        "lm 2": dict.fromkeys(AWKWARD, "elsewhere"),
    }
    assert FORMATS[2].parse(json.dumps(reply)) == reply


def test_an_lm_may_be_called_title() -> None:
    form = deployer_format(["title", "description"])
    assert set(form.schema["properties"]) == {"title", "description"}
    assert set(form.parse(json.dumps({"title": POD, "description": POD}))) == set(
        form.schema["properties"]
    )


def on_cpus(gpu_only: str) -> Scenario:
    """The small cluster, which has no GPUs, but one of its LMs needs one."""
    bare = cluster()
    lms = tuple(replace(lm, gpu_only=lm.name == gpu_only) for lm in bare.testbed.lms)
    return replace(bare, testbed=replace(bare.testbed, lms=lms))


def test_a_gpu_only_lm_cannot_be_put_on_a_node_without_gpus() -> None:
    form = planner_format(on_cpus("LM2"))
    reply = sample(form)
    assert reply["routing"]["LM2"] == {}
    reply["routing"]["LM2"] = {"VM1": 1.0}
    reply["roles"]["VM1"] = ["LM2"]
    problems = refused(form, reply)
    assert "routing.LM2.VM1: " in problems
    assert "roles.VM1.0: " in problems
    assert not Draft202012Validator(form.schema).is_valid(reply)


def test_elsewhere_is_a_destination_of_a_part_of_a_cluster_only() -> None:
    for elsewhere in (True, False):
        form = scheduler_format(["VM1"], {"LM1": ["VM1"]}, elsewhere=elsewhere)
        reply = {"LM1": {"VM1": "elsewhere"}}
        assert Draft202012Validator(form.schema).is_valid(reply) is elsewhere
    assert "LM1.VM1: " in refused(form, reply)
    assert form.parse('{"LM1":{"VM1":"refuse"}}') == {"LM1": {"VM1": "refuse"}}


@pytest.mark.parametrize(
    "text",
    [
        '{"LM1":%s}',
        '  {"LM1":%s}\n',
        'Here it is: {"LM1":%s} I hope it helps {you}.',
        '```json\n{"LM1":%s}\n```',
        '<think>maybe {"a":1}?</think>{"LM1":%s}',
        '{broken {"LM1":%s}',
    ],
)
def test_json_within_prose_is_found(text: str) -> None:
    pod = deployer_format(["LM1"]).parse(text % json.dumps(POD))["LM1"]
    assert (pod.mode, pod.cores, pod.vgpus) == ("cpu", 2.5, 0)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    text = json.dumps({"LM1": POD}).replace("2.5", number)
    assert "LM1.cores: " in refused(deployer_format(["LM1"]), text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty reply"),
        (" \n", "empty reply"),
        ("I cannot.", "no JSON object"),
        ('{"LM1":', "no JSON object"),
        ('{"a":' * 20_000, "no JSON object"),
        ("[" * 20_000 + "]" * 20_000, "no JSON object"),
        ('{"a":' * 900 + "1" + "}" * 900, "a: Extra inputs"),
        ("[1]", "reply: Input should be a valid dictionary"),
        ("9" * 5000, "no JSON object"),
        ("null", "reply: Input should be a valid dictionary"),
    ],
)
def test_any_text_gets_an_answer(text: str, problem: str) -> None:
    assert problem in refused(deployer_format(["LM1"]), text)


def test_deep_nesting_beside_a_reply_does_not_hide_it() -> None:
    text = '{"a":' * 5000 + " sorry, I mean " + json.dumps({"LM1": POD})
    assert find_json(text) == {"LM1": POD}


@pytest.mark.parametrize(
    "part",
    [
        '{"a":',
        '{"a":[',
        '{"a":[1,{"b":2},',
        '{"a":' * 900 + "x ",
        '{"\\"',
        "{",
        "{x} and ",
        '{"a{"b":',
    ],
)
def test_no_text_takes_long_to_search(part: str) -> None:
    text = (part * 60_000)[:300_000]
    began_s = time.thread_time()
    with contextlib.suppress(InvalidDecision):
        find_json(text)
    assert time.thread_time() - began_s < 0.5  # some hundredths mostly


def test_what_an_object_breaks_off_with_is_found() -> None:
    assert find_json('{"a":[{"b":1},{"c":{"d":2}},{"e":3') == {"c": {"d": 2}}
    assert find_json('{"think: {"a":1}') == {"a": 1}


def test_a_long_text_is_searched_at_its_end() -> None:
    reply = json.dumps({"LM1": POD})
    assert find_json("x" * SEARCHED + reply) == {"LM1": POD}
    assert "no JSON object" in refused(deployer_format(["LM1"]), reply + "x" * SEARCHED)


def test_half_a_surrogate_pair_is_refused_wherever_it_is() -> None:
    reply = sample(FORMATS[0])
    for wrong in ({**reply, "reason": "\ud800"}, {**reply, "\udfff": 1}):
        assert refused(FORMATS[0], wrong) == "the reply holds text that is no Unicode"
    assert FORMATS[0].parse(json.dumps({**reply, "reason": "\U0001f600"}))


def test_many_problems_are_counted() -> None:
    assert listed(["a", "b"]) == "a; b"
    told = listed([f"p{k}" for k in range(MAX_PROBLEMS + 3)])
    assert told.endswith(f"p{MAX_PROBLEMS - 1}; and 3 more")


def test_a_problem_is_quoted_up_to_a_length() -> None:
    problems = refused(deployer_format(["LM1"]), {"LM1": POD, "x" * 100_000: 1})
    assert len(problems) == LONGEST_PROBLEM
