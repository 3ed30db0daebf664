import io
import re

from controller.experiments.progress import Lines


def test_lines_say_how_far_and_what_failed() -> None:
    out = io.StringIO()
    with Lines(out) as progress:
        progress.begin(12, 3)
        progress.ended("RF, seed 0", 0.5, "")
        progress.ended("RF, seed 1", 0.1, "it broke")
    first, second, third = out.getvalue().splitlines()
    assert first == "12 runs, 3 finished before"
    assert re.fullmatch(r"\[ 4/12\] RF, seed 0: 0\.50 s, about \d+ s to go", second)
    assert third.startswith("[ 5/12] RF, seed 1: FAILED: it broke")
