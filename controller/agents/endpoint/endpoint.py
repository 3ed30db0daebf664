"""A model behind an OpenAI-compatible server: time limit, retries, rate limit and cost are ours."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from controller.agents.chat import TOKEN_CHARACTERS, Ask, Completion, ReplySchema
from controller.agents.endpoint.address import Address, checked_key
from controller.agents.endpoint.answers import Failure, Usage, read_completion
from controller.agents.endpoint.call_time import LATENCY_HEADER, CallTime, WallTime
from controller.agents.endpoint.dialect import (
    OPENAI_LENGTH,
    Dialect,
    Options,
    render_messages,
    render_options,
)
from controller.agents.endpoint.limits import Limiter
from controller.agents.endpoint.loopback import LoopbackTransport, OwnServer
from controller.agents.endpoint.prices import Prices
from controller.agents.endpoint.transport import Transport
from controller.domain.decisions import plus

ATTEMPTS: Final = 6
CHECK_S: Final = 60.0  # of a model on a slow machine, which may have to load first
BACKOFF_S: Final = 0.5  # at most, before the second attempt; doubles with each
LONGEST_BACKOFF_S: Final = 8.0
OPENINGS: Final = 1000  # kept at a time
_PLAIN: Final = Dialect()

Tools = Sequence[Mapping[str, Any]]


def _say_nothing(_words: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Models:
    """Which model answers which tier."""

    planner: str
    scheduler: str
    deployer: str

    def of(self, tier: str) -> str:
        return str(getattr(self, tier))


@dataclass(frozen=True, slots=True)
class _Opening:
    """The part of a request that stays the same from slot to slot."""

    dialect: Dialect
    tools: object
    text: str

    def serves(self, dialect: Dialect, ask: Ask) -> bool:
        return self.dialect is dialect and self.tools == ask.tools


@dataclass(slots=True)
class _Call:
    """One question on its way."""

    ask: Ask
    model: str
    watch: WallTime
    most: int  # attempts
    attempts: int = 0
    dialect: Dialect = _PLAIN
    body: bytes = b""
    paid: list[Usage] = field(default_factory=list)  # of attempts that brought no reply


class Endpoint:
    """Implements :class:`controller.agents.chat.ChatModel`. Belongs to the event loop of its
    first question, until :meth:`close`.

    Args:
        now_s: clock of measured time.
        note: called with what the server turns out not to understand, beside ``notes``.
        own: the server, if this run has started it. It needs no key, and is started anew when lost.

    Raises:
        InputError: the address or the key cannot be right.
    """

    def __init__(
        self,
        url: str,
        models: Models,
        *,
        key: str,
        prices: Prices,
        limits: Limiter | None = None,
        call_time: CallTime = WallTime,
        temperature: float | None = None,
        reasoning_effort: str | None = None,
        max_tokens: int | None = None,
        seed: int = 0,
        now_s: Callable[[], float] = time.perf_counter,
        own: OwnServer | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self.address = Address.of(url)
        key = checked_key(key, self.address)
        self.models, self.has_key = models, bool(key)
        self.transport = LoopbackTransport(own) if own else Transport(self.address, key)
        self.notes: list[str] = []
        self._note = note or _say_nothing
        self._prices, self._limits, self._call_time = prices, limits or Limiter(), call_time
        self._now_s = now_s
        self._options = Options(temperature, reasoning_effort, max_tokens)
        self._seed = seed
        self._plain = Dialect(lengths=(OPENAI_LENGTH,)) if self.address.is_openai else _PLAIN
        self._dialects: dict[str, Dialect] = {}
        self._openings: dict[tuple[str, ReplySchema, bool], _Opening] = {}

    async def complete(self, ask: Ask) -> Completion:
        """Return the reply to ``ask`` within ``ask.limit_s``. Faults of the other side are data."""
        completion, _ = await self.exchange(ask)
        return completion

    async def check(
        self, limit_s: float = CHECK_S, tools: Tools = (), say: Callable[[str], None] = _say_nothing
    ) -> None:
        """Ask every model something tiny within ``limit_s``, before a run depends on it.

        ``tools``: those that the planner will be offered; ``say`` is called with what takes long.

        Raises:
            InputError: key, model or address are wrong; says what to do.
            Permanent: the server is there and cannot answer.
        """
        from controller.agents.endpoint.health import check_endpoint

        await check_endpoint(self, limit_s, tools, say)

    async def close(self) -> None:
        await self.transport.close()

    async def exchange(self, ask: Ask, most: int = ATTEMPTS) -> tuple[Completion, Failure | None]:
        """Return the completion, and the failure that it stands for, if any."""
        self.transport.open()  # before the clock starts: the first import takes a second
        call = _Call(ask, self.models.of(ask.tier), self._call_time(ask.limit_s, self._now_s), most)
        while True:
            self._render(call)
            result = await self._attempt(call)
            if isinstance(result, Completion):
                return self._close_books(call, result), None
            if not self._adapt(call, result):
                final = await self._hold_off(call, result)
                if final is not None:
                    return self._close_books(call, self._stand_in(call, final)), final

    async def _attempt(self, call: _Call) -> Completion | Failure:
        watch, estimated = call.watch, len(call.body) / TOKEN_CHARACTERS
        began_s = self._now_s()
        await self._limits.admit(estimated)
        watch.excuse(self._now_s() - began_s)
        while watch.shares_pauses and (pause_s := self._limits.paused_s()):
            if pause_s > watch.left_s():
                return Failure("the server has asked for a pause", wait_s=pause_s)
            await watch.wait(pause_s)
        call.attempts += 1
        began_s = self._now_s()
        answer = await self.transport.post(
            "/chat/completions", call.body, watch.patience_s(), call.attempts
        )
        if isinstance(answer, Failure):
            watch.charge(answer.declared, 0.0)
            return answer
        watch.charge(answer.headers.get(LATENCY_HEADER), self._now_s() - began_s)
        found = read_completion(answer.body, call.model, self._prices, answer.headers)
        if isinstance(found, Failure):
            if found.usage is not None:
                call.paid.append(found.usage)
            return found
        if found.tokens_in is not None and found.tokens_out is not None:  # else the estimate stands
            self._limits.correct(estimated, found.tokens_in + found.tokens_out)
        return found

    def _render(self, call: _Call) -> None:
        ask, key = call.ask, (call.model, call.ask.form, bool(call.ask.tools))
        dialect = self._dialects.get(call.model, self._plain)
        opening = self._openings.get(key)
        if opening is None or not opening.serves(dialect, ask):
            text = render_options(dialect, self._options, call.model, ask)
            if len(self._openings) >= OPENINGS:
                self._openings.clear()
            opening = self._openings[key] = _Opening(dialect, ask.tools, text)
        call.dialect = dialect
        call.body = f'{{{opening.text},"messages":{render_messages(dialect, ask)}}}'.encode()

    def _adapt(self, call: _Call, failure: Failure) -> bool:
        """Leave out an option that the server refused; return True if there was one. Then the
        attempt is no failed one. Another call may have come to the same conclusion since this
        one was sent."""
        weaker = call.dialect.without(failure, self._options, call.ask)
        if weaker is None or call.watch.left_s() <= 0:
            return False
        if self._dialects.get(call.model, self._plain) is call.dialect:
            self._speak(call.model, weaker, failure)
        call.attempts -= 1
        return True

    async def descend(self, ask: Ask, failure: Failure) -> Completion | None:
        """Ask again with one thing less at a time, after a refusal that names nothing. Keep to the
        first form that is answered; return its completion, or None if every one is refused."""
        model = self.models.of(ask.tier)
        former = self._dialects.get(model, self._plain)
        for weaker in former.alternatives(self._options, ask):
            self._dialects[model] = weaker
            completion, refused = await self.exchange(ask, most=1)
            if refused is None and not completion.late:
                self._dialects[model] = former
                self._speak(model, weaker, failure)
                return completion
        self._dialects[model] = former
        return None

    def may_descend(self, failure: Failure) -> bool:
        """Return False if the refusal names an option that the user has given, which is to be
        corrected and not left out."""
        return not self._plain.blamed(failure, self._options)

    def given(self) -> list[str]:
        """Return the options that the user has given, in words."""
        options = asdict(self._options)
        return [name.replace("_", " ") for name, value in options.items() if value is not None]

    def _speak(self, model: str, weaker: Dialect, failure: Failure) -> None:
        """Use another dialect from now on, and note why."""
        former = self._dialects.get(model, self._plain)
        self._dialects[model] = weaker
        self.notes.append(f"{model}: {weaker.difference(former)} ({failure.error})")
        self._note(self.notes[-1])

    async def _hold_off(self, call: _Call, failure: Failure) -> Failure | None:
        """Wait for the next attempt and return None, or return the failure to end with."""
        watch, left_s = call.watch, call.watch.left_s()
        if failure.status == 429 and failure.wait_s is not None and watch.shares_pauses:
            self._limits.pause(failure.wait_s)
        if not failure.passing or call.attempts >= call.most:
            return failure
        if failure.wait_s is None:
            wait_s = self._backoff_s(call)
            said = ""
        else:
            wait_s = failure.wait_s
            said = f" (the server wants {wait_s:g} s, of which {max(0.0, left_s):.1f} s are left)"
        if wait_s >= left_s:
            return replace(failure, error=failure.error + said)
        await watch.wait(wait_s)
        return None

    def _backoff_s(self, call: _Call) -> float:
        """Return an exponential back-off with full jitter, drawn for this call alone: runs must
        not depend on the order of concurrent calls."""
        longest_s = min(LONGEST_BACKOFF_S, BACKOFF_S * 2.0 ** (call.attempts - 1))
        ask = call.ask
        seed = f"{self._seed}:{ask.slot}:{ask.tier}:{ask.node}:{ask.round}:{call.attempts}"
        return random.Random(seed).uniform(0.0, longest_s)  # noqa: S311 no secret hangs on it

    def _stand_in(self, call: _Call, failure: Failure) -> Completion:
        cost_usd = 0.0 if self._prices.of(call.model) else None
        return Completion(
            model=call.model, error=failure.error, late=failure.late, cost_usd=cost_usd
        )

    def _close_books(self, call: _Call, completion: Completion) -> Completion:
        """Return the completion with time, attempts and what lost attempts took; without content if
        it came too late."""
        watch = call.watch
        for usage in call.paid:
            completion = replace(
                completion,
                tokens_in=plus(completion.tokens_in, usage.tokens_in or 0),
                tokens_out=plus(completion.tokens_out, usage.tokens_out or 0),
                cost_usd=plus(completion.cost_usd, usage.cost_usd or 0.0),
            )
        if not completion.late and watch.left_s() >= 0:
            return replace(completion, took_s=watch.took_s(), attempts=call.attempts)
        return replace(
            completion,
            content="",
            refusal="",
            tool_calls=(),
            late=True,
            error=completion.error or "no reply before the limit",
            took_s=watch.late_s(),
            attempts=call.attempts,
        )
