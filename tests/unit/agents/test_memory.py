"""The case memory: what it keeps, what it is asked for and what that costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from controller.agents.cases import (
    Case,
    alike,
    cluster_key,
    from_document,
    load_distance,
    sentence,
    to_document,
)
from controller.agents.memory import CaseMemory, Recall
from controller.domain.decisions import Demand
from controller.ports import Store
from controller.store.sqlite import open_store
from tests.unit.agents.epochs import ALL_UP, LEFT, RIGHT, THIRDS, case, cluster, policy
from tests.unit.agents.stores import fresh_store

PLENTY = 10_000
USUAL = Demand(np.array([10.0, 10.0]), np.array([2.0, 2.0]))  # as in epochs.outcomes
KEY = cluster_key(cluster())


def memory(store: Store, run: str = "run", tokens: int = PLENTY, key: str = KEY) -> CaseMemory:
    return CaseMemory(store, key, tokens, run)


def shown(recall: Recall) -> list[Case]:
    return [each.case for some in (recall.best, recall.worst, recall.nearest) for each in some]


def test_a_case_survives_its_document() -> None:
    one = replace(case(8, LEFT, succeeded=[40, 0], up=[True, False, True]), undone=True)
    assert from_document(to_document(one)) == one


def test_best_worst_and_nearest() -> None:
    some = memory(fresh_store())
    good, bad = case(4, LEFT, latency_s=10.0), case(8, RIGHT, latency_s=60.0)
    far = case(12, THIRDS, latency_s=5.0, prompts=[400, 400])
    last = case(16, policy([1, 0, 0], [0, 0, 1]), latency_s=11.0)
    for each in (far, good, bad, last):
        some.record(each)
    recall = some.recall(USUAL, ALL_UP)
    # Five times the load is not comparable: its low objective makes it no example.
    assert [each.case for each in recall.best] == [good, last]
    assert [each.case for each in recall.worst] == [bad]
    assert [each.case for each in recall.nearest] == [far]
    assert some.latest == last


def test_cases_with_a_node_down_come_after_those_with_the_same_nodes() -> None:
    some = memory(fresh_store())
    crippled = case(4, LEFT, latency_s=10.0, up=[True, True, False], prompts=[80, 80])
    busier = case(8, RIGHT, latency_s=10.0, prompts=[120, 120])
    last = case(12, THIRDS, prompts=[800, 800])
    for each in (crippled, busier, last):
        some.record(each)
    nearest = some.recall(USUAL, ("VM1", "VM2")).best
    assert nearest[0].case == crippled
    everything = shown(some.recall(USUAL, ALL_UP))
    assert everything.index(busier) < everything.index(crippled)


def test_much_the_same_is_shown_once_with_a_count() -> None:
    some = memory(fresh_store())
    for slot, latency_s in ((4, 10.0), (8, 14.0), (12, 12.0)):
        some.record(case(slot, LEFT, latency_s=latency_s))
    some.record(case(16, policy([0.97, 0.03, 0], [0.5, 0.5, 0]), latency_s=12.0))
    recall = some.recall(USUAL, ALL_UP)
    # The last has one role more, which makes it another policy.
    assert sorted(each.times for each in recall.best) == [1, 3]
    thrice = next(each for each in recall.best if each.times == 3)
    assert thrice.case.performance.t_mean_s == pytest.approx(12.0)
    assert str(thrice).endswith("Seen 3 times.")


def test_an_undone_policy_is_a_negative_precedent() -> None:
    some = memory(fresh_store())
    some.record(case(4, LEFT, latency_s=10.0))
    some.record(replace(case(8, RIGHT, latency_s=11.0), undone=True))
    (worst,) = some.recall(USUAL, ALL_UP).worst
    assert worst.case.undone
    assert str(worst).endswith("It was undone.")


@pytest.mark.parametrize("tokens", [0, 50, 150, 400, PLENTY])
def test_the_token_budget_is_kept(tokens: int) -> None:
    some = memory(fresh_store(), tokens=tokens)
    for k in range(8):
        share = k / 8
        made = policy([share, 1 - share, 0], [0, share, 1 - share])
        some.record(case(4 * k + 4, made, latency_s=10.0 + 5 * k))
    recall = some.recall(USUAL, ALL_UP)
    told = [str(each) for each in (*recall.best, *recall.worst, *recall.nearest)]
    assert sum(len(text) for text in told) <= 4 * tokens
    assert len(told) == {0: 0, 50: 0, 150: 2, 400: 6, PLENTY: 8}[tokens]


def test_memory_that_is_off_still_keeps_cases_for_others() -> None:
    store = fresh_store()
    memory(store, "off", tokens=0).record(case(4, LEFT))
    assert memory(store, "off", tokens=0).recall(USUAL, ALL_UP) == Recall()
    assert shown(memory(store, "on").recall(USUAL, ALL_UP)) == [case(4, LEFT)]


def test_an_epoch_is_kept_once() -> None:
    store = fresh_store()
    some = memory(store)
    some.record(case(4, LEFT))
    some.record(case(4, LEFT))
    memory(store).record(case(4, LEFT))  # the run was cut off and is made again
    assert len(store.find("cases")) == 1
    (only,) = some.recall(USUAL, ALL_UP).best
    assert only.times == 1


def test_an_epoch_without_outcomes_teaches_nothing() -> None:
    store = fresh_store()
    memory(store).record(case(4, LEFT, succeeded=[0, 0]))
    assert store.find("cases") == []


def test_cases_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    store = open_store(path)
    memory(store, "first").record(case(4, LEFT))
    store.close()
    store = open_store(path)
    assert shown(memory(store, "second").recall(USUAL, ALL_UP)) == [case(4, LEFT)]
    store.close()


def test_a_run_made_again_is_shown_what_it_was_shown_then() -> None:
    store = fresh_store()
    memory(store, "earlier").record(case(4, LEFT))
    then = memory(store)
    first = then.recall(USUAL, ALL_UP)
    then.record(case(4, THIRDS))
    second = then.recall(USUAL, ALL_UP)
    then.record(case(8, RIGHT))
    memory(store, "later").record(case(4, RIGHT, latency_s=1.0))
    again = memory(store)
    assert again.recall(USUAL, ALL_UP) == first
    again.record(case(4, THIRDS))
    assert again.recall(USUAL, ALL_UP) == second


def test_a_run_that_goes_on_in_another_process_has_its_own_cases() -> None:
    store = fresh_store()
    memory(store).record(case(4, LEFT))
    resumed = memory(store)
    resumed.record(case(8, RIGHT))
    assert set(map(repr, shown(resumed.recall(USUAL, ALL_UP)))) == {
        repr(case(4, LEFT)),
        repr(case(8, RIGHT)),
    }


def test_other_testbeds_are_not_shown() -> None:
    here = cluster()
    lms = tuple(replace(lm, name=f"{lm.name}b") for lm in here.testbed.lms)
    there = replace(here, testbed=replace(here.testbed, lms=lms))
    assert cluster_key(cluster()) == KEY
    assert cluster_key(there) != KEY
    store = fresh_store()
    memory(store, "there", key=cluster_key(there)).record(case(4, LEFT))
    assert shown(memory(store).recall(USUAL, ALL_UP)) == []


def test_twice_and_half_the_load_are_equally_far() -> None:
    usual, none = (20.0, 20.0), (0.0, 20.0)
    assert load_distance(usual, usual) == 0
    assert load_distance((40.0, 20.0), usual) == pytest.approx(load_distance(usual, (40.0, 20.0)))
    assert load_distance(none, usual) > load_distance((1.0, 20.0), usual)


def test_policies_that_move_a_few_requests_are_alike() -> None:
    def split(share: float) -> Case:
        return case(4, policy([share, 1 - share, 0], [0, 0, 1]))

    assert alike(split(0.50), split(0.54))
    assert not alike(split(0.50), split(0.56))


def test_a_case_in_words() -> None:
    told = case(
        8,
        policy([0, 0.6, 0.4], [1, 0, 0]),
        latency_s=20.0,
        succeeded=[30, 10],
        failed=[0, 10],
        up=[True, True, False],
    )
    assert sentence(told) == (
        "With 10/10 requests a slot of 2/2 prompts each, LM1/LM2 had success-only mean latencies"
        " 20/20 s with success ratios 1/0.5; F_norm 0.8, global mean latency 20 s, objective 0.2."
        " The policy sent LM1 to VM2 (60%) and VM3 (40%), LM2 to VM1 (100%). VM3 was down."
    )


def test_roles_without_a_share_are_told() -> None:
    made = replace(policy([1, 0, 0], [0, 1, 0]), roles=np.ones((3, 2), np.bool_))
    assert "It also allowed LM1 on VM2 and VM3, LM2 on VM1 and VM3." in sentence(case(4, made))


def test_the_sentence_of_a_large_cluster_counts_nodes() -> None:
    routing = {"LM1": {f"VM{n}": 0.01 for n in range(100)}, "LM2": {"VM1": 1.0}}
    told = sentence(replace(case(4), routing=routing))
    assert "VM4 (1%) and 95 more" in told
