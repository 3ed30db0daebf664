"""The transcript of a run: every call on one line, and the same lines as answers.

A call is known by slot, tier, node and round, and by the digest of all that was asked. Lines are
appended as calls end, so a killed run has lost none; :mod:`controller.agents.lines` reads them.
A text that recurs (system messages, mostly) is written once and then referred to by its digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final, TextIO

import numpy as np

from controller.agents.approval import Approver
from controller.agents.chat import Ask, Completion
from controller.agents.lines import (
    FORMAT,
    ApprovalLine,
    CallLine,
    HeadLine,
    Key,
    NoteLine,
    TextLine,
    read_lines,
)
from controller.agents.prompts import to_json
from controller.domain.decisions import MacroPolicy
from controller.domain.errors import InputError, Permanent

LONG: Final = 200  # characters beyond which a text that recurs is written once

_USAGE = ("took_s", "tokens_in", "tokens_cached", "tokens_out", "cost_usd", "attempts")
_REPLY = ("content", "finish", "refusal", "model", "error", "late")


class Transcript:
    """A log that writes calls to ``out`` and answers those in the ``former`` lines.

    Raises:
        InputError: ``former`` is no transcript.
    """

    def __init__(
        self, out: TextIO | None, head: Mapping[str, Any], former: Iterable[str] = ()
    ) -> None:
        self._out = out
        self._said: set[str] = set()
        self._former: dict[Key, tuple[str, Completion]] = {}
        self._verdicts: dict[int, bool] = {}  # slot -> a person approved
        self._notes: set[str] = set()
        headed = False
        for _, line in read_lines(former):
            match line:
                case HeadLine():
                    headed = True
                case TextLine():
                    self._said.add(line.sha256)
                case CallLine():
                    self._former[line.key] = line.asked, line.completion()
                case NoteLine():
                    self._notes.add(line.text)
                case ApprovalLine():
                    self._verdicts[line.slot] = line.approved
        if not headed:
            self._write({"kind": "head", "format": FORMAT, **head})

    def recall(self, ask: Ask) -> Completion | None:
        """Return the completion from an earlier attempt at this run, or None.

        Raises:
            Permanent: that attempt had asked something else here.
        """
        found = self._former.get((ask.slot, ask.tier, ask.node, ask.round))
        if found is None:
            return None
        asked, completion = found
        if asked != digest(ask):
            raise Permanent(
                f"the transcript does not belong to this run: {_place(ask)} was asked something "
                "else then; to make the run anew, remove it"
            )
        return completion

    def keep(self, ask: Ask, completion: Completion, outcome: str, detail: str) -> None:
        """Write a call, unless it is there already."""
        key = ask.slot, ask.tier, ask.node, ask.round
        if key in self._former:
            return
        self._former[key] = "", completion
        line = {
            "kind": "call",
            "slot": ask.slot,
            "tier": ask.tier,
            "node": ask.node or None,
            "round": ask.round,
            "asked": digest(ask),
            "schema": ask.name,
            "messages": [self._message(message) for message in ask.messages],
            "reply": {name: getattr(completion, name) for name in _REPLY},
            **{name: getattr(completion, name) for name in _USAGE},
            "outcome": outcome,
        }
        if completion.reasoned:
            line["reply"]["reasoned"] = True
        if completion.tool_calls:
            line["reply"]["tool_calls"] = [asdict(call) for call in completion.tool_calls]
        self._write({**line, "detail": detail} if detail else line)

    def note(self, text: str) -> None:
        """Write what the server turned out not to understand, unless it is there already."""
        if text not in self._notes:
            self._notes.add(text)
            self._write({"kind": "note", "text": text})

    def attended(self, approver: Approver | None) -> Approver:
        """Return an approver that asks ``approver`` only where the transcript has no verdict."""
        return _Attended(self, approver)

    async def verdict(self, slot: int, ask: Callable[[], Awaitable[bool]]) -> bool:
        """Return a person's verdict on the policy of a slot, asked for at most once."""
        if slot not in self._verdicts:
            said = await ask()
            if not isinstance(said, bool | np.bool_):  # "no" is true, and so is a coroutine
                raise InputError(
                    "approver", "must return True or False", value=said, remedy="mend the function"
                )
            self._verdicts[slot] = bool(said)
            line = {"kind": "approval", "slot": slot, "approved": self._verdicts[slot]}
            self._write(line)
        return self._verdicts[slot]

    def _message(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        content = message.get("content") or ""
        if message["role"] != "system" and not (len(content) > LONG and message["role"] != "user"):
            return message
        sha256 = hashlib.sha256(content.encode()).hexdigest()
        if sha256 not in self._said:
            self._said.add(sha256)
            self._write({"kind": "text", "sha256": sha256, "content": content})
        return {**message, "content": {"sha256": sha256}}

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._out is not None:
            self._out.write(to_json(line) + "\n")
            self._out.flush()


class _Attended:
    """An approver whose verdicts are written down."""

    def __init__(self, transcript: Transcript, approver: Approver | None) -> None:
        self._transcript = transcript
        self._approver = approver

    async def approve(
        self, slot: int, policy: MacroPolicy, held: MacroPolicy | None, reason: str
    ) -> bool:
        async def ask() -> bool:
            if self._approver is None:
                raise Permanent(f"nobody is there to approve the policy of slot {slot}")
            return await self._approver.approve(slot, policy, held, reason)

        return await self._transcript.verdict(slot, ask)


class Silent:
    """The reasoner of a replay: nobody is there to be asked."""

    async def complete(self, ask: Ask) -> Completion:
        raise Permanent(
            f"the transcript ends before round {ask.round} of {_place(ask)}: it cannot make this "
            "run again"
        )


def _place(ask: Ask) -> str:
    who = f"{ask.tier} of {ask.node}" if ask.node else ask.tier
    return f"slot {ask.slot}'s {who}"


def digest(ask: Ask) -> str:
    """Return the SHA-256 of a question, in 16 hex digits."""
    messages, tools = to_json(list(ask.messages)), to_json(list(ask.tools))
    asked = f"[{messages},{to_json(ask.name)},{ask.form.text},{tools}]"
    return hashlib.sha256(asked.encode()).hexdigest()[:16]
