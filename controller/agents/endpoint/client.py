"""The HTTP client below the official one: it sends headers of ours alone, and takes answers up to a
size. Importing it takes a second."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Final

import httpx2
from openai import DefaultAioHttpClient

LARGEST_BODY: Final = 8_000_000  # bytes after decompression; the largest reply has some 100 kB


class TooLargeError(Exception):
    """An answer of ``status`` goes on beyond LARGEST_BODY."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the reply is larger than {LARGEST_BODY / 1e6:g} MB")
        self.status = status


class Client(DefaultAioHttpClient):
    """``sent``: the headers of every request. Those that the official client makes up are left
    out: some come from the environment, and are nobody's business but OpenAI's."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sent: Mapping[str, str] = {}

    async def send(
        self, request: httpx2.Request, *, stream: bool = False, **options: Any
    ) -> httpx2.Response:
        del stream  # always, and here
        request.headers = httpx2.Headers(self.sent)
        response = await super().send(request, stream=True, **options)
        try:
            body = await _read(response)
        finally:
            await response.aclose()
        headers = response.headers
        headers.pop("content-encoding", None)  # no longer
        return httpx2.Response(response.status_code, headers=headers, content=body, request=request)


async def _read(response: httpx2.Response) -> bytes:
    parts, size = [], 0
    async with aclosing(response.aiter_bytes()) as body:
        async for part in body:
            size += len(part)
            if size > LARGEST_BODY:
                raise TooLargeError(response.status_code)
            parts.append(part)
    return b"".join(parts)
