"""The compiled kernel is never older than its sources."""

from __future__ import annotations

import ast
import importlib
import shutil
from pathlib import Path
from types import FunctionType

import numba
import pytest

from controller.domain import pending
from controller.twin import cache, kernel


def copies(folder: Path) -> list[Path]:
    folder.mkdir()
    return [Path(shutil.copy(source, folder)) for source in kernel.SOURCES]


def test_a_change_of_the_pending_rule_changes_the_folder(tmp_path: Path) -> None:
    files, roots = copies(tmp_path / "code"), [tmp_path / "cache"]
    before = cache.folder_for(files, roots)
    assert before == cache.folder_for(list(reversed(files)), roots), "whatever the order"
    (changed,) = (file for file in files if file.name == Path(str(pending.__file__)).name)
    changed.write_text(changed.read_text().replace("POD_STOPPING)", "POD_OFF)"))
    after = cache.folder_for(files, roots)
    assert before is not None
    assert after is not None
    assert before != after
    assert after.parent == before.parent == roots[0]


def test_every_source_counts(tmp_path: Path) -> None:
    files = copies(tmp_path / "code")
    digests = {cache.digest_of(files)}
    for file in files:
        file.write_text(file.read_text() + "# changed\n")
        digests.add(cache.digest_of(files))
    assert len(digests) == len(files) + 1


def test_the_sources_are_all_that_is_compiled_in() -> None:
    """Every module of ours that the kernel imports from, and those that they do; but cache.py, of
    which nothing is compiled."""
    found, waiting = set(), [kernel.__name__]
    while waiting:
        module = importlib.import_module(waiting.pop())
        if module in found:
            continue
        found.add(module)
        for part in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
            if isinstance(part, ast.ImportFrom) and (part.module or "").startswith("controller"):
                names = [f"{part.module}.{alias.name}" for alias in part.names]
                modules = [name for name in names if _is_module(name)]
                waiting += modules or [str(part.module)]
    files = {Path(str(module.__file__)) for module in found} - {Path(cache.__file__)}
    assert files == set(kernel.SOURCES)


def _is_module(name: str) -> bool:
    return (Path(kernel.__file__).parents[2] / (name.replace(".", "/") + ".py")).exists()


def test_the_kernel_is_kept_there() -> None:
    folder = cache.folder_for(kernel.SOURCES, cache.roots())
    assert folder is not None
    for entry in (kernel.dispatch, kernel.deploy_all, kernel.advance_all):
        assert Path(entry.stats.cache_path).is_relative_to(folder)


def test_numbas_setting_is_left_as_it_was(tmp_path: Path) -> None:
    before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    for folder in (tmp_path, None):
        with cache.cached_in(folder):
            assert (str(folder) if folder else before) == numba.config.CACHE_DIR  # type: ignore[attr-defined]
        assert before == numba.config.CACHE_DIR  # type: ignore[attr-defined]


def test_a_place_that_cannot_be_written_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    blocked, free = tmp_path / "file", tmp_path / "free"
    assert cache.folder_for(kernel.SOURCES, [blocked]) is None
    folder = cache.folder_for(kernel.SOURCES, [blocked, free])
    assert folder is not None
    assert folder.parent == free


def test_where_nothing_can_be_kept_the_kernel_still_compiles(tmp_path: Path) -> None:
    """As in a read-only install of a user without a home, where Numba refuses to cache."""
    # Numba finds no place beside a file that does not exist.
    twice = FunctionType(double.__code__.replace(co_filename=str(tmp_path / "absent.py")), {})
    with pytest.raises(RuntimeError, match="no locator available"):
        numba.njit(cache=True)(twice)
    assert cache.kept(twice, None)(21) == 42


def double(x: int) -> int:
    return 2 * x
