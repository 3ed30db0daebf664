"""Calls that belong to one decision, made at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await concurrently and return results in order. On the first failure, cancel the rest, so
    that no model is paid for nothing, and re-raise it."""
    tasks: list[asyncio.Task[T]] = []
    errors: tuple[BaseException, ...] = ()
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(call) for call in calls]
    except BaseExceptionGroup as failed:
        errors = failed.exceptions
    for error in errors:
        raise error
    return [task.result() for task in tasks]
