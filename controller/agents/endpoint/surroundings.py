"""Certificates and proxies that the environment names for connections to other machines."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from controller.domain.errors import InputError

_FILES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")
_SCHEMES: Final = ("http", "https", "socks5", "socks5h")


def explain(error: Exception) -> InputError:
    """Return what in the environment keeps the HTTP client from being made."""
    for name, problem, remedy in _problems():
        return InputError(name, problem, value=_shown(os.environ[name]), remedy=remedy)
    return InputError(
        "reasoner", f"the HTTP client cannot be made: {type(error).__name__}: {error}",
        remedy=f"look at the environment's {', '.join((*_FILES, *_PROXIES))}",
    )  # fmt: skip


def _problems() -> Iterator[tuple[str, str, str]]:
    """Yield (variable, problem, remedy)."""
    for name in _FILES:
        if problem := _file_problem(name):
            yield name, problem, "correct it, or unset it"
    for name, value in os.environ.items():
        if name.lower() in _PROXIES and value and (problem := _proxy_problem(value)):
            yield name, problem, "give an address such as http://proxy:3128, or unset it"


def _file_problem(name: str) -> str:
    path = os.environ.get(name, "")
    if not path:
        return ""
    try:
        if name == "SSLKEYLOGFILE":
            with Path(path).open("ab"):
                return ""
        if name == "SSL_CERT_DIR":
            list(Path(path).iterdir())
        else:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        return f"holds no certificates ({error.reason or 'unreadable'})"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""


def _proxy_problem(value: str) -> str:
    url = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(url)
        scheme, host, _ = parts.scheme, parts.hostname, parts.port
    except ValueError:
        return "is no address of a proxy"
    if scheme not in _SCHEMES:
        return f"has a scheme of proxies that is not known, {scheme!r}"
    if not host:
        return "names no host"
    if scheme.startswith("socks"):
        return "names a SOCKS proxy, which is not supported here"
    return ""


def _shown(value: str) -> str:
    """Return a value without the password that may stand in it."""
    return value if "@" not in value else "***@" + value.rpartition("@")[2]
