"""Runs of the twin with known times are observed as if the times were unknown."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from controller.bootstrap.twin import draw_requests, simulate
from controller.calibration.files import calibrated_profile, calibrated_testbed
from controller.calibration.fit import Calibration, fit
from controller.calibration.observed import Observed, observe
from controller.campaigns.experiment import Experiment
from controller.domain.errors import InputError
from controller.inputs.catalog import load_profile, load_testbed, parse
from controller.inputs.testbed import TestbedFile
from controller.results.run import run_in_memory
from controller.results.writing import run_files
from controller.workloads.spec import load_workload

EPYC, A5000 = "AMD EPYC 7453", "NVIDIA A5000"
FACTORS = {
    "cpu_service.LM1": 1.3,
    "cpu_service.LM2": 0.8,
    "gpu_service.LM3": 1.7,
    "gpu_service.LM4": 0.9,
    "start": 1.25,
}


def experiment(
    strategy: str, seed: int, factors: Mapping[str, float], **more: object
) -> Experiment:
    fields = {
        "testbed": load_testbed("paper"),
        "profile": load_profile("a5000").scaled(factors),
        "workload": load_workload("paper"),
        "strategy": strategy,
        "parameters": {},
        "seed": seed,
        "epochs": 1,
        "epoch_slots": 40,
        **more,
    }
    return Experiment(**fields)  # type: ignore[arg-type]


def slower_network() -> TestbedFile:
    document = load_testbed("paper").model_dump(mode="json")
    network = document["all"]["vars"]["edgelm_network"]
    network["site"]["latency_s"], network["metro"]["latency_s"] = 0.02, 0.3
    network["control"]["seconds"] = 0.7
    return parse(TestbedFile, "slower", document)


def observed(made: Experiment, assumed: Experiment) -> Observed:
    """Return a run's records as one sees them who assumes another experiment."""
    files = run_files(made.canonical_json(), simulate(made))
    scenario = assumed.scenario()
    requests = draw_requests(assumed, scenario)
    return observe(run_in_memory(made.strategy, files), scenario, requests, "twin", faultless=True)


@pytest.fixture(scope="module")
def found() -> Calibration:
    runs = []
    for strategy, seed in (("RF", 0), ("RL", 1), ("RL", 2)):
        made = experiment(strategy, seed, FACTORS, testbed=slower_network())
        runs.append(observed(made, experiment(strategy, seed, {})))
    return fit(runs)


@pytest.mark.parametrize(
    ("key", "factor"),
    [
        (("LM1", "cpu", EPYC), 1.3),
        (("LM2", "cpu", EPYC), 0.8),
        (("LM3", "gpu", A5000), 1.7),
        (("LM4", "gpu", A5000), 0.9),
    ],
)
def test_service_times_are_recovered_though_gpus_were_shared(
    found: Calibration, key: tuple[str, str, str], factor: float
) -> None:
    one = found.service[key]
    assert one.n >= 30
    assert one.value == pytest.approx(factor, rel=1e-9)
    assert one.low == pytest.approx(factor, rel=1e-9)
    assert one.high == pytest.approx(factor, rel=1e-9)


def test_start_ups_and_delays_are_recovered(found: Calibration) -> None:
    assert found.starts["LM1", "cpu"].value == pytest.approx(1.25 * 8)
    assert found.starts["LM3", "gpu"].value == pytest.approx(1.25 * 11)
    assert found.starts["LM4", "gpu"].value == pytest.approx(1.25 * 17)
    assert found.links["site"].value == pytest.approx(0.02)
    assert found.links["metro"].value == pytest.approx(0.3)
    assert found.control.value == pytest.approx(0.7)


def test_what_was_not_seen_keeps_its_number_and_what_was_says_how(found: Calibration) -> None:
    base = load_profile("a5000")
    profile = calibrated_profile(base, found)
    assert found.service["LM1", "gpu", A5000].value is None
    assert profile.lms["LM1"].gpu == base.lms["LM1"].gpu
    times = profile.lms["LM3"].gpu[A5000]
    assert times.seconds[0] == pytest.approx(1.7 * base.lms["LM3"].gpu[A5000].seconds[0])
    assert times.source == "measured"
    assert f"{found.service['LM3', 'gpu', A5000].n} requests of 3 runs" in times.how
    assert profile.lms["LM3"].payload == base.lms["LM3"].payload
    testbed = calibrated_testbed(load_testbed("paper"), found)
    assert testbed.to_domain().network.metro_latency_s == pytest.approx(0.3)
    assert testbed.to_domain().network.control_s == pytest.approx(0.7)


def test_a_calibrated_twin_repeats_the_runs_it_was_fitted_to(found: Calibration) -> None:
    """A held-out seed, with the calibrated files against the truth."""
    truth = experiment("RF", 7, FACTORS, testbed=slower_network())
    fitted = experiment("RF", 7, {}).model_copy(
        update={
            "profile": calibrated_profile(load_profile("a5000"), found),
            "testbed": calibrated_testbed(load_testbed("paper"), found),
        }
    )
    ours, theirs = simulate(fitted).table, simulate(truth).table
    np.testing.assert_allclose(ours.latency_s, theirs.latency_s, atol=1e-3)


def test_few_requests_say_nothing() -> None:
    one = experiment("RF", 0, {}, epoch_slots=1)
    found = fit([observed(one, one)])
    assert all(each.value is None for each in found.service.values())
    assert calibrated_profile(load_profile("a5000"), found).lms == load_profile("a5000").lms


def test_noise_is_within_the_interval_and_stragglers_do_not_move_it() -> None:
    one = experiment("RF", 3, {})
    run = observed(one, one)
    rng, rows = np.random.default_rng(5), len(run.table)
    factor = 1.2 * rng.normal(1.0, 0.15, rows)
    factor[rng.random(rows) < 0.01] = 50.0
    cpu = run.table.lm < 2
    span = run.table.inference_s * np.where(cpu, factor, 1.0)
    table = replace(run.table, inference_s=span, finished_s=run.table.started_s + span)
    for lm in ("LM1", "LM2"):
        scale = fit([replace(run, table=table)]).service[lm, "cpu", EPYC]
        assert scale.low is not None
        assert scale.high is not None
        assert scale.low < 1.2 < scale.high
        assert scale.high - scale.low < 0.2


def test_records_of_another_experiment_are_refused() -> None:
    made, assumed = experiment("RF", 0, {}), experiment("RF", 1, {})
    with pytest.raises(InputError, match=r"requests\.parquet.*draws.*make the run again"):
        observed(made, assumed)


@pytest.mark.parametrize("column", ["recomputed_prompts", "inference_s"])
def test_records_that_lack_a_column_are_refused(column: str) -> None:
    one = experiment("RF", 0, {}, epoch_slots=2)
    files = run_files(one.canonical_json(), simulate(one))
    short = io.BytesIO()
    pl.read_parquet(files["requests.parquet"]).drop(column).write_parquet(short)
    run = run_in_memory("RF", {**files, "requests.parquet": short.getvalue()})
    scenario = one.scenario()
    with pytest.raises(InputError, match=rf"requests\.parquet: {column}: is missing.*again"):
        observe(run, scenario, draw_requests(one, scenario), "twin", faultless=True)
