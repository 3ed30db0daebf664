"""Section "Use of the machines": what their exporters measured during the runs."""

from __future__ import annotations

from controller.domain.errors import InputError
from controller.report.analysis.data import Data
from controller.report.structure import Section
from controller.report.table import STRATEGY, Column, Table, value
from controller.report.text import percent


def machines(data: Data) -> Table | None:
    """Tabulate the mean use of each node under each strategy; None where `edgelm history` has read
    nothing."""
    import polars as pl

    try:
        found = data.campaign.machines
    except InputError as error:
        data.problems.append(str(error))
        return None
    strategy_of = {run.id: s for s in data.present() for run in data.finished(s).values()}
    if found is None or not strategy_of:
        return None
    known = found.filter(pl.col("run").is_in(list(strategy_of)))
    if known.is_empty():
        return None
    frame = (
        known.with_columns(pl.col("run").replace_strict(strategy_of).alias("strategy"))
        .group_by("strategy", "node", maintain_order=True)
        .agg(
            pl.col("run").n_unique().alias("runs"),
            pl.col("busy_cores").mean(),
            (pl.col("memory_used_bytes").mean() / 1e9).alias("memory_gb"),
            ((pl.col("received_bytes_per_s") + pl.col("sent_bytes_per_s")).mean() / 1e6).alias(
                "network_mb_per_s"
            ),
            pl.col("gpu_busy").mean(),
            (pl.col("gpu_memory_used_bytes").mean() / 1e9).alias("gpu_memory_gb"),
        )
        .sort("strategy", "node")
    )
    return Table(
        name="machines",
        caption="What the machines' exporters measured during the runs of the nominal setting, by "
        "Prometheus: means over time and runs, and over the GPUs of a node. All that runs on a "
        "machine counts.",
        frame=frame,
        columns=(
            STRATEGY,
            Column("node", "Node", numeric=False),
            Column("busy_cores", "Busy cores", value(lambda x: f"{x:.2f}")),
            Column("memory_gb", "Memory (GB)", value(lambda x: f"{x:.2f}")),
            Column("network_mb_per_s", "Network (MB/s)", value(lambda x: f"{x:.2f}")),
            Column("gpu_busy", "GPUs busy", value(percent)),
            Column("gpu_memory_gb", "GPU memory (GB)", value(lambda x: f"{x:.2f}")),
        ),
        drop_empty=True,
    )


SECTION = Section("machines", "Use of the machines", tables=(machines,))
