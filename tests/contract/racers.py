"""Work of processes that race for leases."""

import uuid
from contextlib import closing
from multiprocessing.synchronize import Barrier

from controller.lease import Held, Leases
from controller.store.mongo import open_mongo

ROUNDS = 15


def new_name() -> str:
    """A database of a test's own."""
    return f"edgelm-test-{uuid.uuid4().hex[:8]}"


def race(url: str, database: str, start: Barrier, who: int) -> list[tuple[int, int]]:
    won = []
    with closing(open_mongo(url, database, timeout_s=20)) as store:
        leases = Leases(store)
        for step in range(ROUNDS):
            start.wait()
            try:
                won.append((step, leases.acquire(f"gpu-{step}", f"racer-{who}", 600).fence))
            except Held:
                continue
    return won


def step_up(url: str, database: str, start: Barrier, who: int) -> list[int]:
    """Acquire and release one lease again and again."""
    fences: list[int] = []
    with closing(open_mongo(url, database, timeout_s=20)) as store:
        leases = Leases(store)
        start.wait()
        while len(fences) < ROUNDS:
            try:
                lease = leases.acquire("gpu", f"racer-{who}", 600)
            except Held:
                continue
            assert leases.look("gpu") == lease
            fences.append(lease.fence)
            leases.release(lease)
    return fences
