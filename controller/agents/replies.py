"""Formats of replies, one per agent and testbed, as strict JSON schemas; reading a model's text.

A strict schema has every field required and no others, so what is allowed is written out: an LM's
shares name only the nodes that can host it. Validated replies are plain dictionaries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from controller.agents.chat import ReplySchema
from controller.domain.errors import InvalidDecision
from controller.domain.scenario import Scenario

REFUSE_WORD: Final = "refuse"
ELSEWHERE_WORD: Final = "elsewhere"
ELSEWHERE: Final = -2  # beside domain.decisions.REFUSE: to a node of another shard
MAX_PROBLEMS: Final = 12  # of a reply that are quoted back
LONGEST_PROBLEM: Final = 500  # characters; a key that no schema has may be of any length
EMPTY_AFTER_REASONING: Final = "the reply is empty after its reasoning; give the answer after it"
SEARCHED: Final = 200_000  # characters at a reply's end, four times the largest one at 600 nodes
TRIES: Final = 1000  # beginnings in it that turn out to be no object
CANDIDATES: Final = 100  # whole objects in it, the last ones, that are held against the schema
DEEPEST: Final = 100  # far more than any format nests

_BEGINNING: Final = re.compile(r'\{\s*["}]')
# Tags around reasoning, as models of several families write them. "final" ends all before it.
_NAMES: Final = "think|thinking|thoughts?|reasoning|scratchpad|analysis|reflection"
_REASONING: Final = re.compile(
    rf"(?P<open><(?:seed:)?(?:{_NAMES})(?:\s[^<>]{{0,99}})?>"
    r"|\[THINK\]|\u25c1think\u25b7|<\|begin_of_thought\|>|<\|channel\|>(?:analysis|commentary))"
    rf"|</(?:seed:)?(?:{_NAMES})\s?>"
    r"|\[/THINK\]|\u25c1/think\u25b7|<\|end_of_thought\|>|(?P<final><\|channel\|>final(?:<\|message\|>)?)",
    re.IGNORECASE,
)
# Pairs around what a model quotes or has dropped, and around its answer.
_PAIRS: Final = re.compile(
    r"(?P<strike>~~)|<!(?P<begin>--)|(?P<end>--)>"
    r"|<(?P<open>draft|quote|blockquote|del|strike|answer|final_answer)(?:\s[^<>]{0,99})?>"
    r"|</(?P<close>draft|quote|blockquote|del|strike|answer|final_answer)\s?>",
    re.IGNORECASE,
)
_ANSWERS: Final = ("answer", "final_answer")
_QUOTED_LINE: Final = re.compile(r"^[ \t]{0,3}>.*$", re.MULTILINE)  # as Markdown has it
_BRACKET: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}]', re.DOTALL)  # strings may hold some too

_CONFIG: Final = ConfigDict(extra="forbid", allow_inf_nan=False)


class Forecast(BaseModel):
    """The load of one LM that a policy is made for."""

    model_config = _CONFIG

    requests_per_slot: float
    prompts_per_request: float


class Pod(BaseModel):
    """A node's pod of one LM: ``cores`` counts on CPUs, ``vgpus`` on GPUs."""

    model_config = _CONFIG

    mode: Literal["off", "cpu", "gpu"]
    cores: float
    vgpus: int


class Format:
    """A reply's schema and its parser."""

    def __init__(self, name: str, kind: Any) -> None:
        self.name = name
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)
        self.schema: Mapping[str, Any] = _without_titles(self._adapter.json_schema())
        self.form = ReplySchema(name, self.schema)

    def parse(self, text: str) -> dict[str, Any]:
        """Return the answer in a reply: the last object after its reasoning that fits the schema.

        Raises:
            InvalidDecision: none fits; says what is wrong with the last one, and where in it.
        """
        problems = ""
        for candidate in reversed(find_json(text)):
            try:
                return dict(self._adapter.validate_python(_writable(candidate)))
            except ValidationError as error:
                problems = problems or listed(
                    [
                        f"{'.'.join(map(str, one['loc'])) or 'reply'}: {one['msg']}"
                        for one in error.errors(include_url=False, include_input=False)
                    ]
                )
            except InvalidDecision as error:
                problems = problems or str(error)
        raise InvalidDecision(problems)


