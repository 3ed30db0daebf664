from collections.abc import Iterator

import pytest

from tests.unit.agents.stores import close_stores


@pytest.fixture(autouse=True)
def _closed_stores() -> Iterator[None]:
    yield
    close_stores()
