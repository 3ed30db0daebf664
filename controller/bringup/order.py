"""What the command line asks of a bring-up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

BOOT_S: Final = 600  # that a new machine has to answer


@dataclass(frozen=True, slots=True)
class Order:
    """Order of the command line. ``files``: variables for Ansible; ``tags``: roles of site.yml
    instead of its phases."""

    testbed: str
    cloud: str | None = None
    hosts: Path | None = None
    state: Path | None = None
    values: Path | None = None
    files: tuple[Path, ...] = ()
    tags: tuple[str, ...] = ()
    first: str | None = None
    last: str | None = None
    check: bool = False
    break_lock: bool = False
    vault_password_file: Path | None = None
    wait_s: int = BOOT_S