def planner_format(scenario: Scenario) -> Format:
    """Return ``reason``, ``forecast`` by LM, ``routing`` by LM and node, ``roles`` by node."""
    testbed, hosts = scenario.testbed, scenario.hosts()
    routing = {
        lm: record(
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
        "forecast": record("Forecasts", dict.fromkeys(testbed.lm_names, Forecast)),
        "routing": record("Routing", routing),
        "roles": record("Roles", roles),
    }
    return Format("macro_policy", record("MacroPolicy", fields))


def scheduler_format(
    origins: Sequence[str], choices: Mapping[str, Sequence[str]], *, elsewhere: bool
) -> Format:
    """Return the format of a destination, or "refuse", by LM and origin. ``choices``: LM -> nodes
    that can host it; ``elsewhere``: there are more nodes than these."""
    words = (ELSEWHERE_WORD, REFUSE_WORD) if elsewhere else (REFUSE_WORD,)
    table = {
        lm: record(f"Plan{k}", dict.fromkeys(origins, Literal[(*nodes, *words)]))
        for k, (lm, nodes) in enumerate(choices.items())
    }
    return Format("routing_plan", record("RoutingPlan", table))


def deployer_format(lms: Sequence[str]) -> Format:
    """Return the format of a :class:`Pod` for each LM that the node can host."""
    return Format("deployment", record("Deployment", dict.fromkeys(lms, Pod)))


def find_json(text: str) -> list[object]:
    """Return the JSON in a reply that may be its answer, in the order of the text: all of the text
    if it is JSON, also JSON written as a JSON string; else the outermost objects outside of its
    reasoning and of what it quotes or drops.

    Raises:
        InvalidDecision: there is none.
    """
    if not text.strip():
        raise InvalidDecision("empty reply")
    try:
        whole = json.loads(text)
        return [json.loads(whole) if isinstance(whole, str) else whole]
    except (ValueError, RecursionError):
        answer = without_reasoning(text)
    if not answer.strip():
        raise InvalidDecision(EMPTY_AFTER_REASONING)
    answer = _without_quotes(answer[-SEARCHED:])
    found = _objects(answer)[-CANDIDATES:]
    if not found:
        raise InvalidDecision("the reply holds no JSON object")
    return found


def without_reasoning(text: str) -> str:
    """Return the text without the parts between tags such as ``<think>`` and ``</think>``.

    A tag that is never closed takes all that follows. One that was never opened takes all that
    precedes it: some servers put the opening tag into the prompt.
    """
    parts: list[str] = []
    depth = begin = 0
    for tag in _REASONING.finditer(text):
        if depth == 0:
            parts.append(text[begin : tag.start()])
        if tag["open"]:
            depth += 1
        elif depth == 0 or tag["final"]:
            parts, depth = [], 0
        else:
            depth -= 1
        begin = tag.end()
    return "".join(parts) + (text[begin:] if depth == 0 else "")


def _without_quotes(text: str) -> str:
    """Return the text without what it quotes or strikes out: comments, quoted lines, tags such as
    ``<draft>``. If it marks its answer by a tag, return the last one marked. A tag without its
    counterpart is text like any other."""
    kept: list[str] = []
    answer = ""
    opened = ""
    begin = before = inside = 0
    for tag in _PAIRS.finditer(text):
        kind = (tag["strike"] or tag["begin"] or tag["end"] or tag["open"] or tag["close"]).lower()
        opens = bool(tag["begin"] or tag["open"] or tag["strike"])
        struck = opened == kind == "~~"
        if struck and not text[inside : tag.start()].lstrip().startswith(("{", "`")):
            opened = ""  # the sign stands for something else there
        if not opened and opens:
            opened, inside, before = kind, tag.end(), tag.start()
        elif opened == kind and (tag["strike"] or not opens):
            if kind not in _ANSWERS:
                kept.append(text[begin:before])
                begin = tag.end()
            elif "{" in text[inside : tag.start()]:
                answer = text[inside : tag.start()]
            opened = ""
    return _QUOTED_LINE.sub("", answer or "".join(kept) + text[begin:])


def _writable(value: object) -> object:
    """Return the value, if it can be written down: escapes can smuggle in halves of surrogate
    pairs.

    Raises:
        InvalidDecision: it cannot.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        raise InvalidDecision("the reply holds text that is no Unicode") from None
    return value


def listed(problems: Sequence[str]) -> str:
    """Return the first violations in one line."""
    more = len(problems) - MAX_PROBLEMS
    quoted = "; ".join(problem[:LONGEST_PROBLEM] for problem in problems[:MAX_PROBLEMS])
    return quoted + (f"; and {more} more" if more > 0 else "")


def _objects(text: str) -> list[object]:
    """Return the outermost whole objects of a text. Those within an object that breaks off are its
    parts and no answers; the search goes on where it breaks."""
    decoder, found, at, tries = json.JSONDecoder(), list[object](), 0, 0
    while tries < TRIES and (beginning := _BEGINNING.search(text, at)):
        start = beginning.start()
        try:
            value, at = decoder.raw_decode(text, start)
            found.append(value)
        except ValueError as error:
            tries += 1
            at = max(getattr(error, "pos", 0), start + 1)
        except RecursionError:
            tries += 1
            at = _too_deep(text, start)
    return found


def _too_deep(text: str, start: int) -> int:
    """Return the place where the brackets from ``start`` on nest too deeply."""
    depth = 0
    for bracket in _BRACKET.finditer(text, start):
        depth += (bracket[0] in "{[") - (bracket[0] in "}]")
        if depth > DEEPEST:
            return bracket.end()
    return len(text)


def record(name: str, fields: Mapping[str, Any]) -> Any:
    """Return a type of dictionary with exactly these keys, which need not be identifiers."""
    kind = TypedDict(name, dict(fields))  # type: ignore[misc]  # noqa: UP013
    kind.__pydantic_config__ = _CONFIG  # type: ignore[attr-defined]
    return kind


def _chosen(names: Sequence[str], chosen: Sequence[bool]) -> tuple[str, ...]:
    return tuple(name for name, yes in zip(names, chosen, strict=True) if yes)


def _without_titles(schema: Any) -> Any:
    """Return the schema without titles: they repeat the names, and every call pays for them."""
    if isinstance(schema, dict):
        return {
            key: _without_titles(value)
            for key, value in schema.items()
            if not (key in ("title", "description") and isinstance(value, str))
        }
    return [_without_titles(one) for one in schema] if isinstance(schema, list) else schema
