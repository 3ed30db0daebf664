"""`edgelm history`: the use of machines during runs, from a real Prometheus that scrapes Debian's
node exporter and a recorded answer of DCGM's."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from controller.bootstrap.machines import keep_history
from controller.cli import app
from controller.domain.errors import InputError, Permanent, Transient
from controller.report import write_report
from controller.telemetry import history, names
from controller.telemetry.history import History
from tests.samples.sealing import seal
from tests.unit.bootstrap.test_calibration import campaign
from tests.unit.telemetry.exporters import (
    SAMPLES,
    exporter,
    free_port,
    node_exporter,
    prometheus,
    text,
)

WINDOW_S = 2
GPU_BUSY = 0.435  # mean of the two in the sample


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Prometheus that has scraped vm2 and vm3, which has two GPUs, for 7 s."""
    port, answer = free_port(), text((SAMPLES / "dcgm.txt").read_text())
    with (
        node_exporter(port),
        exporter(answer) as dcgm,
        prometheus(
            tmp_path_factory.mktemp("prometheus"),
            [("vm2", port), ("vm3", port), ("vm3", dcgm)],
            every="500ms",  # a busy machine's node exporter takes a while
        ) as running,
    ):
        scraped(running, names.GPU_BUSY, past_s=7, series=2)
        scraped(running, names.HOST_BOOT, past_s=7, series=2)
        yield running


def scraped(running: str, metric: Any, past_s: float, series: int = 1) -> None:
    """Wait until Prometheus has so many series of a metric for so long."""
    end_s, reader = time.monotonic() + 90, History(running)
    while True:
        now_s = time.time()
        found = reader.range(history.value(metric), now_s - past_s, now_s, 0.5)
        if len(found) == series and all(np.isfinite(one.values).all() for one in found):
            return reader.close()
        assert time.monotonic() < end_s
        time.sleep(0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A campaign with two runs, as a testbed's that took the last 6 s."""
    made = campaign(tmp_path / "c", seeds=[0, 1], epoch_slots=8)
    for run in (made / "runs").iterdir():
        as_live(run, time.time() - 6.0, took_s=6.0)
    return made


def as_live(run: Path, began_unix_s: float, took_s: float) -> None:
    """Let a run of the twin look like a testbed's."""
    summary = json.loads((run / "summary.json").read_text())
    slots = pl.read_parquet(run / "slots.parquet")["slot"].max() + 1
    times = {"began_unix_s": began_unix_s, "time_scale": slots * 30.0 / took_s}
    (run / "summary.json").write_text(json.dumps({**summary, "target": "live", **times}))
    seal(run)


def edgelm(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_each_node_s_use_is_kept_beside_the_runs_and_shown_in_the_report(
    folder: Path, url: str
) -> None:
    said = edgelm("history", folder, "--prometheus", url, "--window", WINDOW_S)
    assert "vm3" in said
    kept = pl.read_parquet(folder / "machines.parquet")
    assert set(kept["run"]) == {run.name for run in (folder / "runs").iterdir()}
    assert set(kept["node"]) == {"vm2", "vm3"}, "Prometheus knows of no others"
    assert len(kept) == 2 * 2 * 3
    last = kept.group_by("run", "node").last()  # windows that Prometheus has seen whole
    assert (last["busy_cores"] > 0).all()
    assert (last["memory_used_bytes"] > 1e8).all()
    assert (last["received_bytes_per_s"] >= 0).all()
    without, with_gpus = (last.filter(pl.col("node") == one) for one in ("vm2", "vm3"))
    assert (without["gpus"] == 0).all()
    assert without["gpu_busy"].null_count() == len(without)
    assert with_gpus["gpus"].to_list() == [2, 2]
    assert with_gpus["gpu_busy"].to_list() == pytest.approx([GPU_BUSY] * 2)
    assert (with_gpus["gpu_memory_used_bytes"] > 1e8).all()
    assert (kept["until_s"] - kept["from_s"]).is_between(1, 1e6).all()

    rows = json.loads(
        edgelm("history", folder, "--prometheus", url, "--window", WINDOW_S, "--json")
    )["rows"]
    assert len(rows) == len(kept)
    page = write_report(folder).read_text()
    assert "Use of the machines" in page
    table = (folder / "report" / "tables" / "machines.csv").read_text()
    assert table.startswith("strategy,node,runs,busy_cores")


def test_what_prometheus_has_forgotten_stays(folder: Path, url: str) -> None:
    keep_history(folder, url, WINDOW_S)
    first, second = sorted((folder / "runs").iterdir())
    as_live(first, 1.7e9, took_s=6.0)
    kept, problems = keep_history(folder, url, WINDOW_S)
    assert set(kept["run"]) == {first.name, second.name}
    assert len(problems) == 1
    assert first.name in problems[0]
    assert "2023-11-14" in problems[0]


def test_a_run_shorter_than_a_window_has_one(folder: Path, url: str) -> None:
    kept, _ = keep_history(folder, url, 30)
    assert len(kept) == 2 * 2
    assert (kept["from_s"] < 0).all()


def test_a_damaged_file_is_named_by_the_report_and_replaced(folder: Path, url: str) -> None:
    (folder / "machines.parquet").write_bytes(b"PAR1")
    assert "machines.parquet" in write_report(folder).read_text()
    kept, _ = keep_history(folder, url, WINDOW_S)
    assert len(kept) == 2 * 2 * 3


def test_runs_on_no_machines_or_without_a_time_are_named(tmp_path: Path, url: str) -> None:
    made = campaign(tmp_path / "c", seeds=[0], epoch_slots=8)
    with pytest.raises(Permanent, match=r"nothing to read.*ran on the twin"):
        keep_history(made, url, WINDOW_S)
    [run] = (made / "runs").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "target": "live"}))
    seal(run)
    with pytest.raises(Permanent, match="did not write down when"):
        keep_history(made, url, WINDOW_S)


def test_a_prometheus_that_names_no_nodes_or_is_gone(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a URL"):
        keep_history(folder, "vm1:9090", WINDOW_S)
    with pytest.raises(Transient, match="refused"):
        keep_history(folder, f"http://127.0.0.1:{free_port()}", WINDOW_S)
    port, place = free_port(), tmp_path / "prometheus"
    place.mkdir()
    with node_exporter(port), prometheus(place, [("", port)]) as running:
        scraped(running, names.HOST_BOOT, past_s=1)
        for run in (folder / "runs").iterdir():
            as_live(run, time.time() - 6.0, took_s=6.0)
        with pytest.raises(Permanent, match="without the label node"):
            keep_history(folder, running, 60)
