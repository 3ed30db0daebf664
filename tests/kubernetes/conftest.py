"""One control plane per test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubernetes.cluster import ControlPlane, control_plane


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("kubernetes")) as running:
        yield running
