"""Costs of agents beside the model: their own time, and the tokens that they send and get.

The reference reasoner answers within the process, and its time is not counted: what is left is
views, prompts, schemas, checks and the transcript. HTTP and the guard come on top.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from controller.agents.chat import TOKEN_CHARACTERS, Ask, Completion, Message
from controller.agents.kit import AgentKit
from controller.agents.prompts import Prompts, to_json
from controller.agents.step import Step
from controller.agents.transcript import Transcript
from controller.bench.laps import Build, Job, Stopwatch, spread, time_lap
from controller.domain.randomness import Streams
from controller.inputs.catalog import template_dir
from controller.store.sqlite import memory_store

Answer = Callable[[Sequence[Message]], Mapping[str, Any]]  # messages -> the reply's content

PARTS: Final = ("prompt", "schema", "reply")


@dataclass
class _Insider:
    """A reasoner of this process, which knows how long it has thought and what it was sent."""

    answer: Answer
    spent_s: float = 0.0
    largest: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # tokens by PARTS
    calls: dict[str, dict[int, int]] = field(default_factory=dict)  # tier -> slot -> calls

    async def complete(self, ask: Ask) -> Completion:
        started_s = time.perf_counter()
        content = to_json(self.answer(ask.messages))
        said = "".join(str(message["content"]) for message in ask.messages)
        sizes = _tokens(said), _tokens(json.dumps(ask.schema)), _tokens(content)
        self.largest[ask.tier] = max(self.largest.get(ask.tier, sizes), sizes)
        slots = self.calls.setdefault(ask.tier, {})
        slots[ask.slot] = slots.get(ask.slot, 0) + 1
        self.spent_s += time.perf_counter() - started_s
        return Completion(content=content, finish="stop", cost_usd=0.0)

    def clock(self) -> float:
        """Time that it has not thought."""
        return time.perf_counter() - self.spent_s


def measure_agents(build: Build, answer: Answer, job: Job) -> dict[str, dict[str, float]]:
    """Return tier -> calls of a decision, own seconds of one call (median over decisions, 95th
    percentile), and estimated tokens of its largest call by part."""
    insider = _Insider(answer)
    store = memory_store()
    kit = AgentKit(
        step=Step(insider, Transcript(io.StringIO(), {}), job.scenario.slot_s, str),
        prompts=Prompts(template_dir() / "prompts"),
        store=store,
        run="bench",
        baseline=_no_baseline,
        rehearse=_no_rehearsal,
        foresee=_no_rehearsal,
        usual_load=_no_load,
    )
    agents = build("MA", job.scenario, Streams(1), {"margin": 0.0}, agents=kit)
    watch = Stopwatch(agents, insider.clock)
    with closing(store):
        time_lap(job, watch.timed())
    found = {}
    for tier, took_s in watch.took_s.items():
        name = tier.removesuffix("s")
        calls = max(insider.calls[name].values())
        found[name] = {
            "calls": calls,
            **{
                f"call_{key}": value / calls
                for key, value in spread(took_s).items()
                if key.endswith("_s")
            },
            **{
                f"{part}_tokens": size
                for part, size in zip(PARTS, insider.largest[name], strict=True)
            },
        }
    return found


def _tokens(text: str) -> int:
    return len(text) // TOKEN_CHARACTERS


async def _no_baseline() -> str:
    return "Random policies were not measured."


def _no_load() -> NoReturn:
    raise AssertionError("the guard is off")


async def _no_rehearsal(*_: object) -> NoReturn:
    raise AssertionError("the tool is off")
