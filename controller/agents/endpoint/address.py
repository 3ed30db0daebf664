"""Address and key of a server, checked before anything is sent there."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from controller.agents.endpoint.redaction import SHORTEST
from controller.domain.errors import InputError

KEY_VARIABLE = "OPENAI_API_KEY"
SOURCE = "reasoner"
_OPENAI = "https://api.openai.com/"
_EXAMPLE = "give an address such as https://api.openai.com/v1"
_KEY = re.compile(r"[!-~]*")  # what an HTTP header can carry


@dataclass(frozen=True, slots=True)
class Address:
    """An OpenAI-compatible server: its base URL without a trailing slash, and whether it is on this
    machine."""

    url: str
    loopback: bool

    @property
    def is_openai(self) -> bool:
        return self.url.lower().startswith(_OPENAI)

    @property
    def encrypted(self) -> bool:
        return self.url.startswith("https://")

    @classmethod
    def of(cls, text: str) -> Address:
        """Parse a URL; an empty path becomes ``/v1``, the usual prefix of the API.

        Raises:
            InputError: not an http or https URL, or one with a user name, password, query or
                fragment.
        """
        try:
            parts = urlsplit(text.strip())
            host, port = parts.hostname or "", parts.port
        except ValueError:  # its text may hold a part of a password: drop it
            raise _wrong("is not an address", text) from None
        if parts.username is not None or parts.password is not None:
            raise _wrong("carries a name or password", text, f"put the key into {KEY_VARIABLE}")
        if parts.query or parts.fragment:
            raise _wrong("carries a query or fragment", None)
        if parts.scheme not in ("http", "https") or not host or port == 0:
            raise _wrong("is not an http or https address", text)
        path = parts.path.rstrip("/") or "/v1"
        return cls(f"{parts.scheme}://{parts.netloc}{path}", _is_loopback(host))


def checked_key(text: str, address: Address) -> str:
    """Return the key without surrounding white space; an empty string means no key.

    Raises:
        InputError: the key has characters other than printable ASCII, or would go unencrypted to
            another machine. Shorter than SHORTEST it is a placeholder, free to go anywhere. The
            message never shows the key.
    """
    key = text.strip()
    if not _KEY.fullmatch(key):
        raise InputError(
            KEY_VARIABLE, "is not a key: keys are ASCII without spaces", remedy="copy it again"
        )
    if len(key) >= SHORTEST and not address.encrypted and not address.loopback:
        raise InputError(
            SOURCE, f"would be sent the key in {KEY_VARIABLE} unencrypted", field="url",
            value=address.url,
            remedy=f"use https or a tunnel to this machine, or unset {KEY_VARIABLE}",
        )  # fmt: skip
    return key


def _is_loopback(host: str) -> bool:
    """Return True for every spelling of this machine that never leaves it: also 0.0.0.0, which
    servers print, and the short forms that the operating system's resolver knows."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(name))  # 127.1, 0, 2130706433
        except OSError:
            return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def _wrong(problem: str, value: str | None, remedy: str = _EXAMPLE) -> InputError:
    """Return the error for a wrong URL. It omits a value with an @, since a password may stand
    before that."""
    secret = value is not None and any(sign in value for sign in ("@", "%40"))
    return InputError(SOURCE, problem, field="url", value=None if secret else value, remedy=remedy)
