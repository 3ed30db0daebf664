"""Exporters for tests: an HTTP server on loopback whose answer a test chooses, and Debian's node
exporter."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest

SAMPLES = Path(__file__).parent / "samples"
Answer = Callable[[BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def exporter(answer: Answer) -> Iterator[int]:
    """Serve ``answer`` to every GET. Yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError):
                answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def text(content: str | Callable[[], str], status: int = 200) -> Answer:
    """Answer with a text."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        body = (content() if callable(content) else content).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def drip(handler: BaseHTTPRequestHandler) -> None:
    """Answer with a byte now and then for 5 seconds: no gap is long, the whole is."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(50):
        handler.wfile.write(b"#")
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def node_exporter(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run Debian's node exporter; skip the test where it is not installed."""
    program = shutil.which("prometheus-node-exporter")
    if program is None:
        pytest.skip("no node exporter: apt-get install prometheus-node-exporter")
    process = subprocess.Popen(
        [program, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL
    )
    try:
        wait_for_port(port)
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def prometheus(
    folder: Path, scraped: Iterable[tuple[str, int]], every: str = "200ms"
) -> Iterator[str]:
    """Run Debian's Prometheus, which scrapes ports on loopback, each with its label ``node`` (""
    for none); skip the test where it is not installed. Yield its URL. It begins to scrape 5 s
    after its start."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no Prometheus: apt-get install prometheus")
    targets = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"node": node} if node else {}}
        for node, port in scraped
    ]
    config = {
        "global": {"scrape_interval": every, "scrape_timeout": every},
        "scrape_configs": [{"job_name": "edgelm", "static_configs": targets}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    port = free_port()
    process = subprocess.Popen(
        [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
         f"--web.listen-address=127.0.0.1:{port}"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for_answer(f"{url}/-/ready")
        yield url
    finally:
        process.kill()
        process.wait()


def _wait_for_answer(url: str, limit_s: float = 60.0) -> None:
    """Wait until a server that has begun to listen answers well."""
    end_s = time.monotonic() + limit_s
    while True:
        with contextlib.suppress(OSError), urlopen(url, timeout=1):  # noqa: S310 - a test's
            return
        assert time.monotonic() < end_s, f"{url} does not answer"
        time.sleep(0.1)


def wait_for_port(port: int, limit_s: float = 30.0) -> None:
    end_s = time.monotonic() + limit_s
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < end_s, f"nothing listens on {port}"
        time.sleep(0.02)
