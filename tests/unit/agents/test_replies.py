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


GOOD = json.dumps({"LM1": POD})
OFF = json.dumps({"LM1": {"mode": "off", "cores": 0, "vgpus": 0}}, indent=4)
ECHO = json.dumps({"slot": 3, "pods": {"LM1": {"backlog": 4}}})

# Shapes in which models answer; in each GOOD is the answer and OFF an idea that was dropped.
SHAPES = {
    "alone": GOOD,
    "white space around it": f"  {GOOD}\n",
    "prose around it": f"Here it is: {GOOD} I hope it helps {{you}}.",
    "a code fence": f"```json\n{GOOD}\n```",
    "a fence without a language, then prose": f"```\n{GOOD}\n```\nDone.",
    "an idea within reasoning": f"<think>\nAll off?\n{OFF}\nNo.\n</think>\n{GOOD}",
    "the prompt quoted within reasoning": f"<think>\n{ECHO}\nSo:</think>\n\n{GOOD}",
    "the prompt quoted without reasoning": f"You gave me {ECHO}. My answer: {GOOD}",
    "the prompt quoted after the answer": f"{GOOD} (since you gave me {ECHO})",
    "an idea, then the answer": f"First I thought of {OFF} but prefer {GOOD}",
    "a longer idea, then fences": f"```json\n{OFF}\n```\nBetter:\n```json\n{GOOD}\n```",
    "reasoning that the prompt opened": f"I could do {OFF}\n</think>{GOOD}",
    "reasoning after the answer, never closed": f"{GOOD}\n<think>or rather {OFF}",
    "reasoning after the answer": f"{GOOD}\n<think>or rather {OFF}</think>",
    "reasoning twice": f"<think>{OFF}</think>Hm.<think>{OFF}</think>{GOOD}",
    "reasoning that mentions its own tag": f"<think>in <think>{OFF}</think> or {OFF}</think>{GOOD}",
    "a tag with an attribute, in capitals": f'<THINK mode="deep">{OFF}</THINK>{GOOD}',
    "another tag": f"<thinking>{OFF}</thinking>{GOOD}",
    "reasoning tags": f"<reasoning>{OFF}</reasoning>\n{GOOD}",
    "square brackets": f"[THINK]{OFF}[/THINK]{GOOD}",
    "seed's": f"<seed:think>{OFF}</seed:think>{GOOD}",
    "channels": f"<|channel|>analysis<|message|>{OFF}<|end|><|channel|>final<|message|>{GOOD}",
    "thought": f"<|begin_of_thought|>{OFF}<|end_of_thought|>{GOOD}",
    "two analyses": f"<|channel|>analysis {OFF}<|channel|>commentary {OFF}<|channel|>final{GOOD}",
    "a brace that begins nothing": '{broken ' + GOOD,
    "an object that breaks off before it": '{"LM1": {"mode": "off", sorry. ' + GOOD,
    "an idea within an object that breaks off": '{"idea": ' + OFF + ", sorry. " + GOOD,
    "an answer as a JSON string": json.dumps(GOOD),
    "an idea struck out": f"~~{OFF}~~ {GOOD}",
    "an idea struck out after the answer": f"{GOOD}\n~~{OFF}~~",
    "an idea in a comment": f"{GOOD} <!-- or {OFF} -->",
    "an idea quoted line by line": "\n".join([GOOD, "", *(f"> {x}" for x in OFF.splitlines())]),
    "a draft": f"<draft>{OFF}</draft> {GOOD} <draft>{OFF}</draft>",
    "a deleted one": f"{GOOD} <del>{OFF}</del>",
    "an answer that is marked, then an idea": f"<answer>{GOOD}</answer> I dropped {OFF}.",
    "an answer marked after an idea": f"{OFF}? No. <answer>\n```json\n{GOOD}\n```\n</answer>",
    "analysis in tags": f"<analysis>{OFF}</analysis>{GOOD}",
    "an arrow": f"{GOOD} --> done, in <answer> form, ~~ roughly",
    "signs around it": f"needs ~~2 cores, so {GOOD} for ~~3 pods",
    "a token of the model's own": f"<s>{GOOD}</s>",
    "objects of other schemas around it": f'{{"a":1}} {GOOD} {{"b":{{"LM1":2}}}}',
}  # fmt: skip


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES)
def test_the_answer_is_the_last_object_after_the_reasoning_that_fits(text: str) -> None:
    pod = deployer_format(["LM1"]).parse(text)["LM1"]
    assert (pod.mode, pod.cores, pod.vgpus) == ("cpu", 2.5, 0)


NO_ANSWER = {
    "nothing but reasoning": (f"<think>{GOOD}</think>", "empty after its reasoning"),
    "reasoning that never ends": (f"<think>maybe {GOOD}", "empty after its reasoning"),
    "another tag that never ends": (f"<|begin_of_thought|>{GOOD}", "empty after its reasoning"),
    "prose after reasoning": (f"<think>{GOOD}</think>As I said.", "no JSON object"),
    "a list after reasoning": (f"<think>{GOOD}</think>[1]", "no JSON object"),
    "a part of an object that breaks off": ('{"idea": ' + GOOD + ', "next": ', "no JSON object"),
    "the first fault is not the last object's": ('{"LM1":1} then {"LM2":1}', "LM2: Extra inputs"),
}


@pytest.mark.parametrize(("text", "problem"), NO_ANSWER.values(), ids=NO_ANSWER)
def test_no_object_is_taken_for_an_answer_that_is_none(text: str, problem: str) -> None:
    assert problem in refused(deployer_format(["LM1"]), text)


def test_a_tag_within_the_text_of_an_answer_is_text() -> None:
    reply = {**sample(FORMATS[0]), "reason": "as in <think> and </think>"}
    assert FORMATS[0].parse(json.dumps(reply))["reason"] == reply["reason"]


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
    text = '{"a":' * 5000 + " sorry, I mean " + GOOD
    assert find_json(text) == [json.loads(GOOD)]


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
        "<!-- {",
        "~~{",
        "<draft><answer>{",
        "\n>{",
        "<think>{",
    ],
)
def test_no_text_takes_long_to_search(part: str) -> None:
    text = (part * 60_000)[:300_000]
    began_s = time.thread_time()
    with contextlib.suppress(InvalidDecision):
        find_json(text)
    assert time.thread_time() - began_s < 0.5  # some hundredths mostly


def test_a_flood_of_objects_is_not_held_against_the_schema_one_by_one() -> None:
    form, began_s = deployer_format(["LM1"]), time.thread_time()
    assert "LM1: Field required" in refused(form, "{} " * 60_000 + "!")
    assert time.thread_time() - began_s < 0.5
    assert form.parse("{} " * 60_000 + GOOD + "{}" * 50)["LM1"].mode == "cpu"


def test_what_an_object_breaks_off_with_is_no_answer() -> None:
    for text in ('{"a":[{"b":1},{"c":{"d":2}},{"e":3', '{"think: {"a":1}'):
        with pytest.raises(InvalidDecision, match="no JSON object"):
            find_json(text)
    assert find_json('{"a":[{"b":1}, no: {"c":2} {"d":3}') == [{"c": 2}, {"d": 3}]


def test_a_long_text_is_searched_at_its_end() -> None:
    assert find_json("x" * SEARCHED + GOOD) == [json.loads(GOOD)]
    assert "no JSON object" in refused(deployer_format(["LM1"]), GOOD + "x" * SEARCHED)


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
