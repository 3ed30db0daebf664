"""Flat memory over 20,000 requests of one node service."""

from tests.live.memory import EVERY, WARM, measure
from tests.waiting import waits

REQUESTS = 20_000
RATE = 40.0  # requests a second
NODE_KB = 300.0  # per 1,000 requests; measured: 111
CONTROLLER_KB = 2_500.0  # it keeps the records of the run that is on; measured: 926


@waits
def test_memory_is_flat_over_20000_requests() -> None:
    growth = measure(REQUESTS, RATE)
    print("", *growth.lines(), sep="\n")  # noqa: T201
    assert len(growth.closed) >= (REQUESTS - WARM) // EVERY
    assert growth.kb_per_thousand("node") < NODE_KB
    assert growth.kb_per_thousand("controller") < CONTROLLER_KB
