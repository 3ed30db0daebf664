"""Classes of nodes, of one hardware and site each, so that prompts do not grow with the cluster.

A cluster of more than ``LARGE`` nodes is planned and scheduled by class. Within a class, nodes
with one role and one share of the load form a group, such as "300 nodes run LM4".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from controller.agents.checks import MOST_LOAD, SUM_SLACK, PolicyCheck
from controller.agents.replies import Forecast, Format, listed, record
from controller.agents.views import DIGITS, Json, cluster_context, demand_json, pod_json
from controller.domain.decisions import Demand, MacroPolicy
from controller.domain.errors import InvalidDecision
from controller.domain.scenario import Scenario
from controller.domain.state import ClusterState

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LARGE: Final = 16  # nodes; one call decides on each of so many
MOST_GROUPS: Final = 6  # of a class in a prompt; nodes of others count as the largest


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """The classes of a testbed: a name and the rows of each, in order of first appearance."""

    names: tuple[str, ...]
    rows: tuple[Ints, ...]
    hosts: Bools  # (classes, I): a node of the class can run the LM

    def down(self, up: Bools) -> dict[str, int]:
        """Return the number of nodes that are down, by class that has any."""
        pairs = zip(self.names, self.rows, strict=True)
        counts = {name: int(np.count_nonzero(~up[rows])) for name, rows in pairs}
        return {name: count for name, count in counts.items() if count}


def classes_of(scenario: Scenario) -> Classes:
    found: dict[object, list[int]] = {}
    for n, node in enumerate(scenario.testbed.nodes):
        found.setdefault(replace(node, name=""), []).append(n)
    rows = tuple(np.array(one) for one in found.values())
    names = tuple(f"c{k}" for k in range(1, len(rows) + 1))
    return Classes(names, rows, scenario.hosts()[[int(one[0]) for one in rows]])


def class_context(scenario: Scenario, agent: str, classes: Classes) -> Json:
    """Return the static context with classes in place of nodes: how many nodes each has."""
    whole = cluster_context(scenario, agent)
    by_name = {name: group for group in whole.pop("nodes") for name in group["names"]}
    described = {}
    for name, rows in zip(classes.names, classes.rows, strict=True):
        facts = dict(by_name[scenario.testbed.node_names[int(rows[0])]])
        del facts["names"]
        described[name] = {"nodes": len(rows), **facts}
    return {**whole, "classes": described}


def class_policy_json(scenario: Scenario, classes: Classes, policy: MacroPolicy) -> Json:
    """Return a policy by class: its groups, largest first, each with its nodes' number and the
    share of each LM of its role; and the forecast."""
    lms = scenario.testbed.lm_names
    groups = {
        name: [
            {
                "nodes": len(rows),
                "lms": [
                    {"lm": lm, "share": round(float(policy.routing[rows, i].sum()), DIGITS)}
                    for i, lm in enumerate(lms)
                    if policy.roles[rows[0], i]
                ],
            }
            for rows in groups_of(policy, members)
        ]
        for name, members in zip(classes.names, classes.rows, strict=True)
    }
    return {"classes": groups, "forecast": demand_json(lms, policy.demand)}


def groups_of(policy: MacroPolicy, rows: Ints) -> list[Ints]:
    """Return rows in groups of one role and one share of the load, largest first; nodes beyond
    ``MOST_GROUPS`` groups are in the largest of their role, or else in the largest."""
    shares = np.round(policy.routing[rows] * len(policy.routing), 2)
    return merged(rows, np.hstack([policy.roles[rows], shares]), policy.roles[rows])


def merged(rows: Ints, facts: NDArray[Any], kinds: NDArray[Any]) -> list[Ints]:
    """Return rows in groups of equal facts, largest first, at most ``MOST_GROUPS``. Smaller ones
    join the largest of equal ``kinds``, or else the largest."""
    _, of = np.unique(facts, axis=0, return_inverse=True)
    of = of.reshape(-1)
    found = [np.flatnonzero(of == g) for g in range(int(of.max(initial=-1)) + 1)]
    found.sort(key=lambda one: (-len(one), int(one[0])))
    kept, rest = found[:MOST_GROUPS], found[MOST_GROUPS:]
    for one in rest:
        same = [g for g, big in enumerate(kept) if np.array_equal(kinds[big[0]], kinds[one[0]])]
        target = same[0] if same else 0
        kept[target] = np.concatenate([kept[target], one])
    return [rows[one] for one in kept]


def class_planner_format(scenario: Scenario, classes: Classes) -> Format:
    """Return ``reason``, ``forecast`` by LM, and by class its groups: how many nodes run which
    LMs, for which share of the LM's requests."""
    lms = scenario.testbed.lm_names
    share: Any = record("Share", {"lm": Literal[tuple(lms)], "share": float})
    group: Any = record("Group", {"nodes": int, "lms": list[share]})
    fields = {
        "reason": str,
        "forecast": record("Forecasts", dict.fromkeys(lms, Forecast)),
        "classes": record("Classes", dict.fromkeys(classes.names, list[group])),
    }
    return Format("macro_policy", record("MacroPolicy", fields))


