"""The official client as a carrier of bytes. Its retries are off and its parsing is not used: both
are this package's own, and a call takes half of the processor time without them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from controller.agents.endpoint.address import Address
from controller.agents.endpoint.answers import Failure, HttpAnswer, one_line, read_failure
from controller.agents.endpoint.redaction import Redactor
from controller.agents.endpoint.surroundings import explain

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CONNECT_S: Final = 10.0
KEPT_S: Final = 4.0  # less than servers keep an idle connection, often 5 s: no race at its end
_NO_KEY: Final = "none"


class Transport:
    """Connects with the first request; belongs to that request's event loop."""

    def __init__(self, address: Address, key: str) -> None:
        self._address, self._key = address, key
        self._redactor = Redactor(key)
        self._sdk: AsyncOpenAI | None = None
        self._response: Any = None  # the SDK's word for "as it came"

    async def post(
        self, path: str, body: bytes, patience_s: float, attempt: int = 1
    ) -> HttpAnswer | Failure:
        """Send one request; return its answer within ``patience_s``, or the failure that it was.
        ``attempt`` is nobody's business elsewhere."""
        del attempt
        request = self.open().post(path, cast_to=self._response, content=body)
        return await self._answer(request, max(0.0, patience_s))

    async def get(self, path: str, patience_s: float) -> HttpAnswer | Failure:
        """Send a request without a body, as :meth:`post`."""
        return await self._answer(self.open().get(path, cast_to=self._response), patience_s)

    async def close(self) -> None:
        sdk, self._sdk = self._sdk, None
        if sdk is not None:
            await sdk.close()

    def open(self) -> AsyncOpenAI:
        """Return the client, ready. Its first import takes a second.

        Raises:
            InputError: the environment names a certificate file or a proxy that cannot be used.
        """
        if self._sdk is not None:
            return self._sdk
        import httpx2
        from openai import AsyncOpenAI

        from controller.agents.endpoint.client import Client

        self._response = httpx2.Response
        try:
            client = Client(
                limits=httpx2.Limits(max_connections=None, keepalive_expiry=KEPT_S),
                follow_redirects=False,  # the key is for this address only
                trust_env=not self._address.loopback,  # proxies are for other machines
            )
        except Exception as error:  # of many kinds, all of them the environment's
            raise explain(error) from error
        self._sdk = AsyncOpenAI(
            api_key=self._key or _NO_KEY,
            base_url=self._address.url,
            max_retries=0,
            timeout=httpx2.Timeout(None, connect=CONNECT_S),
            http_client=client,
        )
        client.sent = sent_headers(self._address, self._sdk)
        return self._sdk

    async def _answer(self, request: Any, patience_s: float) -> HttpAnswer | Failure:
        from openai import APIStatusError

        from controller.agents.endpoint.client import TooLargeError

        try:
            async with asyncio.timeout(patience_s) as deadline:
                response = await request
        except APIStatusError as error:
            status, headers = error.response.status_code, error.response.headers
            return read_failure(status, headers, self._redactor.body(error.response.content))
        except TooLargeError as error:
            return Failure(str(error), error.status)
        except Exception as error:  # whatever the client makes of what came: errors are data
            if isinstance(error, TimeoutError) and deadline.expired():
                return Failure("no reply before the limit", late=True)
            return Failure(f"no reply: {self._cause(error)}")
        return HttpAnswer(response.headers, self._redactor.body(response.content))

    def _cause(self, error: BaseException) -> str:
        while error.__cause__ is not None:  # the SDK says "Connection error."
            error = error.__cause__
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return one_line(self._redactor.text(text))


def sent_headers(address: Address, sdk: AsyncOpenAI) -> dict[str, str]:
    """Return the headers of a request: the key, and what HTTP needs. Organisation and project,
    which the official client finds in the environment, are for OpenAI's own address."""
    headers = {
        "accept": "application/json",
        "accept-encoding": "gzip, deflate",
        "content-type": "application/json",
        "user-agent": sdk.user_agent,
        "authorization": f"Bearer {sdk.api_key}",
    }
    named = {"openai-organization": sdk.organization, "openai-project": sdk.project}
    if address.is_openai:
        headers |= {name: value for name, value in named.items() if value}
    return headers
