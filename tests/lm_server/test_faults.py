"""Kills and shutdowns at any moment: nothing accepted is lost, nothing recorded is done again."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
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
        view = server.wait_for_end("poison")
        assert (view["state"], view["reason"]) == ("engine_error", "worker_lost")


FAULTY = """
import time
from lm_server.engines import ENGINES
from lm_server.engines.emulated import EmulatedEngine

class Faulty(EmulatedEngine):
    def run(self, prompts, stopped, beat):
        for one in prompts:
            if one["text"] == "hungry":
                raise MemoryError
            if one["text"] == "CANARY-7f3a":
                raise RuntimeError(one["text"])
            if one["text"] == "deaf":
                time.sleep(60)
        return super().run(prompts, stopped, beat)

ENGINES["faulty"] = Faulty
"""


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Server]:
    """Return a server whose engine fails as its prompts say."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(FAULTY)
    server = Server(tmp_path)
    server.engine, server.paths = "faulty", [tmp_path / "site", PACKAGE]
    try:
        server.start("--silent-s", "0.5", "--grace-s", "1")
        yield server
    finally:
        if server.process is not None:
            server.kill()


def test_a_worker_leaves_when_it_has_been_out_of_memory_twice(faulty: Server) -> None:
    worker = faulty.worker()
    for k, restarts in enumerate((0, 1, 1)):
        faulty.submit(f"hungry-{k}", prompts=1, text="hungry")
        view = faulty.wait_for_end(f"hungry-{k}")
        assert (view["state"], view["reason"]) == ("engine_error", "out_of_memory")
        faulty.submit(f"fine-{k}", prompts=1)
        assert faulty.wait_for_end(f"fine-{k}")["state"] == "done"
        assert faulty.metric("edgelm_worker_restarts_total") == restarts
        assert (faulty.worker() != worker) == bool(restarts)
    assert faulty.metric('edgelm_engine_errors_total{reason="out_of_memory"}') == 3
    assert faulty.metric('edgelm_requests_ended_total{outcome="engine_error"}') == 3
    faulty.kill()
    faulty.start()
    assert faulty.state("hungry-0")["reason"] == "out_of_memory"


def test_another_failure_is_no_lack_of_memory_and_quotes_no_prompt(faulty: Server) -> None:
    worker = faulty.worker()
    for k in range(3):
        faulty.submit(f"wrong-{k}", prompts=1, text="CANARY-7f3a")
        view = faulty.wait_for_end(f"wrong-{k}")
        assert (view["state"], view["reason"]) == ("engine_error", "engine_failed")
    assert faulty.worker() == worker
    assert faulty.metric('edgelm_engine_errors_total{reason="engine_failed"}') == 3
    assert "RuntimeError" in faulty.log.read_text()
    assert "CANARY" not in faulty.log.read_text()


def test_an_engine_that_hears_nothing_is_seen_and_ends_with_the_grace(faulty: Server) -> None:
    faulty.submit("deaf", prompts=1, text="deaf")
    wait_for(lambda: faulty.ask("GET", "/healthz")[0] == 503, limit_s=5)
    worker, began_s = faulty.worker(), time.monotonic()
    assert faulty.stop() == 0
    assert time.monotonic() - began_s < 5  # 1 s of grace, 1 s to stop
    assert not Path(f"/proc/{worker}").exists()


def test_a_stopped_worker_that_is_sent_much_is_seen(tmp_path: Path) -> None:
    with serving(tmp_path, "--silent-s", "0.5", "--grace-s", "0.5") as server:
        worker = server.worker()
        os.kill(worker, signal.SIGSTOP)
        prompts = [{"image_base64": "A" * 8_000_000}]  # more than a pipe takes
        body = {"id": "large", "prompts": prompts, "deadline_unix_s": time.time() + 60}
        assert server.ask("POST", "/v1/requests", body)[0] == 202
        for _ in range(3):
            time.sleep(0.3)
            status, answer = server.ask("GET", "/healthz")
        assert (status, answer["silent_s"] > 0.5) == (503, True)
        os.kill(worker, signal.SIGCONT)
        assert server.wait_for_end("large")["state"] == "done"
        os.kill(worker, signal.SIGSTOP)
        assert server.ask("POST", "/v1/requests", {**body, "id": "other"})[0] == 202
        assert server.stop() == 0
        assert not Path(f"/proc/{worker}").exists()


