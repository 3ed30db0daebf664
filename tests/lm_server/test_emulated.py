"""Times and results of the emulated engine."""

import base64
import json
import struct
import subprocess
import sys
import time
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from lm_server.engines.emulated import EmulatedEngine
from lm_server.engines.emulated_times import png_pixels, read_times
from PIL import Image

from tests.lm_server.servers import PACKAGE, Server, serving

WORK = {
    "fixed": 1.0,
    "input_tokens": 0.5,
    "output_tokens": 0.1,
    "input_megapixels": 2.0,
    "output_megapixels": 4.0,
    "reference": {"input_tokens": 8, "output_tokens": 50},  # 1 + 4 + 5 = 10
}


def png(width: int, height: int) -> str:
    content = BytesIO()
    Image.new("RGB", (width, height)).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def times(folder: Path, **fields: Any) -> Path:
    path = folder / "times.json"
    path.write_text(json.dumps({"seconds": 2.0, **fields}))
    return path


def prompt(**fields: Any) -> dict[str, Any]:
    return {"text": "", "image_base64": "", "seed": 0, "output_tokens": 50, **fields}


@pytest.mark.parametrize(
    ("given", "work"),
    [
        (prompt(text="one two  three\nfour five six seven eight"), 1.0),
        (prompt(), 0.6),
        (prompt(output_tokens=100), 1.1),
        (prompt(image_base64=png(1000, 500)), 0.7),
        (prompt(image_base64=base64.b64encode(b"GIF89a" * 10).decode()), 0.6),
        (prompt(width=500, height=1000), 0.8),
        (prompt(width=500), 0.6),
    ],
)
def test_a_batch_takes_its_mean_work_times_the_factor(
    tmp_path: Path, given: dict[str, Any], work: float
) -> None:
    read = read_times(times(tmp_path, work=WORK, batch_factors=[1, 1.5], time_scale=20))
    assert read.batch_s([given]) == pytest.approx(2 * work / 20)
    both = read.batch_s([given, prompt(output_tokens=100)])
    assert both == pytest.approx(2 * (work + 1.1) / 2 * 1.5 / 20)


def test_without_work_every_prompt_is_the_reference(tmp_path: Path) -> None:
    read = read_times(times(tmp_path))
    assert read.batch_s([prompt(text="word " * 1000, output_tokens=4000)]) == 2.0


def test_a_png_is_measured_by_its_header_alone() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 50_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR"))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk
    assert png_pixels(base64.b64encode(bomb).decode()) == 3_000_000_000
    assert png_pixels("!" * 40) is None
    assert png_pixels(base64.b64encode(bomb[:20]).decode()) is None
    code = "import lm_server.computing, lm_server.app, sys; sys.exit('PIL' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=PACKAGE, check=True)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"seconds": -1}, "seconds is -1: out of its range"),
        ({"seconds": "2"}, "seconds is '2': give a number"),
        ({"batch_factors": []}, r"batch_factors is empty: give \[1.0\]"),
        ({"output": "video"}, 'output is \'video\': give "text" or "image"'),
        ({"time_scale": 0}, "time_scale is 0: out of its range"),
        ({"work": {"input_tokens": 1}}, "work of its reference is 0: give fixed"),
        ({"secondz": 1}, "secondz: unknown; known are batch_factors"),
    ],
)
def test_a_wrong_file_is_refused_by_its_field(
    tmp_path: Path, fields: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        read_times(times(tmp_path, **fields))


def test_results_follow_from_the_seed(tmp_path: Path) -> None:
    def results(output: str) -> list[bytes]:
        engine = EmulatedEngine(times(tmp_path, seconds=0, output=output, batch_factors=[1, 1, 1]))
        prompts = [prompt(seed=seed, output_tokens=7) for seed in (1, 2, 1)]
        return engine.run(prompts, lambda: False, lambda: None)

    first, second, again = results("text")
    assert first == again != second
    assert len(first.split()) == 7
    first, second, again = results("image")
    assert first == again != second
    assert Image.open(BytesIO(first)).convert("RGB").size == (8, 8)


def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path: Path) -> None:
    server = Server(tmp_path, seconds=-1)
    server.start(ready=False)
    assert server.process is not None
    try:
        assert server.process.wait(timeout=20) == 1
    finally:
        server.kill()
    log = server.log.read_text()
    assert f"--model: {tmp_path / 'times.json'} cannot be loaded" in log
    assert "seconds is -1: out of its range" in log
    assert "Traceback" not in log


def test_a_start_counts_from_the_creation_of_the_pod(tmp_path: Path) -> None:
    began_s = time.monotonic()
    with serving(tmp_path, start_s=40, time_scale=20, created_unix_s=time.time()) as server:
        assert 1.9 < time.monotonic() - began_s < 3
        load_s = server.metric('edgelm_engine_load_seconds{phase="weights"}')
        import_s = server.metric('edgelm_engine_load_seconds{phase="import"}')
    assert 0 < import_s < 2
    assert load_s + import_s < 2.2  # the process's own start is a part of it


@pytest.mark.parametrize(("grace_s", "expected_s"), [(20.0, 1.5), (0.5, 0.5)])
def test_a_stop_takes_its_time_within_the_grace(
    tmp_path: Path, grace_s: float, expected_s: float
) -> None:
    with serving(tmp_path, "--grace-s", str(grace_s), stop_s=30, time_scale=20) as server:
        began_s = time.monotonic()
        server.terminate()
        while server.ask("GET", "/readyz")[0] == 200:
            assert time.monotonic() < began_s + 0.4
        assert server.submit("late")[0] == 503
        assert server.wait() == 0
        assert expected_s - 0.1 < time.monotonic() - began_s < expected_s + 0.9


def test_times_that_change_under_a_running_engine_are_read_again(tmp_path: Path) -> None:
    """Cores that change in place change the pod's times, not its process."""
    engine = EmulatedEngine(times(tmp_path, seconds=0.0))
    prompt = {"seed": 1, "output_tokens": 1}
    engine.run([prompt], lambda: False, lambda: None)
    (tmp_path / "times.json").write_text("{half a fi")
    engine.run([prompt], lambda: False, lambda: None)
    times(tmp_path, seconds=0.3)
    began_s = time.monotonic()
    engine.run([prompt], lambda: False, lambda: None)
    assert time.monotonic() - began_s >= 0.3
