"""What claims on runs promise, by locks of files and by leases in a store."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from controller.campaigns.claims import LOCKS, Claims, LeaseClaims, forget_claim
from controller.domain.errors import Transient
from controller.lease import Leases
from controller.results import folder
from controller.store.mongo import open_mongo
from tests.mongo.servers import MongoDev, mongo_dev, until
from tests.samples.stores import shared_sqlite
from tests.unit.results.test_folder import FILES, RUN


@pytest.fixture(params=["locks", "leases"])
def claims(request: pytest.FixtureRequest, tmp_path: Path) -> Claims:
    if request.param == "locks":
        return LOCKS
    return LeaseClaims(partial(shared_sqlite, tmp_path / "claims.sqlite"), ttl_s=1.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "campaign"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MongoDev]:
    with mongo_dev(tmp_path) as started:
        yield started


def test_claims_can_be_sent_to_another_process(claims: Claims, root: Path) -> None:
    sent: Claims = pickle.loads(pickle.dumps(claims))  # noqa: S301
    assert _is_free(sent, root)


def test_a_claim_excludes_others_and_ends(claims: Claims, root: Path) -> None:
    with claims.opened() as ours, claims.opened() as theirs:
        with ours.claim(root, RUN) as mine:
            assert mine
            assert mine.is_kept()
            with theirs.claim(root, RUN) as other:
                assert other is None
            with theirs.claim(root, "other") as other:
                assert other
        with theirs.claim(root, RUN) as again:
            assert again
            folder.publish(root, RUN, FILES)
    assert not (folder.runs_folder(root) / f".{RUN}.lock").exists()


def _claim_and_hang(claims: Claims, root: Path, ready: Event) -> None:
    with claims.opened() as book, book.claim(root, RUN):
        ready.set()
        signal.pause()


@contextlib.contextmanager
def _claimed_by_another(claims: Claims, root: Path) -> Iterator[int]:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_claim_and_hang, args=(claims, root, ready))
    process.start()
    assert ready.wait(30)
    assert process.pid
    try:
        yield process.pid
    finally:
        process.kill()
        process.join()


def _is_free(claims: Claims, root: Path) -> bool:
    with claims.opened() as book, book.claim(root, RUN) as mine:
        return mine is not None


def test_the_claim_of_a_living_process_lasts_and_that_of_a_killed_one_ends(
    claims: Claims, root: Path
) -> None:
    with _claimed_by_another(claims, root) as process:
        for _ in range(4):  # twice as long as a lease that is not renewed
            assert not _is_free(claims, root)
            time.sleep(0.5)
        os.kill(process, signal.SIGKILL)
        until(lambda: _is_free(claims, root))


def test_who_slept_over_the_end_of_a_lease_has_lost_the_run(root: Path, tmp_path: Path) -> None:
    claims = LeaseClaims(partial(shared_sqlite, tmp_path / "claims.sqlite"))
    with claims.opened() as book, book.claim(root, RUN) as mine:
        assert mine
        assert mine.is_kept()
        with contextlib.closing(claims.open_store()) as store:
            later = Leases(store, lambda: time.time() + 3600)
            taken = later.acquire(f"{root.name}/{RUN}", "another", 60)
            assert not mine.is_kept()
            later.renew(taken, 60)  # nor has the sleeper taken it back


def test_what_a_kill_left_beside_a_finished_run_is_removed(claims: Claims, root: Path) -> None:
    folder.publish(root, RUN, FILES)
    lock = folder.runs_folder(root) / f".{RUN}.lock"
    for left in (lock, folder.unfinished_transcript(root, RUN)):
        left.touch()
    forget_claim(claims, root, RUN)
    assert [path.name for path in folder.runs_folder(root).iterdir()] == [RUN]


def test_a_store_that_was_away_costs_no_claim(server: MongoDev, root: Path) -> None:
    claims = LeaseClaims(partial(open_mongo, server.url, timeout_s=0.5), ttl_s=1.0)
    with claims.opened() as book, claims.opened() as others, book.claim(root, RUN) as mine:
        assert mine
        server.kill()
        with pytest.raises(Transient), others.claim(root, RUN):
            pass
        with pytest.raises(Transient):
            mine.is_kept()
        time.sleep(1.5)  # the lease has ended, and nobody could take it
        server.start()
        until(lambda: _is_kept(mine))
        with others.claim(root, RUN) as theirs:
            assert theirs is None


def _is_kept(claim: object) -> bool:
    try:
        return claim.is_kept()  # type: ignore[attr-defined, no-any-return]
    except Transient:
        return False
