"""Emulated engines on one GPU progress by the twin's rule, in processes of their own."""

import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lm_server.engines.gpu_share import SLOTS, GpuShare

from tests.lm_server.servers import PACKAGE, serving

LOSS = 0.05
SHARED = (1 - LOSS) / 2  # rate of each of two

ENGINE = """
import sys, time
from pathlib import Path
from lm_server.engines.emulated import EmulatedEngine
engine = EmulatedEngine(Path(sys.argv[1]))
engine.load()
print("loaded", flush=True)
time.sleep(max(0.0, float(sys.stdin.readline()) - time.monotonic()))
began_s = time.monotonic()
engine.run([{"seed": 1, "output_tokens": 1}], lambda: False, lambda: None)
print(time.monotonic() - began_s, flush=True)
"""


class Engine:
    """A process with one engine that computes one prompt."""

    def __init__(self, folder: Path, seconds: float, *gpus: str) -> None:
        times = {
            "seconds": seconds,
            "gpus": [str(folder / one) for one in gpus],
            "switch_loss": LOSS,
        }
        path = folder / f"{os.urandom(4).hex()}.json"
        path.write_text(json.dumps(times))
        self.process = subprocess.Popen(
            [sys.executable, "-c", ENGINE, path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        )  # fmt: skip
        assert self._line() == "loaded"

    def begin(self, at_s: float) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{at_s}\n")
        self.process.stdin.flush()

    def took_s(self) -> float:
        took_s = float(self._line())
        self.process.communicate(timeout=10)
        return took_s

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def together(engines: list[Engine], *delays_s: float) -> list[float]:
    """Return the seconds that each took, having begun its delay after the first."""
    begin_s = time.monotonic() + 0.1
    for engine, delay_s in zip(engines, delays_s, strict=True):
        engine.begin(begin_s + delay_s)
    return [engine.took_s() for engine in engines]


def about(expected_s: float) -> object:
    return pytest.approx(expected_s, rel=0.06, abs=0.04)


def test_alone_is_the_full_rate(tmp_path: Path) -> None:
    engines = [Engine(tmp_path, 0.5, "gpu0"), Engine(tmp_path, 0.5, "gpu1")]
    assert together(engines, 0, 0) == [about(0.5)] * 2


def test_two_share_and_the_second_goes_on_alone(tmp_path: Path) -> None:
    engines = [Engine(tmp_path, 0.4, "gpu0"), Engine(tmp_path, 0.8, "gpu0")]
    first_s = 0.4 / SHARED
    assert together(engines, 0, 0) == [about(first_s), about(first_s + 0.4)]


def test_one_that_joins_later_slows_the_other_from_then_on(tmp_path: Path) -> None:
    engines = [Engine(tmp_path, 0.8, "gpu0"), Engine(tmp_path, 0.8, "gpu0")]
    shared_s = 0.4 / SHARED  # what the first has left when the second joins
    assert together(engines, 0, 0.4) == [about(0.4 + shared_s), about(shared_s + 0.4)]


def test_the_fullest_gpu_decides(tmp_path: Path) -> None:
    # Three on gpu0, of which one is on gpu1 too; two on gpu1.
    engines = [
        Engine(tmp_path, 0.3, "gpu0"),
        Engine(tmp_path, 0.3, "gpu0", "gpu0"),  # two slices of one GPU give no more than one
        Engine(tmp_path, 0.3, "gpu0", "gpu1"),
        Engine(tmp_path, 0.3, "gpu1"),
    ]
    of_three_s = 0.3 * 3 / (1 - LOSS)
    assert together(engines, 0, 0, 0, 0) == [*[about(of_three_s)] * 3, about(0.3 / SHARED)]


def test_a_killed_engine_counts_no_more(tmp_path: Path) -> None:
    survivor, victim = Engine(tmp_path, 0.8, "gpu0"), Engine(tmp_path, 60, "gpu0")
    begin_s = time.monotonic() + 0.1
    survivor.begin(begin_s)
    victim.begin(begin_s)
    time.sleep(begin_s + 0.5 - time.monotonic())
    victim.kill()
    alone_after_s = 0.5 + 0.8 - 0.5 * SHARED
    assert alone_after_s < survivor.took_s() < alone_after_s + 0.25 * (1 - SHARED) + 0.06
    heir = Engine(tmp_path, 0.1, "gpu0")  # in the slot of one of them
    assert together([heir], 0) == [about(0.1)]


def test_servers_of_one_node_share_a_gpu(tmp_path: Path) -> None:
    times = {"seconds": 12, "time_scale": 20, "gpus": [str(tmp_path / "gpu0")]}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with serving(tmp_path / "a", **times) as first, serving(tmp_path / "b", **times) as second:
        views = []
        for servers in ([first, second], [first]):
            for server in servers:
                server.submit(f"r{len(servers)}", prompts=1)
            views += [server.wait_for_end(f"r{len(servers)}") for server in servers]
    took_s = [
        view["batches"][0]["recorded_unix_s"] - view["batches"][0]["began_unix_s"] for view in views
    ]
    assert took_s == [about(0.6 / SHARED), about(0.6 / SHARED), about(0.6)]


def test_beats_from_before_a_reboot_do_not_count(tmp_path: Path) -> None:
    ahead_s = time.monotonic() + 1e6
    (tmp_path / "gpu0").write_bytes(struct.pack("d", ahead_s) * SLOTS)
    share = GpuShare([tmp_path / "gpu0"], LOSS)
    share.open()
    assert share.serve() == 1.0


def test_a_full_file_is_refused(tmp_path: Path) -> None:
    # A process never meets its own locks: others hold the slots.
    code = (
        "import fcntl, sys\nfile = open(sys.argv[1], 'ab')\nfcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print(flush=True)\nsys.stdin.read()"
    )
    path = tmp_path / "gpu0"
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(OSError, match=rf"gpu0: {SLOTS} engines are on this GPU: end one"):
            GpuShare([path], LOSS).open()
        other.communicate()
