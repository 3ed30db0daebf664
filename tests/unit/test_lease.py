from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controller.domain.errors import InputError
from controller.lease import Held, Lease, Leases, Lost
from controller.ports import Store
from controller.store.sqlite import memory_store


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.unix_s = 1_000_000.0

    def __call__(self) -> float:
        return self.unix_s


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def store() -> Iterator[Store]:
    with closing(memory_store()) as opened:
        yield opened


@pytest.fixture
def leases(store: Store, clock: Time) -> Leases:
    return Leases(store, clock)


def test_the_first_gets_it_and_the_second_is_told_who_has_it(leases: Leases, clock: Time) -> None:
    lease = leases.acquire("testbed", "ann", 60)
    assert lease == Lease("testbed", "ann", 1, clock.unix_s + 60)
    with pytest.raises(Held, match=r"^held by ann until 13:47:40 UTC \(fence 1\)$") as caught:
        leases.acquire("testbed", "ben", 60)
    assert caught.value.lease == lease == leases.look("testbed")


def test_leases_of_two_keys_do_not_mix(leases: Leases) -> None:
    leases.acquire("a", "ann", 60)
    assert leases.look("a#1") is None
    assert leases.acquire("a#1", "ben", 60).fence == 1
    assert leases.look("b") is None


def test_another_takes_it_when_it_has_ended(leases: Leases, clock: Time) -> None:
    leases.acquire("testbed", "ann", 60)
    clock.unix_s += 59.9
    with pytest.raises(Held):
        leases.acquire("testbed", "ben", 60)
    clock.unix_s += 0.1
    assert leases.look("testbed") is None
    assert leases.acquire("testbed", "ben", 60).fence == 2


def test_a_holder_keeps_its_own_with_its_fence(leases: Leases, clock: Time) -> None:
    first = leases.acquire("testbed", "ann", 60)
    clock.unix_s += 3600
    second = leases.acquire("testbed", "ann", 60)
    assert (second.fence, second.until_unix_s) == (first.fence, clock.unix_s + 60)
    assert leases.look("testbed") == second


def test_renewing_keeps_the_fence(leases: Leases, clock: Time) -> None:
    lease = leases.acquire("testbed", "ann", 60)
    clock.unix_s += 50
    renewed = leases.renew(lease, 60)
    assert renewed == Lease("testbed", "ann", lease.fence, clock.unix_s + 60)
    clock.unix_s += 50
    with pytest.raises(Held):
        leases.acquire("testbed", "ben", 60)
    assert leases.renew(lease, 60).fence == lease.fence  # any lease of this fence will do


def test_a_lease_that_has_ended_is_renewed_unless_somebody_took_it(
    leases: Leases, clock: Time
) -> None:
    lease = leases.acquire("testbed", "ann", 60)
    clock.unix_s += 3600
    lease = leases.renew(lease, 60)
    assert leases.look("testbed") == lease
    clock.unix_s += 3600
    leases.acquire("testbed", "ben", 60)
    with pytest.raises(Lost) as caught:
        leases.renew(lease, 60)
    assert caught.value.lease == lease


def test_release_frees_it_and_fences_still_grow(leases: Leases) -> None:
    lease = leases.acquire("testbed", "ann", 60)
    leases.release(lease)
    assert leases.look("testbed") is None
    with pytest.raises(Lost):
        leases.renew(lease, 60)
    leases.release(lease)  # twice is fine
    other = leases.acquire("testbed", "ben", 60)
    assert other.fence == 2
    leases.release(lease)
    assert leases.look("testbed") == other
    leases.release(other)
    assert leases.acquire("testbed", "ann", 60).fence == 3


def test_what_was_never_taken_cannot_be_renewed_and_its_release_does_nothing(
    leases: Leases,
) -> None:
    lease = Lease("testbed", "ann", 1, 0.0)
    with pytest.raises(Lost):
        leases.renew(lease, 60)
    leases.release(lease)
    assert leases.look("testbed") is None


@pytest.mark.parametrize("ttl_s", [0, -1, math.inf, math.nan])
def test_a_duration_that_cannot_be_is_refused(leases: Leases, ttl_s: float) -> None:
    with pytest.raises(InputError, match="ttl_s"):
        leases.acquire("testbed", "ann", ttl_s)
    assert leases.look("testbed") is None


def test_a_lease_needs_a_holder(leases: Leases) -> None:
    with pytest.raises(InputError, match="holder"):
        leases.acquire("testbed", "", 60)


def test_the_store_does_not_grow_with_renewals(leases: Leases, store: Store) -> None:
    lease = leases.acquire("testbed", "ann", 60)
    for _ in range(20):
        leases.renew(lease, 60)
    assert len(store.find("leases")) <= 2


def test_a_writer_that_slept_does_not_revive_an_old_version(leases: Leases, store: Store) -> None:
    lease = leases.acquire("testbed", "ann", 60)
    for _ in range(5):
        lease = leases.renew(lease, 60)
    # Version 2 was removed long ago, and its key is free for who read version 1 before.
    slept = {"key": "testbed", "holder": "ben", "fence": 2, "until_unix_s": 9e9}
    assert store.insert("leases", "testbed#2", {**slept, "version": 2})
    assert leases.look("testbed") == lease
    assert leases.renew(lease, 60).fence == lease.fence


