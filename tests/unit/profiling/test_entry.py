"""Blocks of a profile from points made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from controller.inputs.catalog import load_profile
from controller.inputs.profile import LmEntry
from controller.profiling.entry import measured_profile
from controller.profiling.points import Life, Measured, Measurement, Point, Setup, plan

REFERENCE = (50.0, 100.0, 0.0, 0.0)


def point(seconds: float, cores: int = 2, prompts: int = 1, **more: Any) -> Measured:
    fields = {"size": REFERENCE, "batches": 1, **more}
    return Measured(cores=cores, prompts=prompts, seconds=[seconds, seconds * 9, seconds], **fields)


def entry(*points: Measured, device: str = "cpu", emulated: bool = False) -> LmEntry:
    setup = Setup(
        engine="text-to-text", model="weights", lm="LM1", device=device, hardware="Some Chip",
        repeats=3, reference=REFERENCE, versions={"python": "3.11", "torch": "2.13"},
    )  # fmt: skip
    life = Life(cores=2, start_s=7, stop_s=2, phases_s={"weights": 3.0}, peak_ram_gb=1.25)
    found = Measurement(setup=setup, emulated=emulated, points=list(points), lives=[life])
    return measured_profile(load_profile("a5000"), found, "mine").lms["LM1"]


def test_the_plan_has_every_point_once() -> None:
    assert plan([2, 1], [1, 4], REFERENCE) == [
        Point(1, 1, REFERENCE),
        Point(2, 1, REFERENCE),
        Point(2, 4, REFERENCE),
        Point(2, 1, (25.0, 100.0, 0.0, 0.0)),
        Point(2, 1, (100.0, 100.0, 0.0, 0.0)),
        Point(2, 1, (50.0, 50.0, 0.0, 0.0)),
        Point(2, 1, (50.0, 200.0, 0.0, 0.0)),
    ]


def test_medians_by_cores_with_hardware_and_versions() -> None:
    made = entry(point(3.0), point(5.0, cores=1))
    times = made.cpu["Some Chip"]
    assert (times.cores, times.seconds) == ((1.0, 2.0), (5.0, 3.0))
    assert times.source == "measured"
    assert "on Some Chip, engine text-to-text; python 3.11, torch 2.13." in times.how
    assert (made.life_cycle.start_cpu_s, made.life_cycle.stop_s) == (7, 2)
    assert "weights 3 s" in made.life_cycle.how
    assert made.footprint.ram.gb == 1.25


def test_shares_are_those_of_a_linear_time() -> None:
    # 1 + 0.02 a token in + 0.03 a token out: 1, 1 and 3 of 5 s.
    sizes = [REFERENCE, (25, 100, 0, 0), (100, 100, 0, 0), (50, 50, 0, 0), (50, 200, 0, 0)]
    made = entry(*(point(1 + 0.02 * one[0] + 0.03 * one[1], size=one) for one in sizes))
    assert made.work.fixed == pytest.approx(0.2)
    assert made.work.input_tokens == pytest.approx(0.2)
    assert made.work.output_tokens == pytest.approx(0.6)


def test_batch_factors_are_filled_in_and_kept_to_what_a_profile_may_say() -> None:
    noisy = [point(2.0), point(4.4, prompts=2), point(4.0, prompts=4), point(9.0, prompts=8,
             batches=2)]  # fmt: skip
    made = entry(*noisy)
    assert made.batching.cpu is not None
    assert made.batching.cpu.factors == pytest.approx((1, 2, 2.2, 2.2))


def test_one_gpu_is_measured_and_cpus_stay() -> None:
    made, base = entry(point(0.7), device="gpu"), load_profile("a5000").lms["LM1"]
    assert (made.gpu["Some Chip"].gpus, made.gpu["Some Chip"].seconds) == ((1,), (0.7,))
    assert made.cpu == base.cpu
    assert made.life_cycle.start_cpu_s == base.life_cycle.start_cpu_s
    assert made.life_cycle.start_gpu_s == 7


def test_a_busy_machine_is_named_and_an_idle_one_not() -> None:
    busy = entry(point(3.0, waited=0.02), point(5.0, cores=1, waited=0.31)).cpu["Some Chip"]
    assert "waited for a core up to 31% of their time" in busy.how
    assert "waited" not in entry(point(3.0, waited=0.02)).cpu["Some Chip"].how


def test_an_emulation_is_no_measurement() -> None:
    made = entry(point(3.0), emulated=True)
    assert {made.cpu["Some Chip"].source, made.work.source, made.life_cycle.source} == {"estimated"}
