"""Names <-> arrays, once.

Inside, rows and columns are numbers; on every wire (files, HTTP, prompts) nodes and LMs have names.

``*_to_wire`` returns plain JSON values, ``*_from_wire`` reads them back: the same numbers bit for
bit, since JSON keeps every digit of a float. What cannot have been sent is refused as a whole
(InvalidDecision), never repaired. Nothing of a prompt or a result is ever part of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from controller.domain.decisions import (
    REFUSE,
    Demand,
    Deployment,
    InForce,
    MacroPolicy,
    Orders,
    RoutingPlan,
    Stamp,
)
from controller.domain.errors import InvalidDecision
from controller.domain.state import CPU, GPU, MODES, OFF, STATES, UNKNOWN, ClusterState, Telemetry
from controller.domain.testbed import Testbed

Json = dict[str, Any]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
P = ParamSpec("P")
R = TypeVar("R")

# The JSON types of an array's numbers.
_KINDS: Final[Mapping[Any, tuple[type, ...]]] = {
    np.bool_: (bool,), np.int64: (int,), np.float64: (int, float),
}  # fmt: skip
_MOST_GPUS: Final = 63  # bits of a mask
# Reading JSON of another shape than was sent raises one of these.
_MISREAD: Final = (AttributeError, LookupError, TypeError, ValueError, OverflowError)

# Fields of a state: one value per node, one per pod. Codes and GPU masks have wire forms of their
# own.
_OF_NODE: Final = {
    "up": np.bool_,
    "heard_s": np.float64,
    "want_slot": np.int64,
    "free_cores": np.float64,
    "free_ram_gb": np.float64,
    "free_vgpus": np.int64,
}
_OF_POD: Final = {
    "backlog": np.int64,
    "mode": np.int64,
    "cores": np.float64,
    "vgpus": np.int64,
    "cards": np.int64,
    "pod": np.int64,
    "want_mode": np.int64,
    "want_cores": np.float64,
    "want_vgpus": np.int64,
    "arrived_prompts": np.int64,
    "arrived_requests": np.int64,
    "busy_s": np.float64,
}
_CODES: Final[Mapping[str, Sequence[str]]] = {"mode": MODES, "want_mode": MODES, "pod": STATES}
_OUTCOMES: Final = {
    "arrived_requests": np.int64,
    "arrived_prompts": np.int64,
    "succeeded": np.int64,
    "failed": np.int64,
    "latency_sum_s": np.float64,
}


def _strict(read: Callable[P, R]) -> Callable[P, R]:
    """Return ``read``, raising InvalidDecision for whatever it cannot read."""

    @wraps(read)
    def strictly(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return read(*args, **kwargs)
        except _MISREAD as error:
            problem = f"{type(error).__name__}: {error}"
            raise InvalidDecision(
                f"the message has another shape than expected: {problem}"
            ) from error

    return strictly


# Decisions


def intent_to_wire(testbed: Testbed, policy: MacroPolicy, digits: int | None = None) -> Json:
    """Return a policy's shares above zero by LM and its roles by node, as decisions.jsonl has them.

    ``digits``: round shares, for readers that pay by the token.
    """
    nodes, lms = testbed.node_names, testbed.lm_names
    return {
        "routing": {
            lm: {
                node: share if digits is None else round(share, digits)
                for node, share in zip(nodes, column, strict=True)
                if share > 0
            }
            for lm, column in zip(lms, policy.routing.T.tolist(), strict=True)
        },
        "roles": {
            node: [lm for lm, may in zip(lms, row, strict=True) if may]
            for node, row in zip(nodes, policy.roles.tolist(), strict=True)
        },
    }


@_strict
def intent_from_wire(
    testbed: Testbed, wire: Mapping[str, Any], demand: Demand | None = None
) -> MacroPolicy:
    """Return the policy of these shares and roles; a node without a share gets none.

    Raises:
        InvalidDecision: a node or LM is unknown or has no entry, or a value cannot be.
    """
    nodes, lms = testbed.node_names, testbed.lm_names
    _check_names("LM", lms, wire["routing"])
    _check_names("node", nodes, wire["roles"])
    for shares in wire["routing"].values():
        _check_names("node", nodes, shares)
    for mine in wire["roles"].values():
        _check_names("LM", lms, mine)
    shares = [[_entry(wire["routing"], lm).get(node, 0.0) for lm in lms] for node in nodes]
    return MacroPolicy(
        routing=_table(np.float64, shares, len(lms), least=0),
        roles=np.array([[lm in _entry(wire["roles"], node) for lm in lms] for node in nodes], bool),
        demand=demand,
    )


def policy_to_wire(testbed: Testbed, policy: MacroPolicy) -> Json:
    """Return all of a policy: intent, the demand that it was made for, the share served."""
    demand = policy.demand
    return {
        **intent_to_wire(testbed, policy),
        "demand": demand
        and {
            "requests": _by_lm(testbed, demand.requests),
            "prompts": _by_lm(testbed, demand.prompts),
        },
        "served": None if policy.served is None else _by_lm(testbed, policy.served),
    }


@_strict
def policy_from_wire(testbed: Testbed, wire: Json) -> MacroPolicy:
    """Return the policy that was sent.

    Raises:
        InvalidDecision: a node or LM is unknown or has no entry, or a value cannot be.
    """
    demand, served = wire["demand"], wire["served"]
    sent = intent_from_wire(testbed, wire)
    return MacroPolicy(
        sent.routing,
        sent.roles,
        None
        if demand is None
        else Demand(_of_lms(testbed, demand["requests"]), _of_lms(testbed, demand["prompts"])),
        None if served is None else _of_lms(testbed, served),
    )


def plan_to_wire(testbed: Testbed, plan: RoutingPlan) -> Json:
    """Return LM -> origin -> destination, null where refused."""
    nodes = testbed.node_names
    name = {REFUSE: None, **dict(enumerate(nodes))}
    return {
        lm: {origin: name[to] for origin, to in zip(nodes, column, strict=True)}
        for lm, column in zip(testbed.lm_names, plan.destination.T.tolist(), strict=True)
    }


@_strict
def plan_from_wire(testbed: Testbed, wire: Json) -> RoutingPlan:
    """Return the plan that was sent.

    Raises:
        InvalidDecision: a node or LM is unknown or has no entry, or a value cannot be.
    """
    nodes, lms = testbed.node_names, testbed.lm_names
    _check_names("LM", lms, wire)
    row: dict[str | None, int] = {None: REFUSE, **{node: n for n, node in enumerate(nodes)}}
    destination = np.zeros((len(nodes), len(lms)), np.int64)
    for i, lm in enumerate(lms):
        for n, origin in enumerate(nodes):
            to = _entry(_entry(wire, lm), origin)
            _check_names("node", row, [to])
            destination[n, i] = row[to]
    return RoutingPlan(destination)


def pods_to_wire(testbed: Testbed, mode: Ints, cores: Floats, vgpus: Ints) -> Json:
    """Return the desired pods (I,) of a node by LM; one that is absent is off."""
    pods: Json = {}
    columns = zip(testbed.lm_names, mode.tolist(), cores.tolist(), vgpus.tolist(), strict=True)
    for lm, device, held, slices in columns:
        if device == CPU:
            pods[lm] = {"mode": MODES[device], "cores": held}
        elif device != OFF:
            pods[lm] = {"mode": MODES[GPU], "cores": held, "vgpus": slices}
    return pods


def deployment_to_wire(testbed: Testbed, rows: Ints, deployment: Deployment) -> Json:
    """Return node -> LM -> desired pod of the nodes ``rows``."""
    nodes, made = testbed.node_names, deployment
    return {
        nodes[n]: pods_to_wire(testbed, made.mode[k], made.cores[k], made.vgpus[k])
        for k, n in enumerate(rows.tolist())
    }


@_strict
def deployment_from_wire(testbed: Testbed, rows: Ints, wire: Json) -> Deployment:
    """Return the deployment of the nodes ``rows`` that was sent.

    Raises:
        InvalidDecision: a node, LM or mode is unknown, a node has no entry, or a value cannot be.
    """
    nodes, lms = testbed.node_names, testbed.lm_names
    absent = {"mode": MODES[OFF], "cores": 0}
    columns: Json = {"mode": [], "cores": [], "vgpus": []}
    for n in rows.tolist():
        pods = _entry(wire, nodes[n])
        _check_names("LM", lms, pods)
        wanted = [pods.get(lm, absent) for lm in lms]
        _check_names("mode", MODES, [pod["mode"] for pod in wanted])
        columns["mode"].append([MODES.index(pod["mode"]) for pod in wanted])
        columns["cores"].append([pod["cores"] for pod in wanted])
        columns["vgpus"].append(
            [pod["vgpus"] if pod["mode"] == MODES[GPU] else 0 for pod in wanted]
        )
    return Deployment(
        mode=_table(np.int64, columns["mode"], len(lms)),
        cores=_table(np.float64, columns["cores"], len(lms), least=0),
        vgpus=_table(np.int64, columns["vgpus"], len(lms), least=0),
    )


def orders_to_wire(testbed: Testbed, orders: Orders) -> Json:
    """Return orders as they travel to the nodes."""
    one = orders.in_force
    return {
        "slot": orders.stamp.slot,
        "sequence": orders.stamp.sequence,
        "policy": policy_to_wire(testbed, one.policy),
        "policy_slot": one.policy_slot,
        "plan": None if one.plan is None else plan_to_wire(testbed, one.plan),
        "plan_slot": one.plan_slot,
        "final": orders.final,
    }


@_strict
def orders_from_wire(testbed: Testbed, wire: Json) -> Orders:
    """Return the orders that were sent.

    Raises:
        InvalidDecision: a node or LM is unknown or has no entry, or a value cannot be.
    """
    in_force = InForce(
        policy=policy_from_wire(testbed, wire["policy"]),
        policy_slot=_slot(wire["policy_slot"], least=0),
        plan=None if wire["plan"] is None else plan_from_wire(testbed, wire["plan"]),
        plan_slot=_slot(wire["plan_slot"]),
    )
    stamp = Stamp(_slot(wire["slot"], least=0), _slot(wire["sequence"], least=0))
    return Orders(stamp, in_force, _array(np.bool_, [wire["final"]]).item())


# Telemetry


def state_to_wire(testbed: Testbed, state: ClusterState) -> Json:
    """Return the rows of a state by node, with their pods by LM."""
    of_node = {name: getattr(state, name).tolist() for name in _OF_NODE}
    of_pod = {name: getattr(state, name).tolist() for name in _OF_POD}
    nodes = {}
    for k, n in enumerate(state.rows.tolist()):
        pods = {
            lm: {name: _to_wire(name, values[k][i]) for name, values in of_pod.items()}
            for i, lm in enumerate(testbed.lm_names)
        }
        values = {name: column[k] for name, column in of_node.items()}
        nodes[testbed.node_names[n]] = {**values, "pods": pods}
    return {"time_s": state.time_s, "slot": state.slot, "nodes": nodes}


@_strict
def state_from_wire(testbed: Testbed, wire: Json) -> ClusterState:
    """Return the state that was sent, rows in the testbed's order.

    Raises:
        InvalidDecision: a node or LM is unknown or has no entry, or a value cannot be.
    """
    names, lms, nodes = testbed.node_names, testbed.lm_names, wire["nodes"]
    _check_names("node", names, nodes)
    rows = [n for n, name in enumerate(names) if name in nodes]
    sent = [nodes[names[n]] for n in rows]
    of_node: Json = {
        name: _array(dtype, [one[name] for one in sent]) for name, dtype in _OF_NODE.items()
    }
    of_pod: Json = {
        name: _table(
            dtype,
            [[_from_wire(name, _entry(one["pods"], lm)[name]) for lm in lms] for one in sent],
            len(lms),
        )
        for name, dtype in _OF_POD.items()
    }
    return ClusterState(
        time_s=_array(np.float64, [wire["time_s"]]).item(),
        slot=_slot(wire["slot"]),
        rows=np.array(rows, np.int64),
        **of_node,
        **of_pod,
    )


def telemetry_to_wire(testbed: Testbed, telemetry: Telemetry) -> Json:
    """Return the outcomes of a window by LM."""
    lms = {
        lm: {name: getattr(telemetry, name)[i].item() for name in _OUTCOMES}
        for i, lm in enumerate(testbed.lm_names)
    }
    return {"first_slot": telemetry.first_slot, "last_slot": telemetry.last_slot, "lms": lms}


@_strict
def telemetry_from_wire(testbed: Testbed, wire: Json) -> Telemetry:
    """Return the outcomes that were sent.

    Raises:
        InvalidDecision: an LM is unknown or has no entry, or a value cannot be.
    """
    lms = testbed.lm_names
    _check_names("LM", lms, wire["lms"])
    columns: Json = {
        name: _array(dtype, [_entry(wire["lms"], lm)[name] for lm in lms])
        for name, dtype in _OUTCOMES.items()
    }
    return Telemetry(_slot(wire["first_slot"]), _slot(wire["last_slot"]), **columns)


def gpus_of(mask: int) -> list[int] | None:
    """Return the GPUs of a pod's mask, None if the device plugin does not report them."""
    return None if mask == UNKNOWN else [g for g in range(mask.bit_length()) if mask >> g & 1]


