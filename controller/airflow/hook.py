"""The connection to a testbed's controller."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import httpx
from airflow.sdk import BaseHook

from controller.airflow.testbed import CONNECTION, Address, address_of

DEFAULT: Final = CONNECTION
TIMEOUT_S: Final = 30.0
WAIT_S: Final = 20.0  # of a long poll


class EdgelmHook(BaseHook):
    """Calls of a testbed's controller.

    The connection's fields: see :class:`controller.airflow.testbed.ConnectionFields`.
    """

    conn_name_attr = "edgelm_conn_id"
    default_conn_name = DEFAULT
    conn_type = "edgelm"
    hook_name = "edgelm"

    def __init__(self, edgelm_conn_id: str = DEFAULT) -> None:
        super().__init__()
        self._connection_id = edgelm_conn_id

    @cached_property
    def testbed(self) -> Address:
        """The testbed that the connection names."""
        return address_of(self.get_connection(self._connection_id))

    def ask(
        self, method: str, path: str, *, body: Any = None, content: bytes | None = None,
        token: str = "", params: dict[str, str] | None = None,
    ) -> httpx.Response:  # fmt: skip
        """Ask the controller.

        Raises:
            httpx.HTTPError: it does not answer.
            InputError: the file of keys cannot be read.
        """
        shown = {**self.testbed.headers(), **({"Fencing-Token": token} if token else {})}
        return httpx.request(
            method, f"{self.testbed.url}{path}", json=body, content=content, params=params,
            headers=shown, timeout=TIMEOUT_S,
        )  # fmt: skip

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the controller answers, and what it says; the UI's button asks this."""
        try:
            answer = self.ask("GET", "/v1/state")
        except Exception as error:  # whatever it is, the button shows it
            return False, f"{type(error).__name__}: {error}"
        if answer.status_code != httpx.codes.OK:
            return False, f"{answer.status_code}: {problem_of(answer)}"
        found = answer.json()
        return True, f"edgelm {found['version']}, nodes: {', '.join(found['nodes']) or 'none yet'}"


def problem_of(answer: httpx.Response) -> str:
    """Return what the controller says is wrong."""
    try:
        found = answer.json()
    except ValueError:
        return answer.text[:300]
    return str(found.get("problem") or found.get("problems") or found)[:1000]
