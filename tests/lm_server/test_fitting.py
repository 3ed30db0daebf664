"""A model beyond the memory limit is refused before it is loaded."""

from pathlib import Path

import pytest
from lm_server.engines.bad_model import BadModel
from lm_server.engines.fitting import check_fits, memory_limit, weights_bytes

from tests.lm_server.cgroups import tree


@pytest.mark.parametrize(("text", "limit"), [("max", None), ("1000", 1000), ("", None)])
def test_version_2(tmp_path: Path, text: str, limit: int | None) -> None:
    root = tree(tmp_path, "0::/pod/app", {"sys/fs/cgroup/pod/app/memory.max": text})
    assert memory_limit(root) == limit


def test_a_parents_tighter_limit_wins(tmp_path: Path) -> None:
    limits = {"sys/fs/cgroup/pod/app/memory.max": "3000", "sys/fs/cgroup/pod/memory.max": "2000"}
    assert memory_limit(tree(tmp_path, "0::/pod/app", limits)) == 2000


@pytest.mark.parametrize(("text", "limit"), [("9223372036854771712", None), ("5000", 5000)])
def test_version_1(tmp_path: Path, text: str, limit: int | None) -> None:
    limits = {"sys/fs/cgroup/memory/pod/memory.limit_in_bytes": text}
    assert memory_limit(tree(tmp_path, "4:memory:/pod\n2:cpu:/x", limits)) == limit


def test_without_a_cgroup_there_is_no_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path) is None
    check_fits(tmp_path, 1e6, tmp_path)


def test_what_an_engine_reads_is_counted(tmp_path: Path) -> None:
    sizes = {
        "model.safetensors": 10,
        "model-00001-of-00002.safetensors": 20,
        "unet/diffusion_pytorch_model.safetensors": 40,
        "unet/diffusion_pytorch_model.fp16.safetensors": 1000,
        "v1-5-pruned.safetensors": 1000,
        "pytorch_model.bin": 1000,
    }
    for name, size in sizes.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    assert weights_bytes(tmp_path / "model") == 70
    assert weights_bytes(tmp_path / "model" / "pytorch_model.bin") == 1000


def test_both_figures_are_told(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/", {"sys/fs/cgroup/memory.max": "500000000"})
    model = tmp_path / "model.gguf"
    with model.open("wb") as file:
        file.truncate(200_000_000)
    check_fits(model, 0.3, root)
    with pytest.raises(BadModel, match=r"takes 0\.60 GB .* limit is 0\.50 GB; raise"):
        check_fits(model, 0.4, root)