def mask_of(gpus: Sequence[int] | None) -> int:
    """Return the mask of a pod's GPUs, UNKNOWN if they are not reported."""
    return UNKNOWN if gpus is None else sum(1 << g for g in gpus)


def _to_wire(field: str, value: Any) -> Any:
    if field in _CODES:
        return _CODES[field][value]
    return gpus_of(value) if field == "cards" else value


def _from_wire(field: str, value: Any) -> Any:
    if field in _CODES:
        _check_names(field, _CODES[field], [value])
        return _CODES[field].index(value)
    if field == "cards":
        if value is not None:
            _check_names("GPU", range(_MOST_GPUS), value)
        return mask_of(value)
    return value


def _array(dtype: Any, sent: list[Any], least: float = -np.inf) -> NDArray[Any]:
    """Return the numbers that were sent.

    Raises:
        InvalidDecision: one is of another kind, not finite or below ``least``.
    """
    for value in sent:
        if type(value) not in _KINDS[dtype] or not least <= value < np.inf:
            kind = " or ".join(one.__name__ for one in _KINDS[dtype])
            raise InvalidDecision(f"{value!r} is no finite {kind} of {least:g} or more")
    return np.array(sent, dtype)


def _table(dtype: Any, sent: list[list[Any]], lms: int, least: float = -np.inf) -> NDArray[Any]:
    """Return the numbers that were sent by node and LM."""
    rows = [_array(dtype, row, least) for row in sent]
    return np.array(rows, dtype).reshape(len(rows), lms)


def _slot(sent: Any, least: int = -1) -> int:
    return int(_array(np.int64, [sent], least).item())


def _by_lm(testbed: Testbed, values: Floats) -> dict[str, float]:
    return dict(zip(testbed.lm_names, values.tolist(), strict=True))


def _of_lms(testbed: Testbed, wire: Json) -> Floats:
    _check_names("LM", testbed.lm_names, wire)
    return _array(np.float64, [_entry(wire, lm) for lm in testbed.lm_names], least=0)


def _entry(wire: Json, name: str) -> Any:
    if name not in wire:
        raise InvalidDecision(f"{name} has no entry; there is one for {', '.join(wire) or 'none'}")
    return wire[name]


def _check_names(kind: str, known: Any, given: Any) -> None:
    for name in given:
        if name not in known:
            choices = ", ".join(str(one) for one in known)
            raise InvalidDecision(f"{name!r} is no {kind} of the testbed; it has {choices}")
