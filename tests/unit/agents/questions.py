"""Questions to an endpoint, and endpoints to put them to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from controller.agents.chat import Ask, Completion, ReplySchema
from controller.agents.endpoint.endpoint import Endpoint, Models
from controller.agents.endpoint.prices import Price, Prices
from tests.unit.agents.servers import Server

T = TypeVar("T")

KEY = "sk-test-0123456789abcdef"
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
PRICES = Prices({"test-model": Price(1.0, 0.1, 10.0)})


def question(**changes: Any) -> Ask:
    fields: dict[str, Any] = {
        "slot": 0,
        "tier": "planner",
        "node": "",
        "round": 0,
        "messages": [{"role": "user", "content": "How are you?"}],
        "form": ReplySchema("health", SCHEMA),
        "limit_s": 5.0,
    }
    return Ask(**{**fields, **changes})


def endpoint(server: Server | str, model: str = "test-model", **options: Any) -> Endpoint:
    url = server if isinstance(server, str) else server.url
    options = {"key": KEY, "prices": PRICES, **options}
    return Endpoint(url, Models(model, model, model), **options)


def with_endpoint(
    server: Server | str, use: Callable[[Endpoint], Awaitable[T]], **options: Any
) -> T:
    """Use an endpoint within an event loop of its own, and close it."""

    async def go() -> T:
        one = endpoint(server, **options)
        one.transport.open()  # the first import takes a second, which is nobody's latency
        try:
            return await use(one)
        finally:
            await one.close()

    return asyncio.run(go())


def asked(server: Server | str, ask: Ask | None = None, **options: Any) -> Completion:
    """One question to a fresh endpoint."""
    return with_endpoint(server, lambda one: one.complete(ask or question()), **options)
