"""The table of names against its own rules, the LM server as it runs, promtool and the docs."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.telemetry import names
from controller.telemetry.exposition import problems
from controller.telemetry.names import TABLE, Emitter, Kind
from tests.lm_server.servers import Server, serving

DOCS = Path(__file__).parents[3] / "docs" / "telemetry.md"
OWN = [one for one in TABLE.values() if names.is_own(one.name)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as started:
        started.submit("a")
        started.wait_for_end("a")
        yield started


def scraped(server: Server) -> str:
    return server.ask("GET", "/metrics")[1].decode()


@pytest.mark.parametrize("metric", OWN, ids=lambda one: one.name)
def test_own_names_follow_prometheus_rules(metric: names.Metric) -> None:
    assert re.fullmatch(r"edgelm_[a-z][a-z0-9_]*", metric.name)
    assert (metric.kind is Kind.COUNTER) == metric.name.endswith("_total")
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(metric.buckets)
    assert metric.help.endswith(".")
    if metric.unit in {"seconds", "bytes", "ratio"}:
        assert metric.name.removesuffix("_total").endswith(f"_{metric.unit}")


def test_no_own_label_clashes_with_one_that_prometheus_adds_or_names_a_process() -> None:
    for metric in OWN:
        clash = set(metric.labels) & {*names.TARGET_LABELS, "le", "quantile", "pid"}
        assert clash <= {"lm"}, metric.name
        assert "lm" not in clash or metric.emitter is not Emitter.LM_SERVER


def test_the_lm_server_exposes_the_table_and_nothing_else(server: Server) -> None:
    assert problems(scraped(server), Emitter.LM_SERVER) == []


def test_what_differs_from_the_table_is_found(server: Server) -> None:
    text = scraped(server)
    one = names.ENGINE_THREADS.name
    changed = [
        (
            text.replace(one, "edgelm_engine_lanes"),
            [f"{one}: no series", "edgelm_engine_lanes: not"],
        ),
        (text.replace(f"{one} gauge", f"{one} untyped"), [f"{one}: type unknown"]),
        (text.replace('outcome="done"', 'result="done"'), ["edgelm_requests_ended_total: labels"]),
    ]
    for answer, expected in changed:
        found = problems(answer, Emitter.LM_SERVER)
        assert len(found) == len(expected)
        assert all(line.startswith(start) for line, start in zip(found, expected, strict=True))


def test_promtool_is_silent(server: Server) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: apt-get install prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=scraped(server), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_docs_show_the_table() -> None:
    assert names.markdown() in DOCS.read_text(), "python -m controller.telemetry.names prints it"
