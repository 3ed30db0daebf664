"""The testbed's lease, from the side of who uses it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from controller.bootstrap import holding
from controller.bootstrap.cluster import Address
from controller.bootstrap.holding import held
from controller.domain.errors import Permanent
from tests.unit.telemetry.exporters import free_port


class Controller(BaseHTTPRequestHandler):
    """Gives out the lease, and takes it back."""

    def do_PUT(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"fence": 7}).encode())

    def do_DELETE(self) -> None:
        self.do_PUT()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def late() -> Iterator[int]:
    """A port on which a controller begins to listen after a second."""
    port, servers = free_port(), []

    def serve() -> None:
        time.sleep(1.0)
        servers.append(ThreadingHTTPServer(("127.0.0.1", port), Controller))
        servers[0].serve_forever(0.02)

    serving = threading.Thread(target=serve)
    serving.start()
    yield port
    servers[0].shutdown()
    serving.join()
    servers[0].server_close()


def test_a_controller_that_is_being_started_again_is_waited_for(late: int) -> None:
    with held(Address(f"http://127.0.0.1:{late}", "", 1.0), "a test") as mine:
        assert mine.fence == 7


def test_one_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "PATIENCE_S", 0.0)
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Permanent, match=f"{url} does not answer"), held(Address(url, "", 1.0), "x"):
        pass
