"""Airflow's REST API, as far as starting it and testing it need it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback only
_TOKEN_S: Final = 1800.0
_PAGE: Final = 100


class RestError(Exception):
    """An answer that is no success."""

    def __init__(self, method: str, path: str, status: int, text: str) -> None:
        super().__init__(f"{method} {path}: {status} {text[:500]}")
        self.status, self.text = status, text


class Rest:
    """A client of one API server, as one user. Without a password it asks as nobody."""

    def __init__(self, url: str, user: str = "", password: str = "", limit_s: float = 30.0) -> None:
        self._url, self._user, self._password, self._limit_s = url, user, password, limit_s
        self._token, self._until_s = "", 0.0

    def get(self, path: str, **query: Any) -> Any:
        """Return the content at a path below /api/v2/; OSError where nothing answers."""
        return self.call("GET", path + (f"?{urlencode(query, doseq=True)}" if query else ""))

    def get_all(self, path: str, key: str, **query: Any) -> list[Any]:
        """Return the items of a list that Airflow gives by pages of at most 100."""
        found: list[Any] = []
        while True:
            page = self.get(path, limit=_PAGE, offset=len(found), **query)
            found += page[key]
            if not page[key] or len(found) >= page["total_entries"]:
                return found

    def call(self, method: str, path: str, content: Any = None) -> Any:
        """Send content as JSON to a path below /api/v2/ and return the answer's.

        Raises RestError on any other status than success, OSError where nothing answers.
        """
        headers = {"Accept": "application/json"}
        if self._password:
            headers["Authorization"] = f"Bearer {self._current_token()}"
        return self._send(method, f"/api/v2/{path}", content, headers)

    def _current_token(self) -> str:
        if time.monotonic() >= self._until_s:
            who = {"username": self._user, "password": self._password}
            answer = self._send("POST", "/auth/token", who, {})
            self._token, self._until_s = answer["access_token"], time.monotonic() + _TOKEN_S
        return self._token

    def _send(self, method: str, path: str, content: Any, headers: Mapping[str, str]) -> Any:
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(  # noqa: S310 - an http address of this machine
            self._url + path, body, {**headers, "Content-Type": "application/json"}, method=method
        )
        try:
            with _OPENER.open(request, timeout=self._limit_s) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                raise RestError(method, path, error.code, error.read().decode()) from error
        return json.loads(text) if text else None


def part(name: str) -> str:
    """Return a name as a part of a path."""
    return quote(name, safe="")
