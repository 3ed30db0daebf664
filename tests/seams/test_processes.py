"""The seams carry a process per node: decided by seven processes that know only what crosses a
wire, a run is the same as decided by one, byte for byte; and lost messages do no lasting harm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache, partial
from pathlib import Path
from typing import Final

import pytest

from controller import strategies
from controller.agents.kit import AgentKit
from controller.agents.prompts import Prompts
from controller.agents.step import Step
from controller.bootstrap.agents import _foresee, _usual_load
from controller.bootstrap.twin import draw_requests
from controller.campaigns.experiment import Experiment
from controller.domain.randomness import Streams
from controller.inputs.catalog import template_dir
from controller.loop import run
from controller.policies.solver.node import find_kinds
from controller.results.journal import RunJournal
from controller.results.spool import merge_spools
from controller.results.tables import decisions_jsonl, slots_parquet
from controller.store.sqlite import memory_store
from controller.strategies import Parts
from controller.twin.cluster import Twin
from tests.samples.small import small_experiment
from tests.samples.spools import contents
from tests.seams.processes import Weather, run_apart
from tests.unit.agents.scripted import Unrecorded
from tests.unit.reference_model.duets import Optimiser

NAMES = list(strategies.STRATEGIES)
OUTAGES = ((3, 95.0, 185.0), (5, 400.0, 500.0))  # within slots and over their boundaries


def experiment(name: str) -> Experiment:
    return small_experiment(strategy=name, epochs=3, epoch_slots=6, load=1.3)


STORES: Final = ExitStack()


@pytest.fixture(autouse=True)
def closed_stores() -> Iterator[None]:
    """Close the stores of the test's processes after it, as the end of a process does."""
    with STORES:
        yield


def parts_of(one: Experiment) -> Parts:
    """The parts of a strategy, made anew as a process of its own would."""
    scenario, agents = one.scenario(), None
    if strategies.recipe(one.strategy).has_agents:

        async def baseline() -> str:
            return "Random policies do badly."

        async def rehearse(*_: object) -> dict[str, object]:
            raise AssertionError("the tool is off")

        agents = AgentKit(
            step=Step(Optimiser(), Unrecorded(), scenario.slot_s, str),
            prompts=Prompts(template_dir() / "prompts"),
            store=STORES.enter_context(closing(memory_store())),
            run="test",
            baseline=baseline,
            rehearse=rehearse,
            foresee=partial(_foresee, scenario, cache(partial(find_kinds, scenario))),
            usual_load=partial(_usual_load, one, scenario),
        )
    requests = draw_requests(one, scenario)
    shape = {"nodes": len(scenario.testbed.nodes), "lms": len(scenario.testbed.lms)}
    foresight = partial(requests.born_in, **shape)
    return strategies.parts(
        one.strategy, scenario, Streams(one.seed), one.parameters, foresight, agents
    )


def twin_of(one: Experiment) -> Twin:
    scenario = one.scenario()
    return Twin(scenario, draw_requests(one, scenario), OUTAGES)


def together(one: Experiment) -> tuple[Twin, int, bytes, bytes]:
    """The run decided by one process: twin, slots, decisions.jsonl, slots.parquet."""
    twin, journal, parts = twin_of(one), RunJournal(), parts_of(one)
    strategy = strategies.Strategy(parts.planner(), parts.scheduler(), parts.deployer())
    ran = asyncio.run(run(twin.scenario, twin, twin, twin, strategy, journal, one.slots))
    testbed = twin.scenario.testbed
    return (
        twin,
        ran,
        decisions_jsonl(journal.entries, testbed),
        slots_parquet(journal.states, testbed),
    )


def apart(one: Experiment, folder: Path, weather: Weather) -> tuple[Twin, int, bytes, bytes]:
    """The same decided by a process for the centre and one per node."""
    twin = twin_of(one)
    ran = asyncio.run(run_apart(twin, lambda: parts_of(one), one.slots, folder, weather))
    testbed = twin.scenario.testbed
    merged = merge_spools(contents(sorted(folder.glob("*.jsonl"))), testbed)
    decisions, states = merged.lines, merged.states
    return twin, ran, decisions, slots_parquet(states, testbed)


def assert_same(a: tuple[Twin, int, bytes, bytes], b: tuple[Twin, int, bytes, bytes]) -> None:
    assert a[1] == b[1]
    assert a[2].decode().splitlines() == b[2].decode().splitlines()
    assert a[0].records.tobytes() == b[0].records.tobytes()
    assert a[3] == b[3]


@pytest.mark.parametrize("name", NAMES)
def test_processes_decide_as_one_does(name: str, tmp_path: Path) -> None:
    one = experiment(name)
    assert_same(together(one), apart(one, tmp_path, Weather()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["doubled", "out of order"])
def test_doubled_and_late_messages_change_nothing(name: str, what: str, tmp_path: Path) -> None:
    """Every message comes twice, or is followed once more by the one before it."""
    weather = (
        Weather(copies=lambda kind, k: 2) if what == "doubled" else Weather(stale=lambda kind, k: 1)
    )
    one = experiment(name)
    assert_same(together(one), apart(one, tmp_path, weather))
    assert weather.hit > 100


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["state", "dispatch", "orders", "deploy"])
def test_every_message_may_be_lost_once(name: str, kind: str, tmp_path: Path) -> None:
    """Each third message of a kind is lost: every request is decided all the same, once."""
    one = experiment(name)
    weather = Weather(copies=lambda what, k: 0 if what == kind and k % 3 == 0 else 1)
    twin, ran, decisions, _ = apart(one, tmp_path, weather)
    assert weather.hit
    assert ran >= one.slots
    records = twin.records
    assert (records["closed"] == 1).all()
    assert ((records["failure"] > 0) | (records["done"] == records["prompts"])).all()
    lines = decisions.decode().splitlines()
    assert len(lines) == len(set(lines))


def dropping(kind: str, which: int) -> Callable[[str, int], int]:
    return lambda what, k: 0 if (what, k) == (kind, which) else 1


def test_a_slot_without_orders_follows_the_plan_in_force(tmp_path: Path) -> None:
    """The third dispatch is lost: slot 2's requests wait until it is over, then go by slot 1's
    plan, and nothing else is lost."""
    one = experiment("RF")
    whole = together(one)[0].records
    hurt = apart(one, tmp_path, Weather(copies=dropping("dispatch", 3)))[0].records
    slot = twin_of(one).requests.slot
    waited = slot == 2
    assert (hurt["sent_s"][waited] == 90.0).all()
    assert (whole["sent_s"][waited] < 90.0).all()
    before = slot < 2
    assert hurt["destination"][before].tobytes() == whole["destination"][before].tobytes()
    plans = {(o, i): d for o, i, d in zip(*(whole[f][slot == 1] for f in ("origin", "lm", "destination")), strict=True)}  # fmt: skip  # noqa: E501
    for o, i, d in zip(*(hurt[f][waited] for f in ("origin", "lm", "destination")), strict=True):
        assert plans.get((o, i), d) == d
