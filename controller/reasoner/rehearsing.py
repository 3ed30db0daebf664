"""Use of the what-if tool: the optimiser has its plan and the policy in force rehearsed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]


def try_first(messages: Sequence[Json], tools: Sequence[Json]) -> list[dict[str, Any]]:
    """Tool calls to make before answering; none once their results are there."""
    del messages, tools
    return []
