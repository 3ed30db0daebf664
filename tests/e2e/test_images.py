"""An image that make images has built, as a container: limits, resize, end."""

import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lm_server.servers import Server, wait_for

NAME = f"edgelm-test-{os.getpid()}"


def podman(*arguments: str) -> str:
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server in a container with one CPU and a root that nobody can write."""
    image = os.environ.get("EDGELM_IMAGE")
    if not image or not shutil.which("podman"):
        pytest.skip("needs podman: make images TARGETS=emulated, then EDGELM_IMAGE=NAME make e2e")
    server = Server(tmp_path, seconds=0.05)
    tmp_path.chmod(0o755)
    (tmp_path / "times.json").chmod(0o644)
    podman(
        "run", "--detach", "--name", NAME, "--read-only", "--cap-drop", "all", "--cpus", "1",
        "--publish", "127.0.0.1::8001", "--volume", f"{tmp_path}:/models:ro", image,
        "--engine", "emulated", "--model", "/models/times.json", "--floor-gb", "0",
    )  # fmt: skip
    try:
        server.url = "http://" + podman("port", NAME, "8001")
        wait_for(lambda: answers(server.url))
        yield server
    finally:
        podman("rm", "--force", "--volumes", "--time", "0", NAME)


def answers(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(f"{url}/readyz", timeout=5).status == 200)  # noqa: S310
    except OSError:
        return False


def test_a_container_feels_its_resize_and_ends_in_order(server: Server) -> None:
    assert podman("exec", NAME, "id", "-u") == "10001"
    assert "Read-only" in podman("exec", NAME, "sh", "-c", "touch /opt/x 2>&1 || true")
    for cpus in (1, 2):
        podman("update", "--cpus", str(cpus), NAME)
        server.submit(f"with-{cpus}", prompts=1)
        assert server.wait_for_end(f"with-{cpus}")["state"] == "done"
        assert server.metric("edgelm_engine_threads") == min(cpus, os.cpu_count() or 1)
    assert server.metric("edgelm_worker_restarts_total") == 0
    began_s = time.monotonic()
    podman("stop", "--time", "20", NAME)
    assert time.monotonic() - began_s < 15
    assert podman("inspect", NAME, "--format", "{{.State.ExitCode}}") == "0"
