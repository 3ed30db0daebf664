"""Figures from two scrapes in a row, through restarts and silences."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time

import aiohttp
import pytest

from controller.telemetry import names
from controller.telemetry.exposition import parse
from controller.telemetry.names import Emitter
from controller.telemetry.scrape import Exporter, Reading, Scrape, Scraper, Target, select
from controller.telemetry.usage import Usage, rates
from tests.unit.telemetry.exporters import SAMPLES, free_port, node_exporter
from tests.unit.telemetry.test_scrape import HOST

NODE = Target("n1", Exporter.NODE, "")
GPU = Target("n1", Exporter.DCGM, "")


def host(taken_s: float, text: str = HOST) -> Reading:
    return answered(NODE, taken_s, text, Emitter.NODE_EXPORTER)


def gpu(taken_s: float) -> Reading:
    return answered(GPU, taken_s, (SAMPLES / "dcgm.txt").read_text(), Emitter.DCGM_EXPORTER)


def answered(target: Target, taken_s: float, text: str, emitter: Emitter) -> Reading:
    return Reading(target, Scrape(taken_s, select(parse(text), emitter)), 0.1, None)


def silent(target: Target) -> Reading:
    return Reading(target, None, 31.0, "gone")


def later(busy: float, idle: float) -> str:
    return HOST.replace('"user"} 50', f'"user"}} {50 + busy}').replace(
        '"idle"} 100', f'"idle"}} {100 + idle}'
    )


def test_rates_need_two_answers_and_gauges_one() -> None:
    usage = Usage()
    first = usage.update([host(0)])["n1"]
    assert (first.cores, first.busy_cores, first.received_bytes_per_s) == (1, None, None)
    assert (first.memory_bytes, first.memory_free_bytes) == (2.5e10, 2e10)
    assert first.disk_free_bytes == 5e10
    assert first.gpus == ()
    second = usage.update([host(30, later(busy=12, idle=18))])["n1"]
    assert second.busy_cores == pytest.approx(0.4)
    assert second.received_bytes_per_s == 0


def test_a_restart_gives_no_rate_once() -> None:
    usage = Usage()
    usage.update([host(0)])
    reset = usage.update([host(30, later(busy=-45, idle=-90))])["n1"]
    assert reset.busy_cores is None
    assert reset.received_bytes_per_s == 0  # another counter, which was not reset
    after = usage.update([host(60, later(busy=-30, idle=-75))])["n1"]
    assert after.busy_cores == pytest.approx(0.5)


def test_a_machine_that_was_started_again_gives_no_rate_even_if_its_counters_grew() -> None:
    usage = Usage()
    usage.update([host(0)])
    booted = later(busy=5, idle=5).replace("boot_time_seconds 1.7e9", "boot_time_seconds 1.8e9")
    assert usage.update([host(900, booted)])["n1"].busy_cores is None
    again = booted.replace('"user"} 55', '"user"} 85')
    assert usage.update([host(930, again)])["n1"].busy_cores == pytest.approx(1)


def test_after_a_silence_the_rate_is_that_since_the_last_answer() -> None:
    usage = Usage()
    usage.update([host(0)])
    gone = usage.update([silent(NODE)])["n1"]
    assert (gone.age_s, gone.cores, gone.busy_cores, gone.memory_bytes) == (None,) * 4
    assert gone.faults == ("gone",)
    back = usage.update([host(60, later(busy=30, idle=30))])["n1"]
    assert back.busy_cores == pytest.approx(0.5)


def test_gpus_have_shares_and_bytes_and_are_unknown_without_an_answer() -> None:
    usage = Usage()
    [busy, idle] = usage.update([host(0), gpu(0)])["n1"].gpus or ()
    assert (busy.busy, busy.memory_used_bytes) == (0.87, 7372 * 2**20)
    assert busy.memory_bytes == (7372 + 16862 + 330) * 2**20
    assert (idle.busy, idle.model) == (0, "NVIDIA RTX A5000")
    assert usage.update([host(30), silent(GPU)])["n1"].gpus is None


def test_rates_of_series_that_come_or_go() -> None:
    one = 'node_network_receive_bytes_total{device="eth0"} 1000\n'
    two = 'node_network_receive_bytes_total{device="veth1"} 7\n'

    def scrape(taken_s: float, text: str) -> Scrape:
        scrape = host(taken_s, HOST.replace(one, text)).scrape
        assert scrape is not None
        return scrape

    came = rates(scrape(0, one), scrape(2, one.replace("1000", "1500") + two), names.HOST_RECEIVED)
    assert came == {(("device", "eth0"),): 250.0}
    assert rates(scrape(0, one + two), scrape(2, one), names.HOST_RECEIVED) is None
    assert rates(scrape(2, one), scrape(2, one), names.HOST_RECEIVED) is None
    with pytest.raises(ValueError, match="only counters"):
        rates(None, None, names.HOST_MEMORY)


def test_the_document_is_json_with_null_for_unknown() -> None:
    document = Usage().update([host(0), silent(GPU)])["n1"].document()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["gpus"] is None
    assert document["busy_cores"] is None
    assert document["faults"] == ["gone"]


def test_a_real_exporter_sees_a_busy_core() -> None:
    port = free_port()
    target = Target("n1", Exporter.NODE, f"http://127.0.0.1:{port}/metrics")

    async def play() -> float | None:
        async with aiohttp.ClientSession() as session:
            scraper, usage = Scraper([target], session), Usage()
            usage.update(await scraper.round())
            await asyncio.sleep(1.5)
            return usage.update(await scraper.round())["n1"].busy_cores

    spin = subprocess.Popen(["sh", "-c", "while :; do :; done"])
    try:
        with node_exporter(port):
            busy = asyncio.run(play())
    finally:
        spin.kill()
        spin.wait()
    assert busy is not None
    assert 0.5 < busy <= (os.cpu_count() or 1) * 1.1


def test_an_exporter_that_is_stopped_and_continued() -> None:
    port = free_port()
    target = Target("n1", Exporter.NODE, f"http://127.0.0.1:{port}/metrics")

    async def play(process: subprocess.Popen[bytes]) -> list[Reading]:
        async with aiohttp.ClientSession() as session:
            scraper, readings = Scraper([target], session, deadline_s=0.3), []
            for number in (None, signal.SIGSTOP, signal.SIGCONT):
                if number is not None:
                    process.send_signal(number)
                readings += await scraper.round()
            return readings

    begun_s = time.monotonic()
    with node_exporter(port) as process:
        first, stopped, last = asyncio.run(play(process))
    assert (first.fault, last.fault) == (None, None)
    assert stopped.fault is not None
    assert "no answer within 0.3 s" in stopped.fault
    assert stopped.scrape is None
    assert time.monotonic() - begun_s < 10
