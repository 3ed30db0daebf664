import asyncio
from contextvars import ContextVar
from pathlib import Path

import pytest

from controller import api
from controller.campaigns.faults import Faults, RandomOutages
from controller.campaigns.file import ProfileEntry, StrategyEntry
from controller.domain.errors import InputError


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> api.Campaign:
    return api.run_campaign("smoke", tmp_path_factory.mktemp("smoke"), jobs=2, loads=(0.5, 1.0))


def test_a_run_without_a_folder_is_the_campaigns_own(campaign: api.Campaign) -> None:
    by_place = {(r.strategy, r.seed, r.setting.value("load")): r for r in campaign.runs}
    stored = by_place["RL", 1, 0.5]
    run = api.simulate("RL", seed=1, epochs=1, load=0.5)
    assert run.experiment == stored.experiment
    assert run.requests.equals(stored.requests)
    assert run.slots.equals(stored.slots)
    assert run.decisions == stored.decisions
    figures = {**run.summary, "wall_s": stored.summary["wall_s"]}
    assert figures == stored.summary


def test_a_run_can_be_made_where_an_event_loop_is_running() -> None:
    """As in every notebook."""
    place: ContextVar[str] = ContextVar("place", default="nowhere")
    seen: list[str] = []

    def approve(text: str) -> bool:
        seen.append(place.get())
        return bool(text)

    async def notebook() -> api.Run:
        place.set("notebook")
        return api.simulate("MA", epochs=1, epoch_slots=4, parameters=APPROVE, approver=approve)

    run = asyncio.run(notebook())
    assert run.figures
    assert set(seen) == {"notebook"}


def test_errors_of_a_run_within_a_loop_are_those_outside() -> None:
    async def notebook() -> None:
        api.simulate(
            "MA", epochs=1, epoch_slots=4, parameters=APPROVE,
            approver=lambda _: None,  # type: ignore[arg-type, return-value]
        )  # fmt: skip

    with pytest.raises(InputError, match="must return True or False"):
        asyncio.run(notebook())


def test_the_table_has_a_row_per_run(campaign: api.Campaign) -> None:
    table = campaign.table
    assert campaign.complete
    assert campaign.failed == {}
    assert len(table) == 8
    assert {"strategy", "seed", "load", "objective", "success_rate", "bound"} <= set(table.columns)
    assert (table["bound"] <= table["objective"]).all()


def test_a_folder_can_be_loaded_later(campaign: api.Campaign) -> None:
    again = api.load_campaign(campaign.folder)
    assert again.table.equals(campaign.table)


def test_everything_can_be_chosen() -> None:
    run = api.simulate(
        StrategyEntry(name="RF"),
        testbed="campus",
        profile=ProfileEntry(name="t4", scale={"start": 0.5}),
        workload="poisson",
        epochs=1,
        load=0.5,
        faults=Faults(name="some", random=RandomOutages(per_node_hour=1, repair_s=100)),
        tau_s=600.0,
        epoch_slots=20,
    )
    assert run.experiment["tau_s"] == 600.0
    assert run.requests["slot"].max() < 20  # type: ignore[operator]


def test_what_is_no_axis_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"colour: is no axis.*strategies, seeds"):
        api.run_campaign("smoke", tmp_path / "out", colour="red")
    assert list(tmp_path.iterdir()) == []


def test_wrong_values_are_named() -> None:
    with pytest.raises(InputError, match="epochs"):
        api.simulate(epochs=0)
    with pytest.raises(InputError, match="is not a known field"):
        api.simulate(colour="red")
    with pytest.raises(InputError, match=r"XX.*choose one of"):
        api.simulate("XX")


def test_an_absent_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no campaign folder"):
        api.load_campaign(tmp_path / "none")


APPROVE = {"mode": "approve"}


def test_a_function_approves_policies() -> None:
    asked: list[str] = []

    def refuse(text: str) -> bool:
        asked.append(text)
        return False

    run = api.simulate("MA", epochs=1, epoch_slots=4, parameters=APPROVE, approver=refuse)
    assert "LM1 to vm2" in asked[0]
    planned = [line for line in run.decisions if line["tier"] == "planner"]
    assert planned[0]["approval"] == "rejected"


@pytest.mark.parametrize("word", ["n", None, 1])
def test_only_true_and_false_are_a_word(word: object) -> None:
    with pytest.raises(InputError, match=r"approver: must return True or False"):
        api.simulate(
            "MA", epochs=1, epoch_slots=4, parameters=APPROVE,
            approver=lambda _: word,  # type: ignore[arg-type, return-value]
        )  # fmt: skip


def test_a_campaign_does_not_take_silence_for_a_no(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "{name: c, summary: s, seeds: 1, epochs: 1, "
        "strategies: [{name: MA, parameters: {mode: approve}}]}"
    )
    with pytest.raises(InputError, match="needs somebody to approve"):
        api.run_campaign(file, tmp_path / "out")


async def promise(text: str) -> bool:
    return bool(text)


@pytest.mark.parametrize("approver", [None, object(), "yes", promise])
def test_who_cannot_approve_is_refused_before_the_run(approver: object) -> None:
    with pytest.raises(InputError, match=r"simulate: approver: cannot approve.*True or False"):
        api.simulate("MA", epochs=1, parameters=APPROVE, approver=approver)  # type: ignore[arg-type]
