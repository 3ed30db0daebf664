"""Tests with a running Airflow take minutes: they run when they are asked for by path."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    given = [Path(str(one).partition("::")[0]).resolve() for one in config.args]
    if any(one.is_relative_to(HERE) for one in given):
        return
    skip = pytest.mark.skip(reason="takes minutes: make e2e, or pytest tests/airflow")
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(skip)