def test_a_worker_ends_with_a_front_that_was_killed_while_it_computes(faulty: Server) -> None:
    faulty.submit("deaf", prompts=1, text="deaf")
    worker = faulty.worker()
    time.sleep(0.3)
    faulty.kill()
    wait_for(lambda: not Path(f"/proc/{worker}").exists() or "Z" in state(worker), limit_s=5)


def state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


def test_a_second_term_ends_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, seconds=1.0) as server:
        server.submit("one", prompts=2)
        worker = server.worker()
        time.sleep(0.2)
        server.terminate()
        wait_for(lambda: server.ask("GET", "/readyz")[0] == 503)
        began_s = time.monotonic()
        server.terminate()
        assert server.wait() == 1
        assert time.monotonic() - began_s < 0.5
        assert not Path(f"/proc/{worker}").exists()
        server.start()
        assert server.wait_for_end("one")["recorded"] == [0, 1]
        assert server.state("one")["recomputed_prompts"] == 2  # the batch in hand


def test_term_does_not_wait_for_an_engine_that_loads(tmp_path: Path) -> None:
    server = Server(tmp_path, start_s=60)
    server.start(ready=False)
    wait_for(lambda: server.ask("GET", "/readyz")[1]["emulated"] is True)  # the worker runs
    worker, began_s = server.worker(), time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began_s < 3
    assert not Path(f"/proc/{worker}").exists()


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
    *_, second, end = (len(line) for line in content.splitlines(keepends=True))
    for cut in range(len(content) - second - end, len(content)):
        path.write_bytes(content[:cut])
        again = Checkpoint(tmp_path)
        is_whole = cut >= len(content) - end  # the line of the second prompt
        assert set(again.requests["a"].recorded) == ({0, 1} if is_whole else {0})
        assert again.requests["a"].failure is None
        assert again.result("a", 0) == b"zero"
        assert again.result("a", 1) == (b"one" if is_whole else None)
        again.close()


def test_old_requests_are_forgotten_once_they_are_over(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    for name in ("over", "open"):
        checkpoint.accept({"id": name, "prompts": [{}, {}], "deadline_unix_s": 1.0})
        checkpoint.record(name, {0: b"zero"})
    checkpoint.record("over", {1: b"one"})
    assert checkpoint.forget(time.time() - 60) == 0
    assert checkpoint.forget(time.time() + 60) == 1
    checkpoint.compact()
    assert len((tmp_path / "checkpoint.csv").read_text().splitlines()) == 1
    checkpoint.end("open", "deadline")
    checkpoint.close()
    again = Checkpoint(tmp_path)
    assert list(again.requests) == ["open"]
    assert again.result("open", 0) == b"zero"
    assert len(list((tmp_path / "results").iterdir())) == 1
    assert again.requests["open"].failure == "deadline"
    again.close()


def test_damage_in_the_middle_is_no_progress(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.csv").write_bytes(b"recorded,abc,0,beef\nended,abc,-1,done\n")
    with pytest.raises(DamagedCheckpoint, match=r"checkpoint\.csv: line 1 is damaged: move"):
        Checkpoint(tmp_path)


def test_a_damaged_request_is_named_and_a_lost_one_ends(tmp_path: Path) -> None:
    with serving(tmp_path, seconds=0.5) as server:
        server.submit("first", prompts=1)
        server.submit("second", prompts=1)
        by_age = sorted((server.data / "requests").iterdir(), key=lambda path: path.stat().st_mtime)
        second = by_age[1]
        content = second.read_bytes()
        second.write_bytes(content[: content.index(b"\n") + 20])
        view = server.wait_for_end("second")
        assert (view["state"], view["reason"]) == ("engine_error", "contents_lost")
        assert server.state("first")["state"] == "done"
        server.stop()
        second.write_bytes(content[:20])
        with pytest.raises(AssertionError, match=f"{second.name}: this request is damaged: move"):
            server.start()
        assert server.wait() == 1


def test_a_result_that_was_changed_is_not_returned(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.accept({"id": "a", "prompts": [{}], "deadline_unix_s": 1.0})
    checkpoint.record("a", {0: b"zero"})
    (result,) = (tmp_path / "results").iterdir()
    result.write_bytes(b"other")
    assert checkpoint.result("a", 0) is None
    checkpoint.close()


def test_the_server_needs_nothing_of_edgelm() -> None:
    code = "import lm_server.__main__, sys; sys.exit('controller' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
