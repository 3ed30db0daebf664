"""What is replied where the prompt is no agent's satisfies the schema that was asked for."""

from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel

from controller.agents.replies import deployer_format, planner_format, scheduler_format
from controller.reference_model.schemas import least
from tests.unit.policies.states import shipped

PAPER = shipped()
NODES, LMS = PAPER.testbed.node_names, PAPER.testbed.lm_names


class Leaf(BaseModel):
    count: int
    note: str | None


class Tree(BaseModel):
    leaf: Leaf
    leaves: list[Leaf]
    good: bool


SCHEMAS: dict[str, Any] = {
    "health": {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    },
    "tree": Tree.model_json_schema(),
    "planner": planner_format(PAPER).schema,
    "scheduler": scheduler_format(NODES, dict.fromkeys(LMS, NODES), elsewhere=True).schema,
    "deployer": deployer_format(LMS).schema,
    "choice": {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]},
    "constant": {"type": "object", "properties": {"a": {"const": 3}}, "required": ["a"]},
    "either": {"oneOf": [{"type": "number"}, {"type": "string"}]},
    "nullable": {"type": ["string", "null"]},
}


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_it_is_valid(name: str) -> None:
    jsonschema.Draft202012Validator(SCHEMAS[name]).validate(least(SCHEMAS[name]))


def test_it_says_yes_to_a_health_check() -> None:
    assert least(SCHEMAS["health"]) == {"ok": True}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "minItems": 2},
        {"type": "string", "minLength": 1},
        {"type": "date"},
    ],
)
def test_what_it_cannot_make_up_it_says(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no reply can be made up for a schema of type '\w+'"):
        least(schema)
