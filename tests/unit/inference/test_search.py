"""The sampler and what is read off its samples, on worlds that nobody simulates."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

from controller.campaigns.facts import FactsFile, load_facts
from controller.domain.errors import InputError
from controller.inference.analysis import analyse
from controller.inference.search import Sample, distances_of, propose

FILE = FactsFile.model_validate(
    {
        "name": "made-up",
        "summary": "Made up.",
        "scale": {"cpu_service": {"low": 0.1, "high": 10.0}, "start": {"low": 0.5, "high": 2.0}},
        "rules": {"late": ["drop", "serve"]},
        "parameters": {"RR.redraw_slots": [1.0, 10.0]},
        "facts": [
            {"name": "slow", "strategy": "RF", "quantity": "t_mean_s", "target": 8.0,
             "tolerance": 0.5, "reading": "made up"},
            {"name": "fast", "strategy": "RF", "quantity": "t_mean_s", "target": 2.0,
             "tolerance": 0.5, "side": "at_most", "reading": "made up"},
            {"name": "fair", "strategy": "RF", "quantity": "f_norm", "minus": "RR", "target": 0.5,
             "tolerance": 0.1, "side": "at_least", "reading": "made up"},
        ],
    }
)  # fmt: skip


def made(number: int, before: list[Sample], seed: int = 0) -> Sample:
    """A world in which latency is the factor on CPU times, and fairness that on starts."""
    world = propose(FILE, seed, number, 400, before)
    figures = {
        "RF": {"t_mean_s": world.scale["cpu_service"], "f_norm": world.scale["start"]},
        "RR": {"f_norm": 0.0},
    }
    return Sample(number, world, figures, distances_of(FILE, figures))


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    found: list[Sample] = []
    for number in range(400):
        found.append(made(number, found[: number - number % 50]))
    return found


@pytest.mark.parametrize(
    ("fact", "value", "distance"),
    [(0, 8.25, 0.5), (0, 7.0, 2.0), (1, 1.0, 0.0), (1, 3.0, 2.0), (2, 9.0, 0.0), (0, nan, inf)],
)
def test_the_distance_from_a_fact_is_in_tolerances_on_the_side_that_counts(
    fact: int, value: float, distance: float
) -> None:
    assert FILE.facts[fact].distance(value) == pytest.approx(distance)


def test_a_figure_that_does_not_exist_holds_for_no_fact() -> None:
    assert distances_of(FILE, {"RF": {"t_mean_s": None}}).tolist() == [inf, inf, inf]


def test_a_sample_depends_on_its_number_and_what_was_before_its_batch(
    samples: list[Sample],
) -> None:
    assert made(250, samples[:250]).world == samples[250].world
    assert made(250, samples[:250], seed=1).world != samples[250].world
    assert made(251, samples[:250]).world == samples[251].world


def test_worlds_stay_within_the_bounds(samples: list[Sample]) -> None:
    for key, bounds in FILE.scale.items():
        factors = np.array([one.world.scale[key] for one in samples])
        assert factors.min() >= bounds.low * 0.999
        assert factors.max() <= bounds.high * 1.001
        assert factors.max() / factors.min() > 0.5 * bounds.high / bounds.low
    assert {one.world.rules.late for one in samples} == {"drop", "serve"}
    assert {one.world.rules.slices for one in samples} == {"share"}


def test_the_search_draws_near_worlds_that_many_facts_allow(samples: list[Sample]) -> None:
    slow = np.array([one.distances[[0, 2]].max() <= 1 for one in samples])
    assert slow[100:].mean() > 2 * slow[:100].mean()


def test_contradictions_and_largest_sets_are_found(samples: list[Sample]) -> None:
    found = analyse(FILE, samples)
    assert [(one.one, one.other) for one in found.contradictions] == [("slow", "fast")]
    # A latency of 5 is 6 tolerances from both; no other is nearer to the farther of them.
    assert 6.0 <= found.contradictions[0].least < 8.0
    assert {one.facts for one in found.accepted} == {("slow", "fair"), ("fast", "fair")}
    assert found.all_least > 5.0
    slow = next(one for one in found.accepted if "slow" in one.facts)
    low, median, high = slow.ranges["cpu_service"]
    assert 7.5 <= low <= median <= high <= 8.5
    assert slow.worlds == sum(one.distances[[0, 2]].max() <= 1 for one in samples)
    assert sum(slow.rules["late"].values()) == slow.worlds


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"strategy": "MA"}, "must be one of RR"),
        ({"quantity": "latency"}, "quantity 'latency' must be one of"),
        ({"quantity": "LM4.f_norm"}, "quantity 'LM4.f_norm' must be one of"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"name": "fast"}, "facts need different names"),
    ],
)
def test_malformed_facts_are_refused(change: dict[str, object], problem: str) -> None:
    data = FILE.model_dump(mode="json")
    data["facts"][0] |= change
    with pytest.raises(ValueError, match=problem):
        FactsFile.model_validate(data)


def test_the_shipped_facts_can_be_read() -> None:
    file, _ = load_facts("paper")
    assert len(file.facts) == 9
    assert file.strategies == ("AL", "RF", "RL", "RR")


def test_facts_that_scale_what_the_profile_lacks_are_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "facts.yaml"
    text = load_facts("paper")[1].decode()
    path.write_text(text.replace("gpu_service.LM4:", "gpu_service.LM9:"))
    with pytest.raises(InputError, match=r"gpu_service\.LM9"):
        load_facts(path)
