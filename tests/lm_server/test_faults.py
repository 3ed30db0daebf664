"""Kills and shutdowns at any moment: nothing accepted is lost, nothing recorded is done again."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from lm_server.checkpoint import Checkpoint, DamagedCheckpoint

from tests.lm_server.servers import PACKAGE, Server, serving, wait_for

KILLS = int(os.environ.get("EDGELM_KILLS", "10"))  # make e2e asks for more
BATCH = 2


def recorded(server: Server) -> Counter[tuple[str, str]]:
    with (server.data / "checkpoint.csv").open() as file:
        return Counter((row[1], row[2]) for row in csv.reader(file) if row[0] == "recorded")


def test_kills_at_any_moment_lose_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    names: list[str] = []
    with serving(tmp_path) as server:
        for kill in range(KILLS):
            wait_for(lambda: server.metric("edgelm_queue_prompts") < 32)
            for _ in range(2):
                names.append(f"r{len(names)}")
                assert server.submit(names[-1], prompts=4)[0] == 202
            time.sleep(rng.uniform(0, 0.3))
            if kill % 2:
                os.kill(server.worker(), signal.SIGKILL)
            else:
                server.kill()
                server.start(ready=False)
        views = [server.wait_for_end(name) for name in names]
        counts = recorded(server)
    assert [view["state"] for view in views] == ["done"] * len(names)  # lost: 0
    assert all(view["recorded"] == [0, 1, 2, 3] for view in views)
    assert len(counts) == 4 * len(names)
    assert set(counts.values()) == {1}  # returned twice: 0
    assert sum(view["recomputed_prompts"] for view in views) <= BATCH * KILLS


def test_a_batch_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    with serving(tmp_path, seconds=60) as server:
        server.submit("poison", prompts=1)
        for restarts in range(3):
            time.sleep(0.3)
            os.kill(server.worker(), signal.SIGKILL)
            while server.metric("edgelm_worker_restarts_total") == restarts:
                time.sleep(0.02)
            while server.ask("GET", "/readyz")[0] != 200:
                time.sleep(0.02)
        assert server.wait_for_end("poison")["state"] == "engine_error"


@pytest.mark.parametrize("after_s", [0.0, 0.3, 1.5])
def test_term_ends_in_order_also_while_the_engine_loads(tmp_path: Path, after_s: float) -> None:
    server = Server(tmp_path, start_s=1.0, seconds=0.4)
    server.start(ready=False)
    server.submit("one", prompts=8)
    time.sleep(after_s)
    assert server.stop() == 0
    server.start()
    try:
        assert server.wait_for_end("one")["recorded"] == list(range(8))
        assert server.state("one")["recomputed_prompts"] == 0  # the batch in hand was finished
    finally:
        server.kill()


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.accept({"id": "a", "prompts": [{}, {}], "deadline_unix_s": 1.0})
    checkpoint.begin("a", [0, 1])
    checkpoint.record("a", {0: b"zero", 1: b"one"})
    checkpoint.close()
    path = tmp_path / "checkpoint.csv"
    content = path.read_bytes()
    for cut in range(len(content) - 90, len(content)):
        path.write_bytes(content[:cut])
        again = Checkpoint(tmp_path)
        assert set(again.requests["a"].recorded) == {0}
        assert again.result("a", 0) == b"zero"
        assert again.result("a", 1) is None
        again.close()


def test_old_requests_are_forgotten_once_they_are_over(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    for name in ("over", "open"):
        checkpoint.accept({"id": name, "prompts": [{}], "deadline_unix_s": 1.0})
        checkpoint.record(name, {0: b"zero"})
    checkpoint.end("over", "")
    assert checkpoint.forget(time.time() - 60) == 0
    assert checkpoint.forget(time.time() + 60) == 1
    checkpoint.close()
    again = Checkpoint(tmp_path)
    assert list(again.requests) == ["open"]
    assert again.result("open", 0) == b"zero"
    assert len(list((tmp_path / "results").iterdir())) == 1
    assert len((tmp_path / "checkpoint.csv").read_text().splitlines()) == 1
    again.close()


def test_damage_in_the_middle_is_no_progress(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.csv").write_bytes(b"recorded,abc,0,beef\nended,abc,-1,done\n")
    with pytest.raises(DamagedCheckpoint, match=r"checkpoint\.csv: line 1 is damaged: move"):
        Checkpoint(tmp_path)


def test_a_result_that_was_changed_is_not_returned(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.accept({"id": "a", "prompts": [{}], "deadline_unix_s": 1.0})
    checkpoint.record("a", {0: b"zero"})
    (result,) = (tmp_path / "results").iterdir()
    result.write_bytes(b"other")
    assert checkpoint.result("a", 0) is None
    checkpoint.close()


def test_a_full_disk_refuses_what_is_new(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, floor_bytes=2**62)
    assert not checkpoint.has_room
    checkpoint.close()


def test_the_server_needs_nothing_of_edgelm() -> None:
    code = "import lm_server.__main__, sys; sys.exit('controller' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
