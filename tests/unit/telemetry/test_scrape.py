"""Scrapes against real HTTP servers: good ones, and those that hang, lie, break or are gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import aiohttp
import pytest

from controller.telemetry import names
from controller.telemetry.exposition import problems
from controller.telemetry.names import Emitter
from controller.telemetry.scrape import Exporter, Reading, Scraper, Target, targets
from tests.unit.telemetry.exporters import (
    SAMPLES,
    drip,
    exporter,
    free_port,
    node_exporter,
    text,
)

DCGM = (SAMPLES / "dcgm.txt").read_text()
HOST = """\
node_cpu_seconds_total{cpu="0",mode="idle"} 100
node_cpu_seconds_total{cpu="0",mode="user"} 50
node_memory_MemTotal_bytes 2.5e10
node_memory_MemAvailable_bytes 2e10
node_filesystem_size_bytes{device="/dev/vda",fstype="ext4",mountpoint="/"} 1e11
node_filesystem_avail_bytes{device="/dev/vda",fstype="ext4",mountpoint="/"} 5e10
node_network_receive_bytes_total{device="eth0"} 1000
node_network_transmit_bytes_total{device="eth0"} 2000
node_boot_time_seconds 1.7e9
node_time_seconds 1.7e9
"""


def target(port: int, which: Exporter = Exporter.NODE, node: str = "n1") -> Target:
    return Target(node, which, f"http://127.0.0.1:{port}/metrics")


def rounds(*found: Target, count: int = 1, between: Callable[[], Any] = int, **options: Any) -> Any:
    """Return the readings of each round."""

    async def play() -> list[list[Reading]]:
        async with aiohttp.ClientSession() as session:
            scraper = Scraper(found, session, **options)
            readings = []
            for number in range(count):
                if number:
                    between()
                readings.append(await scraper.round())
            return readings

    return asyncio.run(play())


def fault_of(answer: Any, which: Exporter = Exporter.NODE, **options: Any) -> str:
    with exporter(answer) as port:
        [[reading]] = rounds(target(port, which), **options)
    assert reading.scrape is None
    assert reading.age_s is None
    assert reading.fault.startswith(f"http://127.0.0.1:{port}/metrics: ")
    return str(reading.fault)


def test_the_real_node_exporter_gives_every_metric_of_the_table() -> None:
    port = free_port()
    with node_exporter(port):
        [[reading]] = rounds(target(port))
        text = aiohttp_get(port)
    assert reading.fault is None
    assert 0 <= reading.age_s < 1
    assert reading.scrape.total(names.HOST_MEMORY) > reading.scrape.total(names.HOST_MEMORY_FREE)
    assert problems(text, Emitter.NODE_EXPORTER) == []


def aiohttp_get(port: int) -> str:
    async def get() -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/metrics") as answer,
        ):
            return await answer.text()

    return asyncio.run(get())


def test_a_recorded_dcgm_answer_gives_every_metric_of_the_table() -> None:
    assert problems(DCGM, Emitter.DCGM_EXPORTER) == []
    with exporter(text(DCGM)) as port:
        [[reading]] = rounds(target(port, Exporter.DCGM))
    assert list(reading.scrape.series(names.GPU_BUSY).values()) == [87, 0]


def test_all_are_asked_at_once_and_a_hanging_one_costs_no_more_than_the_deadline() -> None:
    def slow(handler: Any) -> None:
        time.sleep(0.3)
        text(HOST)(handler)

    with ExitStack() as servers:
        ports = [servers.enter_context(exporter(slow)) for _ in range(7)]
        hanging = servers.enter_context(exporter(drip))
        begun_s = time.monotonic()
        asked = [target(port, node=f"n{k}") for k, port in enumerate([*ports, hanging])]
        [readings] = rounds(*asked, deadline_s=1.0)
        took_s = time.monotonic() - begun_s
    assert [one.target for one in readings] == asked
    assert [one.fault for one in readings[:7]] == [None] * 7
    assert readings[7].fault.endswith("no answer within 1 s")
    assert 1.0 <= took_s < 1.9


def test_values_of_the_last_answer_are_not_shown_for_one_that_fails() -> None:
    broken = False
    with exporter(text(lambda: "garbage" if broken else HOST)) as port:

        def breaks() -> None:
            nonlocal broken
            broken = True
            time.sleep(0.2)

        [[good], [bad]] = rounds(target(port), count=2, between=breaks)
    assert good.fault is None
    assert good.age_s < 0.2
    assert bad.scrape is None
    assert 0.2 <= bad.age_s < 5
    assert "not Prometheus' text format" in bad.fault


def test_one_that_is_gone_is_told_and_comes_back() -> None:
    port = free_port()
    [[gone]] = rounds(target(port))
    assert gone.scrape is None
    assert "Connect" in gone.fault
    with node_exporter(port):
        [[back]] = rounds(target(port))
    assert back.fault is None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (text("<html>It works</html>"), "not Prometheus"),
        (text('{"a": 1}'), "not Prometheus"),
        (text("\x00\x01"), "not Prometheus"),
        (text(HOST + 'node_cpu_seconds_total{cpu="1'), "not Prometheus"),
        (text(""), "no series of node_cpu_seconds_total"),
        (text(HOST.replace("MemAvailable", "MemFree")), "no series of node_memory_MemAvailable"),
        (text(HOST + "node_time_seconds 2"), "two values"),
        (text(HOST, 503), "status 503"),
        (text(HOST, 302), "status 302"),
        (text("#" * (9 * 2**20)), "over 8388608 bytes"),
        (text(HOST.replace("1.7e9", "1.7e9 1000")), "s old"),
    ],
)
def test_an_answer_that_cannot_be_believed_has_a_fault(answer: Any, said: str) -> None:
    assert said in fault_of(answer)


def test_an_answer_cut_short_has_a_fault() -> None:
    def cut(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(HOST) + 1))
        handler.end_headers()
        handler.wfile.write(HOST.encode())

    assert fault_of(cut)


def test_what_is_not_utf_8_has_a_fault() -> None:
    def latin(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b'node_a{b="\xff"} 1\n')

    assert "decode" in fault_of(latin)


def test_a_gpu_repeated_for_each_pod_is_one_gpu_unless_its_values_differ() -> None:
    line = next(one for one in DCGM.splitlines() if one.startswith(names.GPU_BUSY.name + "{"))
    shared = DCGM.replace(
        line, "\n".join(line.replace("}", f',pod="p{k}",vgpu="{k}"}}') for k in range(2))
    )
    with exporter(text(shared)) as port:
        [[reading]] = rounds(target(port, Exporter.DCGM))
    assert list(reading.scrape.series(names.GPU_BUSY).values()) == [87, 0]
    differing = shared.replace('vgpu="1"} 87', 'vgpu="1"} 12')
    assert "two values" in fault_of(text(differing), Exporter.DCGM)


def test_an_exporter_without_the_series_is_named() -> None:
    without = "\n".join(one for one in DCGM.splitlines() if "FB_USED" not in one) + "\n"
    assert "no series of DCGM_FI_DEV_FB_USED" in fault_of(text(without), Exporter.DCGM)


def test_targets_are_the_paper_s_ports_and_dcgm_only_where_gpus_are() -> None:
    found = targets({"a": "10.0.0.2", "b": "fd00::3"}, ["b"])
    assert [one.url for one in found] == [
        "http://10.0.0.2:9100/metrics",
        "http://[fd00::3]:9100/metrics",
        "http://[fd00::3]:9400/metrics",
    ]
