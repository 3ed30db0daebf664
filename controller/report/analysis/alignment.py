"""Distance of a run's requests and pods from its macro-policies.

Misalignment is what the paper blames for MAL: routing follows a policy, deployment does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import nan
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from controller.domain.requests import NOWHERE
from controller.report.analysis.policies import Policy, in_force
from controller.report.analysis.requests import with_waits

if TYPE_CHECKING:
    import polars as pl

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Alignment:
    """Shares from 0 to 1; NaN where there is nothing to take a share of.

    ``drift``: prompts that went elsewhere than planned, the total variation distance between
    planned shares and where the prompts of an LM went, mean over policies and LMs by prompts.
    ``off_role``: requests sent to a node whose role lacks the LM.
    ``no_pod``: requests that met no ready pod, as the slot of their arrival began.
    ``no_pod_wait_s``: mean wait for service of those of them that were answered.
    ``no_pod_lost``: share of them that was not answered in time.
    ``pods_off_role``: ready pods of LMs that their node's role lacks, of all ready pods.
    ``roles_idle``: LMs in a node's role without a ready pod there.
    ``plan_uncovered``: planned shares at nodes without a ready pod of the LM, as slots end.
    """

    drift: float
    off_role: float
    no_pod: float
    no_pod_wait_s: float
    no_pod_lost: float
    pods_off_role: float
    roles_idle: float
    plan_uncovered: float


FIELDS: Final = tuple(field.name for field in fields(Alignment))


@dataclass(frozen=True, slots=True, eq=False)
class Movements:
    """One run as codes. Nodes and LMs are in the testbed's order; times are in slots.

    ``ready`` (S, N, I): as slots end. Of requests (R,): ``born`` in slots, ``destination`` NOWHERE
    if there was none, ``wait_s`` and ``found_pod`` as in :func:`requests.with_waits`, NaN without.
    """

    nodes: tuple[str, ...]
    lms: tuple[str, ...]
    ready: Bools
    lm: Ints
    destination: Ints
    prompts: Ints
    born: Ints
    success: Bools
    wait_s: Floats
    found_pod: Bools


def movements(requests: pl.DataFrame, slots: pl.DataFrame, slot_s: float) -> Movements:
    """Return a run's requests and slots as codes.

    Raises:
        ValueError: the slots are not complete.
    """
    nodes, lms = _names(slots["node"]), _names(slots["lm"])
    rows = with_waits(requests, slots, slot_s)
    return Movements(
        nodes=nodes,
        lms=lms,
        ready=(slots["state"] == "ready").to_numpy().reshape(-1, len(nodes), len(lms)),
        lm=_codes(rows["lm"], lms),
        destination=_codes(rows["destination"], nodes),
        prompts=rows["prompts"].to_numpy().astype(np.int64),
        born=rows["slot"].to_numpy().astype(np.int64),
        success=rows["success"].to_numpy(),
        wait_s=rows["wait_s"].fill_null(nan).to_numpy(),
        found_pod=rows["found_pod"].to_numpy(),
    )


def align(moves: Movements, policies: Sequence[Policy]) -> Alignment:
    """Compare a run with its policies, without the drain after the last birth."""
    shares, roles = tabulate(moves, policies)
    slots = int(moves.born.max(initial=-1)) + 1
    policy = in_force(policies, len(moves.ready))
    sent = moves.destination != NOWHERE
    lm, to, ours = moves.lm[sent], moves.destination[sent], policy[moves.born[sent]]
    no_pod = ~moves.found_pod[sent]
    answered = no_pod & moves.success[sent]
    ready, planned = moves.ready[:slots], policy[:slots]
    may, meant = roles[planned], shares[planned]
    return Alignment(
        drift=float(_mean(drifts(moves, policies), weights=sent_prompts(moves, policies).sum(1))),
        off_role=_share(~roles[ours, to, lm]),
        no_pod=_share(no_pod),
        no_pod_wait_s=_rounded(_mean(moves.wait_s[sent][answered])),
        no_pod_lost=_share(~moves.success[sent][no_pod]),
        pods_off_role=_share(~may[ready]),
        roles_idle=_share(~ready[may]),
        plan_uncovered=float((meant * ~ready).sum() / meant.sum()) if meant.sum() else nan,
    )


def drifts(moves: Movements, policies: Sequence[Policy]) -> Floats:
    """Return the (P, I) total variation distance between a policy's shares and where an LM's
    prompts went while it was in force; NaN where there were none."""
    shares, _ = tabulate(moves, policies)
    prompts = sent_prompts(moves, policies)
    total = prompts.sum(axis=1, keepdims=True)
    went = np.divide(prompts, total, out=np.full(prompts.shape, nan), where=total > 0)
    return np.asarray(np.abs(went - shares).sum(axis=1) / 2)


def sent_prompts(moves: Movements, policies: Sequence[Policy]) -> Floats:
    """Return (P, N, I) prompts by the policy in force as they were born, destination and LM."""
    policy = in_force(policies, len(moves.ready))
    sent = moves.destination != NOWHERE
    prompts = np.zeros((len(policies), len(moves.nodes), len(moves.lms)))
    where = policy[moves.born[sent]], moves.destination[sent], moves.lm[sent]
    np.add.at(prompts, where, moves.prompts[sent])
    return prompts


def tabulate(moves: Movements, policies: Sequence[Policy]) -> tuple[Floats, Bools]:
    """Return the (P, N, I) shares and roles of the policies."""
    shares = [[[p.shares[lm].get(n, 0.0) for lm in moves.lms] for n in moves.nodes]
              for p in policies]  # fmt: skip
    roles = [[[lm in p.roles[n] for lm in moves.lms] for n in moves.nodes] for p in policies]
    return np.array(shares, np.float64), np.array(roles, np.bool_)


def _names(column: pl.Series) -> tuple[str, ...]:
    return tuple(str(name) for name in column.unique(maintain_order=True))


def _codes(column: pl.Series, names: tuple[str, ...]) -> Ints:
    import polars as pl

    codes = column.cast(pl.String).replace_strict(
        list(names), list(range(len(names))), default=NOWHERE, return_dtype=pl.Int64
    )
    return codes.fill_null(NOWHERE).to_numpy().astype(np.int64)


def _share(flags: Bools) -> float:
    return float(flags.mean()) if flags.size else nan


def _mean(values: Floats, weights: Floats | None = None) -> float:
    known = ~np.isnan(values)
    if not known.any() or (weights is not None and not weights[known].sum()):
        return nan
    return float(np.average(values[known], weights=None if weights is None else weights[known]))


def _rounded(seconds: float) -> float:
    """Round to the nanosecond, so that the order in which threads add up does not show."""
    return round(seconds, 9)
