"""ReplyFaults of a reasoner, at given rates: what agents must survive."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from controller.domain.errors import InputError
from controller.reference_model.completions import HttpReply, Latency, body_of, failure, tokens

Spoiler = Callable[
    [HttpReply, Latency, float], HttpReply
]  # the good reply, latency, a draw in [0, 1)

SLOW_S: Final = (10.0, 60.0)  # added; of a slot of 30 s some survive
HANG_S: Final = 3600.0


def _content(reply: HttpReply, change: Callable[[str], str], finish: str = "stop") -> HttpReply:
    """Return the good reply with its text changed."""
    data = json.loads(reply.body)
    text = change(data["choices"][0]["message"].get("content") or "")
    body = body_of({"content": text}, data["usage"]["prompt_tokens"], tokens(text), finish)
    return replace(reply, body=body)


def _infeasible(text: str) -> str:
    """Return a text that is well-formed and against the rules: shares that sum to 3, pods beyond
    all budgets."""
    try:
        data = json.loads(text)
    except ValueError:
        return text
    if "routing" in data:
        for shares in data["routing"].values():
            shares.update({node: share * 3 for node, share in shares.items()})
    elif all(isinstance(pod, dict) and "mode" in pod for pod in data.values()):
        for pod in data.values():
            pod.update(mode="gpu", vgpus=99)
    else:
        for table in data.values():
            table.update(dict.fromkeys(table, "nowhere"))
    return json.dumps(data)


def _refusal(reply: HttpReply) -> HttpReply:
    data = json.loads(reply.body)
    message = {"content": None, "refusal": "I can't help with that."}
    return replace(reply, body=body_of(message, data["usage"]["prompt_tokens"], 8, "stop"))


SPOILERS: Final[Mapping[str, Spoiler]] = {
    "malformed": lambda r, _l, d: _content(r, lambda t: t[: max(1, int(len(t) * d))] + ' "'),
    "schema": lambda r, _l, _d: _content(r, lambda _: '{"decision":"as before"}'),
    "infeasible": lambda r, _l, _d: _content(r, _infeasible),
    "refusal": lambda r, _l, _d: _refusal(r),
    "empty": lambda r, _l, _d: _content(r, lambda _: ""),
    "length": lambda r, _l, d: _content(r, lambda t: t[: int(len(t) * d)], "length"),
    "prose": lambda r, _l, _d: _content(r, lambda t: f"Here is my plan:\n```json\n{t}\n```\nDone."),
    "429": lambda _r, lat, d: failure(
        429, "rate limit reached", lat, code="rate_limit_exceeded",
        headers={"retry-after": str(1 + int(40 * d))},
    ),
    "500": lambda _r, lat, _d: failure(500, "the server had an error", lat),
    "slow": lambda r, _l, d: replace(
        r, latency_s=r.latency_s + SLOW_S[0] + d * (SLOW_S[1] - SLOW_S[0])
    ),
    "hang": lambda r, _l, _d: replace(r, latency_s=HANG_S),
    "drop": lambda r, _l, _d: replace(r, status=0),
}  # fmt: skip
ALL: Final = "all"


@dataclass(frozen=True)
class ReplyFaults:
    """Rates by kind; they sum to 1 at most. Draws follow from the seed, the request's content and
    which attempt it is, so a run meets the same faults whenever it is made."""

    rates: Mapping[str, float]
    seed: int = 0
    _seen: dict[bytes, int] = field(default_factory=dict)

    def spoil(
        self,
        raw: bytes,
        request: object,
        latency: Latency,
        good: Callable[[], HttpReply],
        attempt: int | None = None,
    ) -> HttpReply:
        """Return the reply to a request: good, or spoilt by one fault. Health checks pass.

        ``attempt``: as the client counts, from 1; else the server counts equal requests itself.
        """
        if not self.rates or not _is_agents(request):
            return good()
        digest = hashlib.sha256(raw).digest()
        count = self._seen[digest] = self._seen.get(digest, -1) + 1
        if attempt is not None:
            count = attempt - 1
        stamp = hashlib.sha256(f"{self.seed}:{count}:".encode() + digest).digest()
        which, how = (int.from_bytes(stamp[k : k + 6], "big") / 2**48 for k in (0, 6))
        for name, rate in self.rates.items():
            if which < rate:
                reply = good()
                return SPOILERS[name](reply, latency, how) if reply.status == 200 else reply
            which -= rate
        return good()


NO_FAULTS: Final = ReplyFaults({})


def parse_faults(spec: str, seed: int = 0) -> ReplyFaults:
    """Read ``malformed=0.05,slow=0.1``, or ``all=0.2``: spread evenly over all kinds.

    Raises:
        InputError: an unknown kind, a rate that is none, or rates that sum to more than 1.
    """
    rates: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in spec.split(","))):
        name, sign, number = part.partition("=")
        rate = _rate(number, part) if sign else 0.1
        if name != ALL and name not in SPOILERS:
            raise InputError(
                "reasoner faulty", "no such fault", value=name,
                remedy=f"write KIND=RATE,... with {ALL} or of {', '.join(SPOILERS)}",
            )  # fmt: skip
        names = list(SPOILERS) if name == ALL else [name]
        rates |= {one: rates.get(one, 0.0) + rate / len(names) for one in names}
    if sum(rates.values()) > 1 + 1e-9:
        raise InputError("reasoner faulty", "rates sum to more than 1", value=spec)
    return ReplyFaults(rates, seed)


def _rate(text: str, part: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise InputError("reasoner faulty", "is no rate from 0 to 1", value=part)
    return rate


def _is_agents(request: Any) -> bool:
    messages = request.get("messages") if isinstance(request, dict) else None
    return isinstance(messages, list) and any(
        "<observation>" in str(message.get("content")) for message in messages
        if isinstance(message, dict)
    )  # fmt: skip
