"""Where a server is and the key it wants, checked before anything is sent there."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from controller.domain.errors import InputError

KEY_VARIABLE = "OPENAI_API_KEY"
SOURCE = "reasoner"
_EXAMPLE = "give an address such as https://api.openai.com/v1"
_KEY = re.compile(r"[!-~]*")  # what an HTTP header can carry


@dataclass(frozen=True, slots=True)
class Address:
    """The base URL, without a slash at its end."""

    url: str
    loopback: bool

    @classmethod
    def of(cls, text: str) -> Address:
        """``http://host:port`` means its ``/v1``, where such servers have their routes.

        Raises:
            InputError: it is no address, or carries a password or a query.
        """
        try:
            parts = urlsplit(text.strip())
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise _wrong("is not an address", text) from error
        if parts.username is not None or parts.password is not None:  # not shown: it is a secret
            raise _wrong("carries a name or password", None, f"put the key into {KEY_VARIABLE}")
        if parts.query or parts.fragment:
            raise _wrong("carries a query or fragment", None)
        if parts.scheme not in ("http", "https") or not host or port == 0:
            raise _wrong("is not an http or https address", text)
        path = parts.path.rstrip("/") or "/v1"
        return cls(f"{parts.scheme}://{parts.netloc}{path}", _is_loopback(host))


def checked_key(text: str) -> str:
    """The key without the white space around it; empty is none.

    Raises:
        InputError: no header could carry it. The message does not show it.
    """
    key = text.strip()
    if not _KEY.fullmatch(key):
        raise InputError(
            KEY_VARIABLE, "is not a key: keys are ASCII without spaces", remedy="copy it again"
        )
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _wrong(problem: str, value: str | None, remedy: str = _EXAMPLE) -> InputError:
    return InputError(SOURCE, problem, field="url", value=value, remedy=remedy)