@pytest.mark.parametrize("error", [Held, Lost])
def test_the_errors_can_be_sent_to_another_process(error: type[Held | Lost]) -> None:
    lease = Lease("testbed", "ann", 1, 0.0)
    sent = pickle.loads(pickle.dumps(error(lease)))  # noqa: S301
    assert sent.lease == lease
    assert str(sent) == str(error(lease))


HOLDERS = st.sampled_from(["ann", "ben"])
DURATIONS = st.sampled_from([1.0, 10.0, 60.0])


class TwoHolders(RuleBasedStateMachine):
    """Two holders that acquire, renew and release as they like. Each believes in a lease until its
    time is over by the common clock, or until it is told otherwise."""

    @initialize()
    def begin(self) -> None:
        self.store = memory_store()
        self.clock = Time()
        self.leases = Leases(self.store, self.clock)
        self.fence = 0
        self.owner = ""  # who has acquired it last and not given it back
        self.mine: dict[str, Lease] = {}  # newest lease of each holder
        self.given: list[Lease] = []  # all that there ever were

    @rule(holder=HOLDERS, ttl_s=DURATIONS)
    def acquire(self, holder: str, ttl_s: float) -> None:
        before = self.leases.look("testbed")
        if before and before.holder != holder:
            with pytest.raises(Held) as caught:
                self.leases.acquire("testbed", holder, ttl_s)
            assert caught.value.lease == before
            return
        lease = self.leases.acquire("testbed", holder, ttl_s)
        assert lease.fence == self.fence + (self.owner != holder)
        self.fence, self.owner = lease.fence, holder
        self.mine[holder] = lease
        self.given.append(lease)

    @rule(data=st.data(), ttl_s=DURATIONS)
    def renew(self, data: st.DataObject, ttl_s: float) -> None:
        if not self.given:
            return
        lease = data.draw(st.sampled_from(self.given))
        try:
            renewed = self.leases.renew(lease, ttl_s)
        except Lost:
            if self.mine.get(lease.holder) == lease:
                del self.mine[lease.holder]
            return
        assert renewed.fence == lease.fence == self.fence
        self.mine[lease.holder] = renewed

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if not self.given:
            return
        lease = data.draw(st.sampled_from(self.given))
        before = self.leases.look("testbed")
        self.leases.release(lease)
        if lease.fence == self.fence:
            assert self.leases.look("testbed") is None
            self.owner = ""
            self.mine.pop(lease.holder, None)
        else:
            assert self.leases.look("testbed") == before

    @rule(by_s=st.sampled_from([0.5, 5.0, 30.0, 100.0]))
    def wait(self, by_s: float) -> None:
        self.clock.unix_s += by_s

    @invariant()
    def one_holder_at_most_and_the_store_knows_it(self) -> None:
        if not hasattr(self, "leases"):
            return
        live = [one for one in self.mine.values() if one.until_unix_s > self.clock.unix_s]
        assert len(live) <= 1
        assert self.leases.look("testbed") == (live[0] if live else None)

    def teardown(self) -> None:
        with suppress(AttributeError):
            self.store.close()


TestTwoHolders = TwoHolders.TestCase
TestTwoHolders.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


DAY_S = 86_400.0


def kept(store: Store) -> list[str]:
    return sorted({one["key"] for one in store.find("leases")})


def test_leases_that_ended_long_ago_are_removed(leases: Leases, store: Store, clock: Time) -> None:
    leases.release(leases.acquire("c/released", "ann", 60))
    leases.acquire("c/ended", "ann", 60)
    leases.acquire("testbed", "ann", 60)
    leases.acquire("c/renewed", "ann", 60)
    clock.unix_s += 8 * DAY_S
    leases.acquire("c/renewed", "ben", 60)  # its former version ended long ago
    leases.release(leases.acquire("c/new", "ann", 60))
    assert leases.forget(7 * DAY_S, lambda key: "/" in key) == 2
    assert kept(store) == ["c/new", "c/renewed", "testbed"]
    assert leases.acquire("testbed", "ben", 60).fence == 2
    with pytest.raises(Held):
        leases.acquire("c/renewed", "eve", 60)
    assert leases.acquire("c/ended", "ben", 60).fence == 1
    assert leases.forget(7 * DAY_S, lambda key: key != "") == 0


def test_a_lease_that_is_being_removed_is_refused(store: Store, clock: Time) -> None:
    leases = Leases(store, clock)
    leases.release(leases.acquire("c/old", "ann", 60))
    clock.unix_s += 8 * DAY_S

    class Halting(Leases):
        """Looks, as another caller would, while a lease is taken to be removed."""

        def _append(self, version: int, lease: Lease) -> bool:
            done = super()._append(version, lease)
            with pytest.raises(Held, match="it is being removed"):
                leases.acquire("c/old", "ben", 60)
            return done

    assert Halting(store, clock).forget(7 * DAY_S, lambda key: key != "") == 1
    assert leases.acquire("c/old", "ben", 60).fence == 1
