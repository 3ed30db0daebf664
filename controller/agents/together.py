"""Calls that belong to one decision, made at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What they return, in order. If one raises, the others are stopped, so that no model is paid
    for nothing, and its error is raised as it is; of several errors, the first."""
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
