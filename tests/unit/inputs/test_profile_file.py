"""Profiles: shipped numbers agree with the derivations they state; wrong tables are refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from controller.domain.errors import InputError
from controller.domain.profile import prompt_columns
from controller.inputs.catalog import load_profile, locate, names, parse, read_yaml
from controller.inputs.profile import ProfileFile

EPYC, A5000 = "AMD EPYC 7453", "NVIDIA A5000"
XEON, T4 = "Intel Xeon Silver 4314", "NVIDIA T4"
LMS = ("LM1", "LM2", "LM3", "LM4")


@pytest.fixture
def document() -> Any:
    return copy.deepcopy(read_yaml(locate("profiles", "a5000")))


def _scale(factors: dict[str, float]) -> ProfileFile:
    return load_profile("a5000").scaled(factors)


def test_a5000_times_one_gpu() -> None:
    lms = load_profile("a5000").to_domain().lms
    assert [lms[lm].gpu[A5000].at(1) for lm in LMS] == [0.7, 2.1, 0.35, 5.5]
    assert [lms[lm].gpu[A5000].at(2) for lm in LMS] == pytest.approx(
        [1.05 * seconds for seconds in (0.7, 2.1, 0.35, 5.5)], rel=2e-3
    )


@pytest.mark.parametrize(
    ("profile", "cpu", "ratio"), [("a5000", EPYC, 1.0), ("t4", XEON, 204.8 / 170.7)]
)
@pytest.mark.parametrize(("lm", "one_core_s"), [("LM1", 3.6), ("LM2", 16.7)])
def test_cpu_curves_follow_amdahl(
    profile: str, cpu: str, ratio: float, lm: str, one_core_s: float
) -> None:
    curve = load_profile(profile).to_domain().lms[lm].cpu[cpu]
    for cores in (1, 2, 4, 8, 16):
        assert curve.at(cores) == pytest.approx(ratio * one_core_s * (0.3 + 0.7 / cores), rel=1e-3)


@pytest.mark.parametrize(("lm", "times"), [("LM1", (3.6, 8.1, 9.8)), ("LM2", (16.7, 46.0, 56.0))])
def test_t4_batches_keep_the_measured_shape(lm: str, times: tuple[float, float, float]) -> None:
    factors = load_profile("t4").to_domain().lms[lm].cpu_batching.factors
    one, four, eight = times
    expected = np.interp(range(1, 9), [1, 4, 8], [1, four / one, eight / one])
    np.testing.assert_allclose(factors, expected, atol=1e-3)


def test_a5000_serves_prompt_by_prompt() -> None:
    for lm in load_profile("a5000").to_domain().lms.values():
        assert lm.cpu_batching.factors == lm.gpu_batching.factors == (1.0,)


@pytest.mark.parametrize("name", names("profiles"))
def test_reference_prompt_is_one_unit_of_work(name: str) -> None:
    for lm in load_profile(name).to_domain().lms.values():
        columns = {column: np.array([value]) for column, value in prompt_columns(lm.reference)}
        assert lm.work(columns) == pytest.approx([1.0])
        alone = lm.work_model.fixed
        assert alone < 0.5, "most of the time must follow the prompt's size"


def test_work_and_payload_grow_with_the_prompt() -> None:
    lm1, lm4 = (load_profile("a5000").to_domain().lms[lm] for lm in ("LM1", "LM4"))
    sizes = {
        "input_tokens": np.array([50.0, 50.0]),
        "output_tokens": np.array([100.0, 200.0]),
        "input_megapixels": np.zeros(2),
        "output_megapixels": np.zeros(2),
    }
    assert lm1.work(sizes) == pytest.approx([1.0, 1.95])
    assert lm4.downlink_bytes.per_output_megapixel * 0.262144 == pytest.approx(450_000, rel=1e-3)


def _blocks(part: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(part, dict):
        if any(isinstance(v, int | float | list) for v in part.values()):
            yield path, part
        for key, item in part.items():
            yield from _blocks(item, f"{path}.{key}".lstrip("."))


@pytest.mark.parametrize("name", names("profiles"))
def test_every_number_has_a_source(name: str) -> None:
    sources = load_profile(name).to_domain().sources
    with_numbers = dict(_blocks(read_yaml(locate("profiles", name)), ""))
    assert with_numbers.keys() == sources.keys()
    for path, source in sources.items():
        assert source.split(":")[0] in ("measured", "published", "estimated"), path


def test_content_survives_json() -> None:
    profile = load_profile("t4")
    again = parse(ProfileFile, "again", json.loads(json.dumps(profile.model_dump(mode="json"))))
    assert again == profile


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("cpu", EPYC, "cores"), [1, 2, 2, 8, 16], r"cores must ascend"),
        (("cpu", EPYC, "cores"), [1, 2], r"equally long, not 2 and 5"),
        (("cpu", EPYC, "cores"), [0, 2, 4, 8, 16], r"cores\[0\].*greater than or equal to 0.01"),
        (("cpu", EPYC, "seconds"), [], r"seconds.*at least 1"),
        (("cpu", EPYC, "seconds", 0), float("nan"), r"seconds\[0\].*finite number \(got nan\)"),
        (("gpu", A5000, "gpus"), [2, 3], r"gpus must begin with 1, not 2"),
        (("gpu", A5000, "gpus"), [1, 1.5], r"gpus\[1\].*integer \(got 1.5\)"),
        (("gpu", A5000, "source"), "guessed", r"source.*'guessed'.*measured, published"),
        (("gpu", A5000, "how"), "", r"how.*at least 1 character"),
        (("work", "fixed"), 0.5, r"shares must sum to 1, not 1.48"),
        (("reference", "output_tokens"), 0, r"work.output_tokens has a share .* is 0"),
        (("life_cycle", "stop_s"), -1, r"stop_s.*\(got -1\)"),
        (("footprint", "ram", "gb"), float("inf"), r"gb.*\(got inf\)"),
        (("payload", "uplink", "fixed"), "much", r"uplink.fixed.*'much'"),
        (("batching",), {"cpu": {"factors": [1.0]}}, r"(?s)source: is missing.*how: is missing"),
    ],
)
def test_wrong_numbers_are_refused(
    document: Any, path: tuple[str | int, ...], value: object, says: str
) -> None:
    part = document["lms"]["LM1"]
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    with pytest.raises(InputError, match=says) as caught:
        parse(ProfileFile, "mine.yaml", document)
    assert str(caught.value).startswith("mine.yaml: ")


@pytest.mark.parametrize(
    ("factors", "says"),
    [
        ([1.2, 1.5], "must begin with 1"),
        ([1.0, 0.9], "must not fall"),
        ([1.0, 1.5, 3.1], "a batch of 3 takes longer"),
        ([1.0] * 65, "at most 64"),
        ([1.0, 0.0], r"factors\[1\]"),
    ],
)
def test_wrong_batches_are_refused(document: Any, factors: list[float], says: str) -> None:
    batch = {"source": "measured", "how": "here", "factors": factors}
    document["lms"]["LM1"]["batching"] = {"gpu": batch}
    with pytest.raises(InputError, match=says):
        parse(ProfileFile, "mine.yaml", document)


def test_an_lm_that_runs_nowhere_is_refused(document: Any) -> None:
    document["lms"]["LM3"]["gpu"] = {}
    with pytest.raises(InputError, match=r"LM3: has neither cpu nor gpu times"):
        parse(ProfileFile, "mine.yaml", document)


def test_scaled_by_nothing_is_the_same_profile() -> None:
    assert _scale({}) == _scale({"start": 1.0, "payload": 1}) == load_profile("a5000")


@pytest.mark.parametrize("key", ["gpu_service", "gpu_service.LM4"])
def test_scaled_changes_what_it_says_and_nothing_else(key: str) -> None:
    before, after = load_profile("a5000").to_domain(), _scale({key: 1.5}).to_domain()
    for lm in LMS:
        factor = 1.5 if key in ("gpu_service", f"gpu_service.{lm}") else 1.0
        expected = np.array(before.lms[lm].gpu[A5000].seconds) * factor
        np.testing.assert_allclose(after.lms[lm].gpu[A5000].seconds, expected)
        assert after.lms[lm].cpu == before.lms[lm].cpu
        assert after.lms[lm].start_gpu_s == before.lms[lm].start_gpu_s
    assert after.name == f"a5000-{key}-x1.5"
    assert f"{key} x 1.5" in after.summary


def test_scaled_reaches_every_target() -> None:
    before = load_profile("a5000").to_domain()
    for key, read in (
        ("cpu_service", lambda p: p.lms["LM2"].cpu[EPYC].seconds[0]),
        ("gpu_service", lambda p: p.lms["LM2"].gpu[A5000].seconds[0]),
        ("start", lambda p: p.lms["LM2"].start_cpu_s),
        ("start", lambda p: p.lms["LM2"].start_gpu_s),
        ("stop", lambda p: p.lms["LM2"].stop_s),
        ("payload", lambda p: p.lms["LM2"].uplink_bytes.per_input_token),
        ("payload", lambda p: p.lms["LM2"].downlink_bytes.fixed),
        ("switch_loss", lambda p: p.switch_loss),
    ):
        assert read(_scale({key: 0.5}).to_domain()) == pytest.approx(0.5 * read(before)), key


def test_scaled_twice_multiplies() -> None:
    one = _scale({"start": 0.5, "start.LM4": 3.0})
    two = _scale({"start.LM4": 3.0}).scaled({"start": 0.5})
    assert one.lms == two.lms
    assert one.lms["LM4"].life_cycle.start_gpu_s == 1.5 * 17


@pytest.mark.parametrize(
    "key", ["", "speed", "start.", "start.LM9", "switch_loss.LM1", "gpu_service.LM4.x", "name"]
)
def test_scaled_refuses_what_it_does_not_know(key: str) -> None:
    with pytest.raises(InputError) as caught:
        _scale({key: 1.5})
    message = str(caught.value)
    for choice in ("switch_loss", "cpu_service", "gpu_service", "start", "stop", "payload", "LM4"):
        assert choice in message


@pytest.mark.parametrize("factor", [0, -1, float("nan"), float("inf"), 1e-9, 1e9, True, "2"])
def test_scaled_refuses_wrong_factors(factor: Any) -> None:
    with pytest.raises(InputError, match="gpu_service"):
        _scale({"gpu_service": factor})


def test_scaled_refuses_what_is_no_profile_any_more() -> None:
    with pytest.raises(InputError, match=r"switch_loss\.share.*less than 1"):
        _scale({"switch_loss": 100})


@pytest.mark.parametrize("name", names("profiles"))
def test_more_cores_are_never_slower(name: str) -> None:
    for lm in load_profile(name).lms.values():
        for times in lm.cpu.values():
            assert all(after <= before for before, after in pairwise(times.seconds))
