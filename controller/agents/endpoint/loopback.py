"""A carrier of bytes to a server that this run has started itself, and starts anew when it is lost.

The official client is for servers elsewhere, whose ways it knows; it builds, copies and checks
several requests' worth of objects for each call. The reference reasoner speaks the same protocol
over the same HTTP, and its calls are many: here they cost a third less.

The loss of a run's own server is not a model's bad reply. Such a call is made again on a new server
and costs the run nothing; what the server answers while it lives, faults included, is returned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

from controller.agents.endpoint.answers import Failure, HttpAnswer, one_line, read_failure
from controller.domain.errors import Permanent

if TYPE_CHECKING:
    from aiohttp import ClientSession

ATTEMPT_HEADER: Final = "x-edgelm-attempt"
MOST_RESTARTS: Final = 3  # for one request
LOOK_S: Final = 5.0  # between two looks at a server that owes a reply
MUTE_LOOKS: Final = 2  # looks in a row that find that it has done nothing
_JSON: Final = {"content-type": "application/json"}


class OwnServer(Protocol):
    """A server that this process has started."""

    @property
    def url(self) -> str:
        """Base address; another one after a restart."""

    @property
    def is_alive(self) -> bool:
        """The process exists: nobody else answers at its address."""

    def cpu_s(self) -> float | None:
        """Return the processor time that the process has taken; None where the system does not
        say."""

    async def restart(self, lost_url: str) -> None:
        """End the server at ``lost_url`` and start another, unless that has been done since.

        Raises:
            Permanent: no other one starts.
        """


class LoopbackTransport:
    """Connects with the first request; belongs to that request's event loop."""

    def __init__(self, server: OwnServer) -> None:
        self._server = server
        self._session: ClientSession | None = None

    async def post(
        self, path: str, body: bytes, patience_s: float, attempt: int = 1
    ) -> HttpAnswer | Failure:
        """Send one request; return its answer within ``patience_s``, or the failure that it was.

        ``attempt`` travels along: a faulty server draws its faults by it, and must not count for
        itself what a restart would make it forget.

        Raises:
            Permanent: the server was lost and cannot be had again.
        """
        headers = {**_JSON, ATTEMPT_HEADER: str(attempt)}
        return await self._exchange("POST", path, patience_s, body, headers)

    async def get(self, path: str, patience_s: float) -> HttpAnswer | Failure:
        """Do as :meth:`post`, without a body."""
        return await self._exchange("GET", path, patience_s)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def open(self) -> ClientSession:
        """Return the session, ready to be used."""
        if self._session is None:
            from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

            self._session = ClientSession(
                connector=TCPConnector(limit=0),
                cookie_jar=DummyCookieJar(),
                timeout=ClientTimeout(total=None),
                skip_auto_headers=("user-agent", "accept", "accept-encoding"),
            )
        return self._session

    async def _exchange(
        self,
        method: str,
        path: str,
        patience_s: float,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpAnswer | Failure:
        answer: HttpAnswer | Failure = Failure("the server was gone before the request")
        for _ in range(MOST_RESTARTS + 1):
            url = self._server.url
            if self._server.is_alive:
                answer = await self._attempt(method, url + path, patience_s, body, headers)
                if not await self._is_lost(answer, url, patience_s):
                    return answer
            await self._server.restart(url)
        problem = answer.error if isinstance(answer, Failure) else "somebody else answered"
        raise Permanent(
            f"the run's own reasoner was lost {MOST_RESTARTS + 1} times in one call ({problem}); "
            "its processes are being ended from outside or lack memory: run the same command "
            "again, calls that were answered are kept"
        )

    async def _is_lost(self, answer: HttpAnswer | Failure, url: str, patience_s: float) -> bool:
        """Return True if the server failed, not a reply: it is gone, or mute beyond patience."""
        if not self._server.is_alive:
            return True  # whoever has answered, it was not the server
        if isinstance(answer, HttpAnswer) or answer.status:
            return False
        if answer.late:
            return True
        # The connection broke. A faulty reasoner does that on purpose and goes on answering; a
        # killed one may look alive for moments yet, and even take connections.
        probe = await self._attempt("GET", f"{url}/models", patience_s)
        return not (isinstance(probe, HttpAnswer) and self._server.is_alive)

    async def _attempt(
        self,
        method: str,
        url: str,
        patience_s: float,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpAnswer | Failure:
        asked = asyncio.create_task(self._request(method, url, body, headers))
        try:
            async with asyncio.timeout(patience_s):
                await self._reply_or_silence(asked)
            return await asked
        except TimeoutError:
            return Failure("no reply before the limit", late=True)
        finally:
            asked.cancel()

    async def _reply_or_silence(self, asked: asyncio.Task[HttpAnswer | Failure]) -> None:
        """Wait for a reply; raise TimeoutError if the server owes it and does nothing for it."""
        idle = 0
        before_s: float | None = None  # most replies are there before the first look
        while not (await asyncio.wait({asked}, timeout=LOOK_S))[0]:
            now_s = self._server.cpu_s()
            idle = idle + 1 if now_s is not None and now_s == before_s else 0
            before_s = now_s
            if idle == MUTE_LOOKS:
                raise TimeoutError

    async def _request(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> HttpAnswer | Failure:
        try:
            async with self.open().request(method, url, data=body, headers=headers) as response:
                content = await response.read()
        except Exception as error:  # whatever a dying server sends: errors are data
            return Failure(f"no reply: {one_line(f'{type(error).__name__}: {error}')}")
        if response.status != 200:
            return read_failure(response.status, response.headers, content)
        return HttpAnswer(response.headers, content)
