"""Smoke prompts of a testbed: every LM must answer once before a campaign begins."""

from __future__ import annotations

import io
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from controller.bootstrap.cluster import Address, execute
from controller.bootstrap.twin import draw_requests
from controller.campaigns.experiment import Experiment
from controller.campaigns.pool import Listener
from controller.domain.errors import Permanent
from controller.results.folder import REQUESTS
from controller.workloads.processes import Paper
from controller.workloads.spec import WorkloadFile

SLOTS: Final = 2
STRATEGY: Final = "AL"  # nodes take turns, and each starts the LMs that have work
QUIET: Final = Listener(confirm=lambda _: False, advanced=lambda *_: None)


def send_smoke_prompts(experiment: Experiment, testbed: Address) -> None:
    """Run a few single prompts of every LM through a testbed's services.

    Args:
        experiment: one of the campaign that is about to begin; testbed, profile and deadline are
            its.

    Raises:
        Permanent: an LM answered none; says which, and how its requests failed.
    """
    smoke = smoke_of(experiment)
    with tempfile.TemporaryDirectory(prefix="edgelm-smoke-") as folder:
        files = execute(smoke.canonical_json(), Path(folder), QUIET, testbed)
    silent = silent_lms(pl.read_parquet(io.BytesIO(files[REQUESTS])))
    if silent:
        raise Permanent(
            f"the smoke prompts were not answered: {'; '.join(silent)}; `edgelm status` and the "
            "logs of the node services say why; --no-smoke begins without them"
        )


def silent_lms(requests: pl.DataFrame) -> list[str]:
    """Return a sentence for each LM of which no request succeeded."""
    said = []
    for lm in sorted(set(requests["lm"])):
        mine = requests.filter(pl.col("lm") == lm)
        if not mine["success"].any():
            failures = Counter(mine["failure"].drop_nulls().to_list())
            said.append(f"{lm}: {', '.join(f'{n} {why}' for why, n in failures.items())}")
    return said


def smoke_of(experiment: Experiment) -> Experiment:
    """Return a run of two slots in which every LM has a request. Its seed is the time, so that it
    is a run of its own each time."""
    prompts = WorkloadFile(
        name="smoke",
        summary="Single prompts, to see that every LM answers.",
        process=Paper(kind="paper", max_prompts=1, arrivals="slot_start"),
    )
    lms = len(experiment.testbed.to_domain().lms)
    seed = int(time.time())
    while True:
        smoke = experiment.changed(
            workload=prompts, strategy=STRATEGY, parameters={}, reasoner=None, seed=seed,
            epochs=1, epoch_slots=SLOTS, load=1.0,
        )  # fmt: skip
        if len(np.unique(draw_requests(smoke, smoke.scenario()).lm)) == lms:
            return smoke
        seed += 1
