"""A server whose replies fit every schema, pass every check and are terrible.

It answers one or more tiers so, the others as the reference reasoner does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from controller.agents.chat import TOKEN_CHARACTERS
from controller.reference_model.answers import answer
from tests.unit.agents.servers import Reply, Request, completion

Json = dict[str, Any]
Spoil = Callable[[Json, Json, Json], Json]  # reply, observation, context -> a worse reply


def script(kind: str) -> Callable[[Request], Reply]:
    """Return what a server says to edgelm's agents; ``kind``: a name of :data:`KINDS`."""
    spoil = KINDS[kind]

    def reply_to(request: Request) -> Reply:
        messages = request.body["messages"] if request.body else []
        said = "\n".join(str(one["content"]) for one in messages)
        if "<context>" not in said:  # the question before a run
            return Reply(completion('{"ok":true}'))
        context, seen = (_block(said, tag) for tag in ("context", "observation"))
        reply = answer(messages)
        if (worse := spoil.get(context["agent"])) is not None:
            reply = worse(reply, seen, context)
        content = json.dumps(reply, separators=(",", ":"))
        tokens = {"prompt_tokens": len(said), "completion_tokens": len(content)}
        usage = {name: count // TOKEN_CHARACTERS for name, count in tokens.items()}
        return Reply(completion(content, usage=usage))

    return reply_to


def down(request: Request) -> Reply:
    """Answer the question before a run, and nothing else sensibly: fallbacks alone."""
    asked = "<context>" in json.dumps(request.body)
    return Reply(completion("I would rather not." if asked else '{"ok":true}'))


def _block(said: str, tag: str) -> Any:
    return json.loads(re.findall(f"<{tag}>(.*?)</{tag}>", said, re.DOTALL)[-1])


def _refuse(reply: Json, seen: Json, context: Json) -> Json:
    del seen, context
    return {lm: dict.fromkeys(row, "refuse") for lm, row in reply.items()}


def _refuse_slowest(reply: Json, seen: Json, context: Json) -> Json:
    """Turn the slowest LM away."""
    del seen
    slow = max(context["lms"], key=lambda lm: _fastest_s(context["lms"][lm]))
    return {lm: dict.fromkeys(row, "refuse") if lm == slow else row for lm, row in reply.items()}


def _fastest_s(lm: Json) -> float:
    return min(min(points.values()) for points in lm["seconds_per_prompt"].values())


def _herd(reply: Json, seen: Json, context: Json) -> Json:
    """Send all of an LM to the first node that may run it."""
    del context
    may = {lm: [n for n, role in seen["policy"]["roles"].items() if lm in role] for lm in reply}
    up = {lm: [n for n in nodes if n not in seen["nodes_down"]] for lm, nodes in may.items()}
    return {
        lm: dict.fromkeys(row, up[lm][0]) if up[lm] else row for lm, row in reply.items()
    }  # fmt: skip


def _off(reply: Json, seen: Json, context: Json) -> Json:
    del seen, context
    return {lm: {"mode": "off", "cores": 0.0, "vgpus": 0} for lm in reply}


def _flip(reply: Json, seen: Json, context: Json) -> Json:
    return _off(reply, seen, context) if seen["slot"] % 2 and not seen["blocked"] else reply


def _restart(reply: Json, seen: Json, context: Json) -> Json:
    """Give each CPU pod other cores in every slot."""
    del context
    if seen["blocked"]:
        return reply
    less = 0.5 + 0.4 * (seen["slot"] % 2)
    return {
        lm: {**pod, "cores": pod["cores"] * less if pod["mode"] == "cpu" else pod["cores"]}
        for lm, pod in reply.items()
    }


def _starve(reply: Json, seen: Json, context: Json) -> Json:
    """Run all that can on a tenth of a core."""
    if seen["blocked"]:
        return reply
    slow = {"mode": "cpu", "cores": 0.1, "vgpus": 0}
    on_cpu = {lm for lm in reply if not context["lms"][lm]["gpu_only"]}
    off = {"mode": "off", "cores": 0.0, "vgpus": 0}
    return {
        lm: (slow if lm in on_cpu else pod) if lm in seen["role"] else off
        for lm, pod in reply.items()
    }


def _one_node(reply: Json, seen: Json, context: Json) -> Json:
    """Leave all to the first node that can run most LMs."""
    up = [node for node in reply["roles"] if node not in seen["nodes_down"]]
    hosts = {node: [lm for lm in reply["routing"] if node in reply["routing"][lm]] for node in up}
    best = max(hosts, key=lambda node: len(hosts[node]))
    del context
    routing = {
        lm: {node: float(node == best) for node in shares}
        if best in shares else shares for lm, shares in reply["routing"].items()
    }  # fmt: skip
    return {
        **reply,
        "routing": routing,
        "roles": {node: hosts[best] if node == best else [] for node in reply["roles"]},
    }


def _churn(reply: Json, seen: Json, context: Json) -> Json:
    """Give every node a single LM, another one in every epoch."""
    turn = seen["slot"] // context["epoch_slots"]
    names = list(reply["routing"])
    roles: dict[str, list[str]] = {}
    for n, node in enumerate(reply["roles"]):
        mine = [lm for lm in names if node in reply["routing"][lm]]
        roles[node] = [mine[(turn + n) % len(mine)]]
    for lm in names:  # every LM keeps one node
        able = [n for n in roles if n in reply["routing"][lm] and n not in seen["nodes_down"]]
        if able and not any(lm in roles[node] for node in able):
            roles[able[turn % len(able)]].append(lm)
    up = {lm: [n for n in roles if lm in roles[n] and n not in seen["nodes_down"]] for lm in names}
    routing = {
        lm: {node: float(node == up[lm][0]) for node in shares} if up[lm] else shares
        for lm, shares in reply["routing"].items()
    }
    return {**reply, "routing": routing, "roles": roles}


def _dream(reply: Json, seen: Json, context: Json) -> Json:
    """Forecast nothing for the LM that has most to do, and far too much for the others."""
    del seen, context
    loads = {lm: one["requests_per_slot"] for lm, one in reply["forecast"].items()}
    most = max(loads, key=lambda lm: loads[lm])
    forecast = {
        lm: {"requests_per_slot": 0.0 if lm == most else 1e6, "prompts_per_request": 1.0}
        for lm in loads
    }
    return {**reply, "forecast": forecast}


EIGHT: Final[Mapping[str, Mapping[str, Spoil]]] = {
    "refuse": {"scheduler": _refuse},
    "refuse-one": {"scheduler": _refuse_slowest},
    "herd": {"scheduler": _herd},
    "off": {"deployer": _off},
    "flip": {"deployer": _flip},
    "starve": {"deployer": _starve},
    "one-node": {"planner": _one_node, "scheduler": _herd},
    "churn": {"planner": _churn},
}
# Not among the eight for which the guard was made.
OTHERS: Final[Mapping[str, Mapping[str, Spoil]]] = {
    "restart": {"deployer": _restart},
    "dream": {"planner": _dream},
    "all": {"planner": _one_node, "scheduler": _refuse, "deployer": _off},
    "mixed": {"planner": _churn, "scheduler": _herd, "deployer": _flip},
}
KINDS: Final = {**EIGHT, **OTHERS}