class ClassPolicyCheck:
    """The planner's check by class: groups within each class's nodes that are up, each of which
    runs its LMs at once; shares of every LM that sum to 1."""

    def __init__(self, scenario: Scenario, classes: Classes) -> None:
        self._scenario = scenario
        self._classes = classes
        self._nodes = PolicyCheck(scenario)
        self._lms = scenario.testbed.lm_names

    def __call__(
        self, reply: Mapping[str, Any], up: Bools, former: MacroPolicy | None
    ) -> MacroPolicy:
        """Return the policy by node. Nodes keep their ``former`` role where a group has it.

        Raises:
            InvalidDecision: naming every violation.
        """
        demand = self._demand(reply)
        problems = self._forecasts(demand)
        shares = np.zeros(len(self._lms))
        for c, name in enumerate(self._classes.names):
            problems += self._groups(c, name, reply["classes"][name], up, shares)
        able = np.asarray((self._classes.hosts & self._alive(up)[:, None]).any(axis=0)).tolist()
        problems += [
            f"shares of {lm} sum to {total:.3g}, not 1"
            for lm, total, can in zip(self._lms, shares.tolist(), able, strict=True)
            if can and abs(total - 1) > SUM_SLACK
        ]
        if problems:
            raise InvalidDecision(listed(problems))
        return self._expanded(reply, up, former, demand)

    def _alive(self, up: Bools) -> Bools:
        return np.array([up[rows].any() for rows in self._classes.rows])

    def _demand(self, reply: Mapping[str, Any]) -> Demand:
        told = [reply["forecast"][lm] for lm in self._lms]
        return Demand(
            np.array([one.requests_per_slot for one in told], np.float64),
            np.array([one.prompts_per_request for one in told], np.float64),
        )

    def _forecasts(self, demand: Demand) -> list[str]:
        right = (demand.requests >= 0) & (demand.requests <= MOST_LOAD)
        right &= (demand.prompts > 0) & (demand.prompts <= MOST_LOAD)
        return [
            f"forecast of {lm}: requests must be 0 or more, prompts above 0, "
            f"both at most {MOST_LOAD:g}"
            for lm, good in zip(self._lms, right.tolist(), strict=True)
            if not good
        ]

    def _groups(
        self, c: int, name: str, groups: Sequence[Json], up: Bools, shares: Floats
    ) -> list[str]:
        """Add the shares of a class; return what is wrong with its groups."""
        found, rows = [], self._classes.rows[c]
        there = int(up[rows].sum())
        if min([0, *(group["nodes"] for group in groups)]) < 0:
            found.append(f"a group of {name} has less than 0 nodes")
        elif (sum_of := sum(group["nodes"] for group in groups)) > there:
            found.append(f"the groups of {name} have {sum_of} nodes, {there} are up")
        for group in groups:
            named = [one["lm"] for one in group["lms"]]
            role = np.array([lm in named for lm in self._lms])
            for one in group["lms"]:
                i = self._lms.index(one["lm"])
                shares[i] += one["share"]
                if one["share"] < 0:
                    found.append(f"share of {one['lm']} on {name} is negative")
                if one["share"] > 0 and not group["nodes"]:
                    found.append(f"{one['lm']} has a share on a group of {name} without nodes")
                if not self._classes.hosts[c, i]:
                    found.append(f"{one['lm']} cannot run on {name}")
            if len(set(named)) < len(named):
                found.append(f"a group of {name} names an LM twice")
            if not found and not self._nodes.runs_at_once(int(rows[0]), role):
                found.append(f"a node of {name} cannot run {'+'.join(named)} at once")
        return found

    def _expanded(
        self, reply: Mapping[str, Any], up: Bools, former: MacroPolicy | None, demand: Demand
    ) -> MacroPolicy:
        hosts = self._scenario.hosts()
        routing, roles = np.zeros(hosts.shape), np.zeros(hosts.shape, np.bool_)
        if former is not None:
            roles[~up] = former.roles[~up]
        for name, rows in zip(self._classes.names, self._classes.rows, strict=True):
            free = rows[up[rows]]
            for group in sorted(reply["classes"][name], key=lambda group: -group["nodes"]):
                role = np.zeros(len(self._lms), np.bool_)
                share = np.zeros(len(self._lms))
                for one in group["lms"]:
                    i = self._lms.index(one["lm"])
                    role[i], share[i] = True, one["share"]
                free = free[_likest_first(free, role, share / max(1, group["nodes"]), former)]
                chosen, free = free[: group["nodes"]], free[group["nodes"] :]
                roles[chosen] = role
                routing[chosen] = share / max(1, len(chosen))
        total = routing.sum(axis=0)
        routing = np.where(total > 0, routing, hosts)  # no host is up: for when one is
        return MacroPolicy(routing / routing.sum(axis=0), roles, demand)


