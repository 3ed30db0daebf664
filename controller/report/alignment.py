"""Does what runs follow what was planned? Requests, pods and policies of one run beside each other.

Misalignment is what the paper blames for MAL: routing follows a policy, deployment does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from controller.report.policies import Policy, in_force

if TYPE_CHECKING:
    import polars as pl

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NOWHERE: Final = -1


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

    ``ready`` (S, N, I): as slots end. Of requests (R,): ``born`` and ``arrived`` in slots,
    ``destination`` NOWHERE if there was none, ``wait_s`` from arrival to service, NaN without.
    """

    nodes: tuple[str, ...]
    lms: tuple[str, ...]
    ready: Bools
    lm: Ints
    destination: Ints
    prompts: Ints
    born: Ints
    arrived: Ints
    success: Bools
    wait_s: Floats


def read_movements(folder: Path, slot_s: float) -> Movements:
    """Read requests.parquet and slots.parquet of a run.

    Raises:
        OSError, polars.exceptions.PolarsError: a file is missing or unreadable.
        ValueError: the slots are not complete.
    """
    import polars as pl

    slots = pl.read_parquet(folder / "slots.parquet", columns=["slot", "node", "lm", "state"])
    nodes, lms = _names(slots["node"]), _names(slots["lm"])
    shape = -1, len(nodes), len(lms)
    ready = (slots["state"] == "ready").to_numpy().reshape(shape)
    rows = pl.read_parquet(
        folder / "requests.parquet",
        columns=["lm", "destination", "prompts", "slot", "born_s", "arrived_s", "uplink_s",
                 "queue_s", "success"],
    )  # fmt: skip
    slot = rows["slot"].to_numpy().astype(np.int64)
    arrived_s = rows["arrived_s"].fill_null(nan).to_numpy()
    slot_delay_s = arrived_s - rows["uplink_s"].fill_null(nan).to_numpy() - rows["born_s"]
    there = np.nan_to_num(np.floor(arrived_s / slot_s), nan=-1).astype(np.int64)
    return Movements(
        nodes=nodes,
        lms=lms,
        ready=ready,
        lm=_codes(rows["lm"], lms),
        destination=_codes(rows["destination"], nodes),
        prompts=rows["prompts"].to_numpy().astype(np.int64),
        born=slot,
        arrived=np.minimum(np.where(there < 0, slot, there), len(ready) - 1),
        success=rows["success"].to_numpy(),
        wait_s=rows["queue_s"].fill_null(nan).to_numpy() - np.asarray(slot_delay_s),
    )


def align(moves: Movements, policies: Sequence[Policy]) -> Alignment:
    """Compare a run with its policies; the drain after the last birth takes no part."""
    shares, roles = tabulate(moves, policies)
    slots = int(moves.born.max(initial=-1)) + 1
    policy = in_force(policies, len(moves.ready))
    sent = moves.destination != NOWHERE
    lm, to, ours = moves.lm[sent], moves.destination[sent], policy[moves.born[sent]]
    no_pod = ~_as_slots_begin(moves.ready)[moves.arrived[sent], to, lm]
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
    """(P, I) total variation distance between a policy's shares and where an LM's prompts went
    while it was in force; NaN where there were none."""
    shares, _ = tabulate(moves, policies)
    prompts = sent_prompts(moves, policies)
    total = prompts.sum(axis=1, keepdims=True)
    went = np.divide(prompts, total, out=np.full(prompts.shape, nan), where=total > 0)
    return np.asarray(np.abs(went - shares).sum(axis=1) / 2)


def sent_prompts(moves: Movements, policies: Sequence[Policy]) -> Floats:
    """(P, N, I) prompts by the policy in force as they were born, destination and LM."""
    policy = in_force(policies, len(moves.ready))
    sent = moves.destination != NOWHERE
    prompts = np.zeros((len(policies), len(moves.nodes), len(moves.lms)))
    where = policy[moves.born[sent]], moves.destination[sent], moves.lm[sent]
    np.add.at(prompts, where, moves.prompts[sent])
    return prompts


def tabulate(moves: Movements, policies: Sequence[Policy]) -> tuple[Floats, Bools]:
    """(P, N, I) shares and roles of the policies."""
    shares = [[[p.shares[lm].get(n, 0.0) for lm in moves.lms] for n in moves.nodes]
              for p in policies]  # fmt: skip
    roles = [[[lm in p.roles[n] for lm in moves.lms] for n in moves.nodes] for p in policies]
    return np.array(shares, np.float64), np.array(roles, np.bool_)


def _as_slots_begin(ready: Bools) -> Bools:
    """A slot begins as the one before ended; before slot 0 nothing runs."""
    return np.concatenate([np.zeros_like(ready[:1]), ready[:-1]])


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
    """To the nanosecond, so that the order in which threads add up does not show."""
    return round(seconds, 9)
