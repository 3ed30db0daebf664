"""The lease of a testbed, from the side of who uses it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from controller.bootstrap.cluster import Address
from controller.domain.errors import Permanent, Transient
from controller.testbed.handshake import headers
from controller.testbed.keys import CONTROLLER

TTL_S: Final = 60.0
TIMEOUT_S: Final = 10.0
PATIENCE_S: Final = 60.0  # for a controller that is being started again
RETRY_S: Final = 0.5


@contextlib.contextmanager
def held(testbed: Address, what: str) -> Iterator[Address]:
    """Have a testbed's lease, renewed until the end; yields the testbed with its fence.

    A lease that cannot be renewed for its whole time is anybody's: then the controller refuses
    what comes with its fence.

    Args:
        what: for people who wonder who has the testbed.

    Raises:
        Permanent: somebody else has it, or the controller does not answer.
    """
    holder = f"{what}, {socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
    wanted = {"holder": holder, "ttl_s": TTL_S}
    found = _acquired(testbed, wanted)
    fence, over = int(found["fence"]), threading.Event()

    def renew() -> None:
        while not over.wait(TTL_S / 3):
            # The next may be heard; a lost one is no harm.
            with contextlib.suppress(Permanent, Transient):
                _ask(testbed, "PUT", {**wanted, "fence": fence})

    renewing = threading.Thread(target=renew, daemon=True, name="edgelm-lease")
    renewing.start()
    try:
        yield replace(testbed, fence=fence)
    finally:
        over.set()
        renewing.join()
        query = urlencode({"holder": holder})
        with contextlib.suppress(Permanent, Transient):  # it ends by itself
            _ask(testbed, "DELETE", None, f"?{query}")


def _acquired(testbed: Address, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the lease.

    Raises:
        Permanent: somebody else has it, or the controller does not answer for ``PATIENCE_S``.
    """
    end_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return _ask(testbed, "PUT", wanted)
        except Transient as error:
            if time.monotonic() > end_s:
                raise Permanent(str(error)) from error
            time.sleep(RETRY_S)


def _ask(
    testbed: Address, method: str, body: Mapping[str, Any] | None, query: str = ""
) -> dict[str, Any]:
    """Return the controller's answer about its lease.

    Raises:
        Permanent: it refuses.
        Transient: it does not answer.
    """
    shown = {**headers(testbed.keys(), CONTROLLER), "Content-Type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    request = Request(  # noqa: S310 - the user's URL
        f"{testbed.url}/v1/lease{query}", content, shown, method=method
    )
    try:
        with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
            return found
    except HTTPError as error:
        with error:
            said = error.read().decode(errors="replace")[:500]
        with contextlib.suppress(ValueError, KeyError, TypeError):
            said = json.loads(said)["problem"]
        raise Permanent(f"the controller at {testbed.url} refuses the testbed: {said}") from error
    except (OSError, ValueError) as error:
        raise Transient(f"the controller at {testbed.url} does not answer: {error}") from error
