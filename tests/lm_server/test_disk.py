"""A full disk: what was accepted waits and is not lost, what is new is refused with the remedy."""

import contextlib
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lm_server.checkpoint import Checkpoint

from tests.lm_server.servers import Server, serving, wait_for

REQUEST = {"id": "a", "prompts": [{"text": "x"}, {"text": "y"}], "deadline_unix_s": 1.0}


def limit_files(process: int, most_bytes: int) -> None:
    """Let no file of a process grow beyond a size, as a full disk would."""
    hard = resource.prlimit(process, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(process, resource.RLIMIT_FSIZE, (most_bytes, hard))


def test_less_than_the_floor_refuses_what_is_new(tmp_path: Path) -> None:
    with serving(tmp_path, "--floor-gb", "1e9") as server:
        status, answer = server.submit("new")
    assert status == 503
    remedy = f"less than --floor-gb is free): free space in {tmp_path / 'data'}"
    assert answer["problem"] == f"cannot store a request ({remedy}"


def test_lines_are_appended_whole_or_not_at_all(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.accept(REQUEST)
    checkpoint.record("a", {0: b"zero"})
    whole = (tmp_path / "checkpoint.csv").read_bytes()
    limit_files(0, len(whole) + 20)
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.record("a", {1: b"one"})
        assert (tmp_path / "checkpoint.csv").read_bytes() == whole
        assert set(checkpoint.requests["a"].recorded) == {0}
    finally:
        limit_files(0, resource.RLIM_INFINITY)
    checkpoint.record("a", {1: b"one"})
    checkpoint.close()
    again = Checkpoint(tmp_path)
    assert again.result("a", 1) == b"one"
    again.close()


def test_a_file_that_was_not_written_takes_no_space(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    limit_files(0, 10)
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.accept(REQUEST)
    finally:
        limit_files(0, resource.RLIM_INFINITY)
    assert list((tmp_path / "requests").iterdir()) == []
    assert checkpoint.requests == {}
    checkpoint.close()


def goes_on_once_there_is_space(
    server: Server, fill: Callable[[], None], free: Callable[[], None]
) -> None:
    server.submit("accepted", prompts=4, text="x" * 300)
    wait_for(lambda: server.state("accepted")["recorded"] == [0, 1])
    fill()
    wait_for(lambda: server.metric("edgelm_disk_full") == 1)
    status, answer = server.submit("new")
    assert status == 503
    assert answer["problem"].endswith(f"free space in {server.data}")
    assert server.ask("GET", "/healthz")[0] == 200
    assert server.state("accepted")["state"] == "open"
    free()
    assert server.wait_for_end("accepted")["recorded"] == [0, 1, 2, 3]
    assert server.state("accepted")["recomputed_prompts"] == 0  # its results were kept
    assert server.metric("edgelm_disk_full") == 0
    assert server.submit("new")[0] == 202
    server.wait_for_end("new")
    server.kill()
    server.start()
    for name in ("accepted", "new"):
        assert server.state(name)["state"] == "done"


def test_a_checkpoint_that_does_not_grow_waits(tmp_path: Path) -> None:
    with serving(tmp_path, seconds=0.5) as server:
        assert server.process is not None
        process, lines = server.process.pid, server.data / "checkpoint.csv"
        goes_on_once_there_is_space(
            server,
            lambda: limit_files(process, lines.stat().st_size + 60),
            lambda: limit_files(process, resource.RLIM_INFINITY),
        )


@pytest.mark.parametrize("unbuffered", ["", "1"])  # "": what was not written is tried at the end
def test_a_shutdown_does_not_wait_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbuffered: str
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with serving(tmp_path, seconds=0.2) as server:
        assert server.process is not None
        server.submit("accepted", prompts=4)
        limit_files(server.process.pid, 1)
        wait_for(lambda: server.metric("edgelm_disk_full") == 1)
        assert server.stop() == 0
        server.start()
        assert server.wait_for_end("accepted")["recorded"] == [0, 1, 2, 3]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs root and mount: sudo make test")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_without_space_waits(small_disk: Path) -> None:
    ballast = small_disk / "ballast"

    def fill() -> None:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(512))

    with serving(small_disk, seconds=0.5) as server:
        goes_on_once_there_is_space(server, fill, ballast.unlink)
