"""Parts of the engines over PyTorch, each by itself, in the environment that has PyTorch."""

import os
import subprocess

import pytest

from tests.e2e.lms import environment
from tests.lm_server.servers import PACKAGE

SAMPLING = """
import torch
from lm_server.engines.sampling import TOP, SeededSampling

scores = torch.randn(1, 200, generator=torch.Generator().manual_seed(7)) * 2
rows, draws = 20_000, scores.expand(20_000, -1)
drawn = SeededSampling(range(rows))(None, draws).argmax(-1)
best, places = scores[0].topk(TOP)
expected = torch.zeros(200).scatter(0, places, best.softmax(-1)) * rows
found = torch.bincount(drawn, minlength=200).float()
assert found[expected == 0].sum() == 0, "drawn beyond the likeliest"
chi2 = ((found - expected)[places] ** 2 / expected[places]).sum()
assert chi2 < 100, chi2  # 49 degrees of freedom: beyond 100 once in 25,000 times

alone = [SeededSampling([seed])(None, scores).argmax().item() for seed in range(50)]
assert alone == drawn[:50].tolist(), "a row depends on its neighbours"
sampling = SeededSampling([1])
assert len({sampling(None, scores).argmax().item() for _ in range(20)}) > 1, "no progress"
"""

MEMORY = """
import torch
from lm_server.engines.torch_engine import memory_errors

for fault, wanted in (
    (lambda: torch.empty(2**55, dtype=torch.uint8), MemoryError),
    (lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")), MemoryError),
    (lambda: torch.ones(2) @ torch.ones(3), RuntimeError),
):
    try:
        with memory_errors():
            r = fault()
            next(r) if hasattr(r, "__next__") else None
    except Exception as error:
        assert type(error) is wanted, (error, wanted)
    else:
        raise AssertionError(wanted)
"""

PICTURES = """
import base64, io
from PIL import Image
from lm_server.engines.pictures import MOST_PIXELS, ImageTooLarge, NoImage, decode

def encoded(width, height, kind="PNG"):
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, kind)
    return base64.b64encode(file.getvalue()).decode()

assert decode(encoded(20, 10)).size == (20, 10)
assert decode(encoded(20, 10)).mode == "RGB"
whole = encoded(200, 100)
bomb = encoded(20_000, 20_000)
assert len(bomb) < 1_000_000
for image, wanted in (
    ("", NoImage), ("%%%", NoImage), (base64.b64encode(b"text").decode(), NoImage),
    (whole[: len(whole) // 2 // 4 * 4], NoImage), (encoded(20, 10, "PPM"), NoImage),
    (bomb, ImageTooLarge), (encoded(MOST_PIXELS // 1000 + 1, 1001), ImageTooLarge),
):
    try:
        decode(image)
    except ValueError as error:
        assert type(error) is wanted, (image[:20], error)
    else:
        raise AssertionError(image[:20])
"""

WATCH = """
import torch
from lm_server.engines.stopped import Stopped
from lm_server.engines.watch import Watch

blocks = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(5))
class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = blocks
    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x

network, watch, beats = Network(), Watch(), []
watch.over(network)
with watch.during(lambda: False, lambda: beats.append(1)):
    network(torch.ones(2))
assert len(beats) == 6, beats  # before the first block and after each
beats.clear()
try:
    with watch.during(lambda: len(beats) == 3, lambda: beats.append(1)):
        network(torch.ones(2))
except Stopped:
    assert len(beats) == 3, beats
else:
    raise AssertionError("not stopped")
network(torch.ones(2))
assert len(beats) == 3, "it goes on watching"
"""


@pytest.mark.parametrize(
    "code", [SAMPLING, MEMORY, PICTURES, WATCH], ids=["sampling", "memory", "pictures", "watch"]
)
def test_a_part_keeps_its_promise(code: str) -> None:
    python = environment(".venv-lm", "lm-setup") / "python"
    done = subprocess.run(
        [python, "-c", code],
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
