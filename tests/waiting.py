"""Tests that mostly wait: for a rate, a network or a service that is away. `make e2e` runs them."""

from __future__ import annotations

import os

import pytest

waits = pytest.mark.skipif(
    "EDGELM_WAITS" not in os.environ, reason="waits for half a minute and more: EDGELM_WAITS=1"
)
