"""Campaign folders with invented numbers, in the format of docs/records.md.

Nothing here is a result. Latencies are lognormal around a strategy's ``PACE``; requests of an LM
fail with a fixed chance. All files agree: summaries are computed from the requests.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from controller.domain import metrics
from controller.results.folder import run_id_of
from tests.samples import sample_agents

PACE = {"RR": 9.0, "RL": 5.0, "AL": 4.0, "LL": 3.0, "RF": 8.0, "VTC-GPU": 2.0, "SOLVER": 1.0,
        "MA": 1.5, "MAL": 2.5}  # fmt: skip
LMS = {"LM1": 8.0, "LM2": 14.0, "LM3": 4.0, "LM4": 30.0}  # seconds at pace 1
NODES = ("vm2", "vm3", "vm4")
EPOCH_SLOTS = 10
TAU_S = 900.0
TIERS = ("planner", "scheduler", "deployer")


@dataclass(frozen=True)
class Sample:
    """What to write. ``failed`` and ``pending`` name (strategy, seed) pairs."""

    strategies: Sequence[str] = ("RR", "RL", "LL", "SOLVER")
    seeds: Sequence[int] = (0, 1, 2)
    epochs: int = 3
    loads: Sequence[float] = (1.0,)
    profiles: Sequence[str] = ("invented",)
    workload: str = "paper"
    failed: Iterable[tuple[str, int]] = ()
    pending: Iterable[tuple[str, int]] = ()
    agents: Sequence[str] = ()  # strategies of these that have agents


def write_sample(folder: Path, sample: Sample = Sample()) -> Path:
    """Write a campaign and return its folder."""
    entries = [
        _write_run(folder, sample, strategy, seed, load, profile)
        for profile in sample.profiles
        for load in sample.loads
        for strategy in sample.strategies
        for seed in sample.seeds
    ]
    manifest = {"format": 1, "model": 1, "name": "sample", "summary": "Invented numbers.",
                "campaign": {}, "runs": entries}  # fmt: skip
    (folder / "campaign.json").write_text(json.dumps(manifest, indent=1))
    return folder


def _write_run(
    folder: Path, sample: Sample, strategy: str, seed: int, load: float, profile: str
) -> dict[str, Any]:
    axes = {"strategy": strategy, "seed": seed, "testbed": "paper", "profile": profile,
            "workload": sample.workload, "load": load, "faults": "none",
            "epochs": sample.epochs}  # fmt: skip
    experiment = json.dumps(_experiment(axes, profile))
    run_id = run_id_of(experiment.encode())
    if (strategy, seed) in set(sample.failed):
        return {"id": run_id, "state": "failed", **axes, "error": "Permanent: it broke"}
    if (strategy, seed) in set(sample.pending):
        return {"id": run_id, "state": "pending", **axes}
    run = folder / "runs" / run_id
    run.mkdir(parents=True)
    pace = PACE.get(strategy, 6.0) * load * (1.5 if "x1.5" in profile else 1.0)
    requests = sample_requests(np.random.default_rng(seed), sample.epochs, pace)
    requests.write_parquet(run / "requests.parquet")
    sample_slots(np.random.default_rng(seed), sample.epochs, pace).write_parquet(
        run / "slots.parquet"
    )
    (run / "decisions.jsonl").write_text('{"slot":0}\n')
    (run / "experiment.json").write_text(experiment)
    summary = summarise(requests, sample.epochs, pace)
    if strategy in sample.agents:
        summary["reasoner"] = sample_agents.REASONER
        sample_agents.write_agents(run, sample.epochs, EPOCH_SLOTS, NODES, tuple(LMS))
        axes = {**axes, "reasoner": sample_agents.REASONER["label"]}
    (run / "summary.json").write_text(json.dumps(summary))
    return {"id": run_id, "state": "done", **axes}


def sample_requests(rng: np.random.Generator, epochs: int, pace: float) -> pl.DataFrame:
    """requests.parquet: one request per (slot, node, LM)."""
    shape = epochs * EPOCH_SLOTS, len(NODES), len(LMS)
    slot, node, lm = (axis.ravel() for axis in np.indices(shape))
    base = np.array(list(LMS.values()))[lm]
    inference = base * rng.lognormal(0, 0.3, len(slot))
    queue = base * (pace - 1) * rng.lognormal(0, 0.6, len(slot)) + 0.05
    latency = inference + queue + 0.002
    lost = rng.random(len(slot)) < 0.04 * pace * (lm + 1) / 4
    late = latency > TAU_S
    success = ~lost & ~late
    failure = np.where(late, "deadline", np.where(lm == 3, "not_deployed", "deadline"))
    names = list(LMS)
    born = slot * 30.0
    reached = pl.Series(success)
    frame = pl.DataFrame(
        {
            "request_id": np.arange(len(slot)),
            "lm": [names[i] for i in lm],
            "origin": [NODES[n] for n in node],
            "destination": [NODES[n] for n in node],
            "prompts": np.full(len(slot), 4, np.int32),
            "slot": slot.astype(np.int32),
            "born_s": born,
            "arrived_s": born + 0.001,
            "started_s": born + 0.001 + queue,
            "finished_s": born + latency - 0.001,
            "returned_s": born + latency,
            "uplink_s": np.full(len(slot), 0.001),
            "queue_s": queue,
            "inference_s": inference,
            "downlink_s": np.full(len(slot), 0.001),
            "latency_s": latency,
            "success": success,
            "failure": pl.Series(failure),
        }
    )
    reach = pl.when(reached)
    unreached = ("started_s", "finished_s", "returned_s", "queue_s", "inference_s",
                 "downlink_s", "latency_s")  # fmt: skip
    return frame.with_columns(
        *(reach.then(pl.col(name)).alias(name) for name in unreached),
        pl.when(~reached).then(pl.col("failure")).alias("failure"),
    )


def sample_slots(rng: np.random.Generator, epochs: int, pace: float) -> pl.DataFrame:
    """slots.parquet: a daily swing of backlogs; LM k runs on GPU where (node + k) is odd."""
    shape = epochs * EPOCH_SLOTS + 5, len(NODES), len(LMS)
    slot, node, lm = (axis.ravel() for axis in np.indices(shape))
    swing = 1 + np.sin(slot / EPOCH_SLOTS)
    on = rng.random(len(slot)) < 0.9
    gpu = (node + lm) % 2 == 1
    state = np.where(on, "ready", np.where(gpu, "starting", "off"))
    mode = np.where(state == "off", "off", np.where(gpu, "gpu", "cpu"))
    names = list(LMS)
    return pl.DataFrame(
        {
            "slot": slot.astype(np.int32),
            "node": [NODES[n] for n in node],
            "lm": [names[i] for i in lm],
            "backlog_prompts": (pace * swing * (node + 1) * rng.random(len(slot)) * 4).astype(int),
            "mode": mode,
            "cores": np.where(mode == "cpu", 4.0, 0.0),
            "vgpus": np.where(mode == "gpu", 1, 0).astype(np.int32),
            "state": state,
            "busy_s": np.where(state == "ready", 20.0, 0.0),
        }
    )


def summarise(requests: pl.DataFrame, epochs: int, pace: float) -> dict[str, Any]:
    """summary.json of these requests."""
    by_epoch = [
        {"epoch": e, **_figures(requests.filter(pl.col("slot") // EPOCH_SLOTS == e))}
        for e in range(epochs)
    ]
    whole = _figures(requests)
    call = {"calls": epochs * EPOCH_SLOTS, "ok": epochs * EPOCH_SLOTS, "repaired": 0,
            "fallback": 0, "late": 0, "tokens_in": 0, "tokens_out": 0, "cost_usd": None,
            "latency_mean_s": 0.01}  # fmt: skip
    return {
        **whole,
        "bound": whole["objective"] / (1 + 0.25 * pace),
        "per_epoch": by_epoch,
        "gpu_utilisation": min(0.95, 0.2 + 0.07 * pace),
        "pod_starts": int(40 * pace),
        "moved_bytes": 1e9,
        "decisions": dict.fromkeys(TIERS, call),
        "reasoner": None,
        "wall_s": 1.0,
    }


def _figures(requests: pl.DataFrame) -> dict[str, Any]:
    good = requests.filter("success")
    per_lm = {}
    for name in LMS:
        mine, served = requests.filter(pl.col("lm") == name), good.filter(pl.col("lm") == name)
        per_lm[name] = {
            "arrivals": len(mine),
            "successes": len(served),
            "rho": len(served) / len(mine),
            "t_mean_s": served["latency_s"].mean(),
        }
    f_norm = metrics.normalised_jain([lm["rho"] for lm in per_lm.values()])
    t_norm = metrics.normalised_latency(good["latency_s"].to_numpy(), TAU_S)
    return {
        "objective": metrics.objective(t_norm, f_norm),
        "success_rate": len(good) / len(requests),
        "f_norm": f_norm,
        "jain": metrics.jain([lm["rho"] for lm in per_lm.values()]),
        "t_mean_s": good["latency_s"].mean(),
        "t_norm": t_norm,
        "t_p50_s": good["latency_s"].quantile(0.5),
        "t_p95_s": good["latency_s"].quantile(0.95),
        "t_p99_s": good["latency_s"].quantile(0.99),
        "per_lm": per_lm,
    }


def _experiment(axes: dict[str, Any], profile: str) -> dict[str, Any]:
    return {
        "model_version": 1,
        "testbed": {"all": {"vars": {"edgelm_summary": "Three invented nodes."}}},
        "profile": {
            "name": profile,
            "summary": "Invented for a test.",
            "switch_loss": {"source": "estimated", "how": "made up", "share": 0.05},
            "lms": {"LM1": {"reference": {"source": "published", "how": "made up"}}},
        },
        "workload": {"name": axes["workload"], "summary": "One request a slot."},
        "strategy": axes["strategy"],
        "parameters": {},
        "reasoner": None,
        "seed": axes["seed"],
        "epochs": axes["epochs"],
        "slot_s": 30.0,
        "epoch_slots": EPOCH_SLOTS,
        "lam": 0.5,
        "tau_s": TAU_S,
        "load": axes["load"],
    }


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    """A table of the report of the campaign in ``folder``."""
    with (folder / "report" / "tables" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))
