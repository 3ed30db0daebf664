"""Control groups of this process: where the kernel says what it may use."""

from __future__ import annotations

from pathlib import Path


def groups(controller: str, root: Path) -> list[Path]:
    """Return the process's group of a controller and its parents, in each hierarchy that is
    mounted: one for all in version 2, one a controller in version 1."""
    top = root / "sys/fs/cgroup"
    folders = []
    for line in read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            mounts = [top, top / "unified"]
        elif controller in controllers.split(","):
            mounts = [top / controllers, top / controller]
        else:
            continue
        for mount in mounts:
            own = mount / path.strip("/")
            folders += [own, *(parent for parent in own.parents if parent.is_relative_to(mount))]
    return folders


def read(path: Path) -> str:
    """Return what a file of the kernel says, "" where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
