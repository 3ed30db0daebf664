"""Paired runs: the same decisions with less work or more capacity.

What is a theorem. Let all pods stay as they are and no deadline cut in. Each pod then works off its
queue in an order and in batches that do not depend on time, so its state is the work left in it,
and pods slow one another down only while they have some. If every request needs no more than in
the other run (at the same arrival times), then by induction over events no pod ever has more work
left: as long as that holds the pods with work are among those of the other run, so each goes at
least as fast. Hence every request is finished no later. Fewer requests, faster hardware and GPUs
shared with fewer pods are cases of it.

What is not: starting a pod earlier, or capacity that lets one more pod start, may slow another down
on a shared GPU; with deadlines, a faster server may save a request that then delays the next one.
So these are not tested.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from controller.domain.profile import Curve
from controller.domain.requests import Requests
from controller.domain.scenario import Scenario
from tests.reference.cases import Case
from tests.reference.model import Slot
from tests.reference.playback import play
from tests.reference.worlds import Ask, Model, Pod, node, on_cpu, on_gpu, requests, slot, world

ROUNDING_S = 1e-9


@dataclass(frozen=True)
class Plant:
    """One node with pods that all fit at once, and a lot to do."""

    models: tuple[Model, ...]
    pods: tuple[Pod, ...]
    asks: tuple[Ask, ...]
    gpus: int
    switch_loss: float

    def scenario(self, **changes: float) -> Scenario:
        machine = node(cores=100, ram_gb=1000, gpus=self.gpus, slices=16, vram_gb=1000)
        return world(
            [replace(machine, **changes)],
            self.models,
            switch_loss=self.switch_loss,  # type: ignore[arg-type]
        )


def plants(*, gpus: int | None = None, slices: int = 3) -> st.SearchStrategy[Plant]:
    return st.builds(
        draw_plant,
        st.integers(0, 2**32 - 1),
        st.integers(1, 5),
        st.integers(1, 60),
        st.integers(1, 3) if gpus is None else st.just(gpus),
        st.just(slices),
    )


def draw_plant(seed: int, lms: int, size: int, gpus: int, slices: int) -> Plant:
    rng = np.random.default_rng(seed)
    pods: list[Pod] = []
    for _ in range(lms):
        if rng.random() < 0.3:
            pods.append(on_cpu(float(rng.uniform(0.5, 10))))
        else:
            pods.append(on_gpu(int(rng.integers(1, slices + 1))))
    models = tuple(
        Model(
            cpu=falling(rng, (1.0, 2.0, 4.0, 8.0)),
            gpu=falling(rng, (1.0, 2.0, 3.0)),
            factors=tuple(np.cumsum([1.0, *rng.uniform(0.2, 1, rng.integers(0, 3))])),
            start_s=float(rng.uniform(0, 15)),
        )
        for _ in range(lms)
    )
    asks = tuple(
        Ask(
            float(born_s),
            lm=int(rng.integers(lms)),
            prompts=int(rng.integers(1, 6)),
            work=float(rng.uniform(0.2, 2)),
        )
        for born_s in np.sort(rng.uniform(0, 60, size))
    )
    return Plant(models, tuple(pods), asks, gpus, float(rng.uniform(0, 0.4)))


def falling(rng: np.random.Generator, amounts: tuple[float, ...]) -> Curve:
    return Curve(amounts, tuple(np.sort(rng.uniform(0.2, 3, len(amounts)))[::-1]))


def finished_s(scenario: Scenario, asks: Requests, commands: Slot) -> NDArray[np.float64]:
    records = play(Case(scenario, asks, (commands,), ())).twin.records
    assert not np.isnan(records["finished_s"]).any()
    times: NDArray[np.float64] = records["finished_s"]
    return times


def finish(plant: Plant, asks: Requests | None = None) -> NDArray[np.float64]:
    scenario = plant.scenario()
    return finished_s(scenario, asks or requests(scenario, plant.asks), slot([plant.pods]))


quick = settings(max_examples=60, deadline=None)


@quick
@given(plants(), st.integers(0, 2**32 - 1))
def test_less_work_finishes_nothing_later(plant: Plant, seed: int) -> None:
    asks = requests(plant.scenario(), plant.asks)
    shares = np.random.default_rng(seed).uniform(0.3, 1, len(asks))
    assert (
        finish(plant, replace(asks, work=asks.work * shares)) <= finish(plant) + ROUNDING_S
    ).all()


@quick
@given(plants(), st.integers(0, 2**32 - 1))
def test_fewer_requests_finish_no_other_later(plant: Plant, seed: int) -> None:
    kept = np.random.default_rng(seed).random(len(plant.asks)) < 0.6
    if not kept.any():
        return
    some = tuple(ask for ask, keep in zip(plant.asks, kept, strict=True) if keep)
    fewer = finish(replace(plant, asks=some))
    assert (fewer <= finish(plant)[kept] + ROUNDING_S).all()


@quick
@given(plants(), st.floats(1.0, 4.0))
def test_pods_with_more_cores_finish_nothing_later(plant: Plant, factor: float) -> None:
    """Where the curve does not rise with the cores."""
    more = tuple((mode, cores * factor, vgpus) for mode, cores, vgpus in plant.pods)
    assert (finish(replace(plant, pods=more)) <= finish(plant) + ROUNDING_S).all()


@quick
@given(plants(gpus=1, slices=1), st.integers(2, 5))
def test_more_gpus_than_one_finish_nothing_later(plant: Plant, gpus: int) -> None:
    """Pods of one slice, which on one GPU all share, and on several share with some of them."""
    assert (finish(replace(plant, gpus=gpus)) <= finish(plant) + ROUNDING_S).all()


@quick
@given(plants(), st.floats(0.0, 1.0))
def test_a_smaller_switching_loss_finishes_nothing_later(plant: Plant, share: float) -> None:
    better = replace(plant, switch_loss=plant.switch_loss * share)
    assert (finish(better) <= finish(plant) + ROUNDING_S).all()


@quick
@given(plants())
def test_capacity_that_nobody_asks_for_changes_nothing(plant: Plant) -> None:
    asks, commands = requests(plant.scenario(), plant.asks), slot([plant.pods])
    same = [
        play(Case(scenario, asks, (commands,), ())).twin.records.tobytes()
        for scenario in (
            plant.scenario(),
            plant.scenario(cores=200.0),
            plant.scenario(ram_gb=2000.0),
            plant.scenario(vram_gb=2000.0),
        )
    ]
    assert_array_equal(same, same[:1] * 4)