def _likest_first(rows: Ints, role: Bools, share: Floats, former: MacroPolicy | None) -> Ints:
    """Return the order of rows in which those whose role and share change least come first."""
    if former is None:
        return np.arange(len(rows))
    other_role = (former.roles[rows] != role).sum(axis=1)
    other_share = np.abs(former.routing[rows] - share).sum(axis=1)
    return np.lexsort((other_share, other_role))


def class_pods_json(
    scenario: Scenario, classes: Classes, state: ClusterState, policy: MacroPolicy
) -> Json:
    """Return by class its nodes that are up in groups of one role and equal pods: number, role, and
    pods with the backlog of all of them."""
    lms, columns = scenario.testbed.lm_names, _pod_columns(state, policy)
    found: Json = {}
    for name, rows in zip(classes.names, classes.rows, strict=True):
        there = rows[state.up[rows]]
        if not len(there):
            continue
        found[name] = []
        for group in merged(there, columns[there], policy.roles[there]):
            pods = pod_json(state, int(group[0]), lms)
            backlog = state.backlog[group].sum(axis=0).tolist()
            for i, lm in enumerate(lms):
                if lm in pods:
                    pods[lm]["backlog"] = backlog[i]
            role = [lm for i, lm in enumerate(lms) if policy.roles[group[0], i]]
            found[name].append({"nodes": len(group), "role": role, "pods": pods})
    return found


def _pod_columns(state: ClusterState, policy: MacroPolicy) -> Floats:
    return np.hstack(
        [policy.roles, state.want_mode, state.want_cores, state.want_vgpus, state.mode, state.pod,
         state.cards]
    ).astype(np.float64)  # fmt: skip
