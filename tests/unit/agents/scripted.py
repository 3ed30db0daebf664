"""A reasoner that is told what to say, and what agents have said to it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any, Final

from controller.agents.chat import Ask, Completion
from controller.agents.prompts import Prompts
from controller.agents.step import Step
from controller.domain.errors import Permanent
from controller.inputs.catalog import template_dir

PROMPTS: Final = Prompts(template_dir() / "prompts")

Reply = Callable[[Ask], Completion]


class Unrecorded:
    """A transcript that keeps nothing."""

    def recall(self, ask: Ask) -> Completion | None:
        del ask
        return None

    def keep(self, ask: Ask, completion: Completion, outcome: str, detail: str) -> None:
        del ask, completion, outcome, detail


class Scripted:
    """Answers each question as ``reply`` says and keeps it."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asks: list[Ask] = []

    async def complete(self, ask: Ask) -> Completion:
        self.asks.append(ask)
        return self.reply(ask)

    def step(self, limit_s: float) -> Step:
        return Step(self, Unrecorded(), limit_s, "Wrong: {}.".format)


class Broken(Scripted):
    """One node's question cannot be asked; the others' are never answered."""

    def __init__(self, node: str) -> None:
        super().__init__(lambda _: Completion())
        self.node, self.stopped = node, list[str]()

    async def complete(self, ask: Ask) -> Completion:
        if ask.node == self.node:
            raise Permanent("there is nobody to ask")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.stopped.append(ask.node)
            raise
        raise AssertionError("nobody answers")


def says(value: object, **fields: Any) -> Completion:
    """A reply that took a second, 110 tokens and half a dollar."""
    usage = {"took_s": 1.0, "tokens_in": 100, "tokens_out": 10, "cost_usd": 0.5, "finish": "stop"}
    return Completion(content=json.dumps(value), **{**usage, **fields})


def fails(**fields: Any) -> Completion:
    return Completion(error="HTTP 500: down", took_s=1.0, **fields)


def observed(ask: Ask) -> Any:
    """The present, as the model was told."""
    return _block(ask, 1, "observation")


def context(ask: Ask) -> Any:
    """What it was told once and for all."""
    return _block(ask, 0, "context")


def _block(ask: Ask, message: int, tag: str) -> Any:
    (found,) = re.findall(f"<{tag}>(.*)</{tag}>", str(ask.messages[message]["content"]), re.DOTALL)
    return json.loads(found)
