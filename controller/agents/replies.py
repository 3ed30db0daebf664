"""Formats of replies, one per agent and testbed, as strict JSON schemas; reading a model's text.

A strict schema has every field required and no others, so what is allowed is spelt out: an LM's
shares name only the nodes that can host it. Validated replies are plain dictionaries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from controller.domain.errors import InvalidDecision
from controller.domain.scenario import Scenario

REFUSE_WORD: Final = "refuse"
ELSEWHERE_WORD: Final = "elsewhere"
ELSEWHERE: Final = -2  # beside domain.decisions.REFUSE: to a node of another shard
MAX_PROBLEMS: Final = 12  # of a reply that are quoted back
LONGEST_PROBLEM: Final = 500  # characters; a key that no schema has may be of any length
SEARCHED: Final = 200_000  # characters at a reply's end, four times the largest one at 600 nodes
TRIES: Final = 1000  # places in it where an object may begin
DEEPEST: Final = 100  # far more than any format nests

_BEGINNING: Final = re.compile(r'\{\s*["}]')
_BRACKET: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}]', re.DOTALL)  # strings may hold some too

_CONFIG: Final = ConfigDict(extra="forbid", allow_inf_nan=False)


class Forecast(BaseModel):
    """The load of one LM that a policy is made for."""

    model_config = _CONFIG

    requests_per_slot: float
    prompts_per_request: float


class Pod(BaseModel):
    """What a node should run of one LM: ``cores`` counts on CPUs, ``vgpus`` on GPUs."""

    model_config = _CONFIG

    mode: Literal["off", "cpu", "gpu"]
    cores: float
    vgpus: int


class Format:
    """What a reply must look like."""

    def __init__(self, name: str, kind: Any) -> None:
        self.name = name
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)
        self.schema: Mapping[str, Any] = _without_titles(self._adapter.json_schema())

    def parse(self, text: str) -> dict[str, Any]:
        """The reply in ``text``; JSON within prose is found.

        Raises:
            InvalidDecision: there is none; says what is wrong where.
        """
        try:
            return dict(self._adapter.validate_python(_writable(find_json(text))))
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, one['loc'])) or 'reply'}: {one['msg']}"
                for one in error.errors(include_url=False, include_input=False)
            ]
        raise InvalidDecision(listed(problems))


def planner_format(scenario: Scenario) -> Format:
    """``reason``, ``forecast`` by LM, ``routing`` by LM and node, ``roles`` by node."""
    testbed, hosts = scenario.testbed, scenario.hosts()
    routing = {
        lm: _record(
            f"Shares{k}", dict.fromkeys(_chosen(testbed.node_names, hosts[:, k].tolist()), float)
        )
        for k, lm in enumerate(testbed.lm_names)
    }
    roles = {
        node: list[Literal[_chosen(testbed.lm_names, able)]]  # type: ignore[misc]
        for node, able in zip(testbed.node_names, hosts.tolist(), strict=True)
        if any(able)
    }
    fields = {
        "reason": str,
        "forecast": _record("Forecasts", dict.fromkeys(testbed.lm_names, Forecast)),
        "routing": _record("Routing", routing),
        "roles": _record("Roles", roles),
    }
    return Format("macro_policy", _record("MacroPolicy", fields))


def scheduler_format(
    origins: Sequence[str], choices: Mapping[str, Sequence[str]], *, elsewhere: bool
) -> Format:
    """A destination, or "refuse", by LM and origin. ``choices``: LM -> nodes that can host it;
    ``elsewhere``: there are more nodes than these."""
    words = (ELSEWHERE_WORD, REFUSE_WORD) if elsewhere else (REFUSE_WORD,)
    table = {
        lm: _record(f"Plan{k}", dict.fromkeys(origins, Literal[(*nodes, *words)]))
        for k, (lm, nodes) in enumerate(choices.items())
    }
    return Format("routing_plan", _record("RoutingPlan", table))


def deployer_format(lms: Sequence[str]) -> Format:
    """A :class:`Pod` for each LM that the node can host."""
    return Format("deployment", _record("Deployment", dict.fromkeys(lms, Pod)))


def find_json(text: str) -> object:
    """The JSON in a reply: all of it, or the longest object that prose surrounds near its end.

    Raises:
        InvalidDecision: there is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        found = _longest_object(text[-SEARCHED:])
    if found is None:
        raise InvalidDecision("the reply holds no JSON object" if text.strip() else "empty reply")
    return found


def _writable(value: object) -> object:
    """The value, if it can be written down: escapes can smuggle in halves of surrogate pairs.

    Raises:
        InvalidDecision: it cannot.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        raise InvalidDecision("the reply holds text that is no Unicode") from None
    return value


def listed(problems: Sequence[str]) -> str:
    """Violations in one line, the first of many."""
    more = len(problems) - MAX_PROBLEMS
    quoted = "; ".join(problem[:LONGEST_PROBLEM] for problem in problems[:MAX_PROBLEMS])
    return quoted + (f"; and {more} more" if more > 0 else "")


def _longest_object(text: str) -> object:
    """Where an object breaks, those around the place break as well: they are not tried."""
    decoder, best, size, tries, end = json.JSONDecoder(), None, 0, 0, 0
    broken: set[int] = set()
    while tries < TRIES and (found := _BEGINNING.search(text, end)):
        at, end = found.start(), found.start() + 1
        if at in broken:
            continue
        tries += 1
        try:
            value, end = decoder.raw_decode(text, at)
        except ValueError as error:
            broken.update(_unclosed(text, at, getattr(error, "pos", end)))
        except RecursionError:
            broken.update(_unclosed(text, at, len(text)))
        else:
            if end - at > size:
                best, size = value, end - at
    return best


def _unclosed(text: str, begin: int, end: int) -> list[int]:
    """Where the brackets stand that are open at ``end``, or where they nest too deeply."""
    opened: list[int] = []
    for bracket in _BRACKET.finditer(text, begin, end):
        if bracket[0] in "{[":
            opened.append(bracket.start())
        elif bracket[0] in "}]" and opened:
            opened.pop()
        if len(opened) > DEEPEST:
            break
    return opened


def _record(name: str, fields: Mapping[str, Any]) -> Any:
    """A dictionary with exactly these keys, which need not be identifiers."""
    kind = TypedDict(name, dict(fields))  # type: ignore[misc]  # noqa: UP013
    kind.__pydantic_config__ = _CONFIG  # type: ignore[attr-defined]
    return kind


def _chosen(names: Sequence[str], chosen: Sequence[bool]) -> tuple[str, ...]:
    return tuple(name for name, yes in zip(names, chosen, strict=True) if yes)


def _without_titles(schema: Any) -> Any:
    """Titles repeat the names; every call pays for them in tokens."""
    if isinstance(schema, dict):
        return {
            key: _without_titles(value)
            for key, value in schema.items()
            if not (key in ("title", "description") and isinstance(value, str))
        }
    return [_without_titles(one) for one in schema] if isinstance(schema, list) else schema
