"""What processes listen on, as the kernel says."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from pathlib import Path

LISTENS = "0A"


def listening(pids: Iterable[int]) -> list[tuple[str, int]]:
    """Return the addresses and ports on which processes accept connections."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for handle in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.add(str(handle.readlink()).removeprefix("socket:[").removesuffix("]"))
    found = []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS and fields[9] in inodes:
                host, _, port = fields[1].partition(":")
                found.append((_address(host, family), int(port, 16)))
    return sorted(found)


def _address(hexadecimal: str, family: socket.AddressFamily) -> str:
    """Return an address that the kernel shows as words of the machine's byte order."""
    raw = bytes.fromhex(hexadecimal)
    words = [raw[k : k + 4][::-1] for k in range(0, len(raw), 4)]
    return socket.inet_ntop(family, b"".join(words))
