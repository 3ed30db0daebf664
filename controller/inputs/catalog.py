"""Catalogue of shipped and users' own files: testbeds, profiles, workloads, campaigns."""

from __future__ import annotations

from pathlib import Path

from controller.domain.errors import InputError
from controller.inputs.documents import combine, parse, read_yaml
from controller.inputs.feasibility import check_feasible
from controller.inputs.profile import ProfileFile
from controller.inputs.shipped import shipped, template_dir
from controller.inputs.testbed import TestbedFile, scaled

__all__ = [
    "KINDS",
    "check_feasible",
    "check_together",
    "combine",
    "load_profile",
    "load_testbed",
    "locate",
    "names",
    "parse",
    "read_yaml",
    "scaled",
    "template_dir",
]

KINDS = {
    "testbeds": "inventory",
    "profiles": "profiles",
    "workloads": "workloads",
    "campaigns": "campaigns",
    "facts": "facts",
}
_SUFFIXES = (".yaml", ".yml", ".json")


def names(kind: str) -> list[str]:
    """Return the names of the shipped files of a kind, sorted.

    Raises:
        InputError: no such kind.
    """
    return sorted(path.stem for path in _folder(kind).glob("*.yaml"))


def locate(kind: str, name_or_path: str | Path) -> Path:
    """Return the file of a shipped name (``paper``) or a path (``./my.yaml``).

    Raises:
        InputError: no such kind, name or file; lists the known names.
    """
    folder, given = _folder(kind), str(name_or_path)
    if "/" in given or given.endswith(_SUFFIXES):
        path = Path(given).expanduser()
        if path.is_file():
            return path
        problem = "is not a file" if path.exists() else "does not exist"
        raise InputError(given, problem, remedy=f"give a YAML file or one of: {_list(kind)}")
    if given not in names(kind):
        raise InputError(
            kind,
            f"no shipped {kind.removesuffix('s')} has this name",
            value=given,
            remedy=f"choose from {_list(kind)}, or give a file such as ./{given or 'my'}.yaml",
        )
    return folder / f"{given}.yaml"


def load_testbed(name_or_path: str | Path) -> TestbedFile:
    """Return a testbed by shipped name or path.

    Raises:
        InputError: it does not exist or is not a testbed file.
    """
    path = locate("testbeds", name_or_path)
    return parse(TestbedFile, str(path), read_yaml(path))


def load_profile(name_or_path: str | Path) -> ProfileFile:
    """Return a profile by shipped name or path.

    Raises:
        InputError: it does not exist or is not a profile file.
    """
    path = locate("profiles", name_or_path)
    return parse(ProfileFile, str(path), read_yaml(path))


def check_together(testbed: TestbedFile, profile: ProfileFile, files: str) -> None:
    """Check a testbed and a profile as :func:`check_feasible`, where their files are known.

    Args:
        files: names of both files, for the error.

    Raises:
        InputError: they do not go together; names the shipped profiles that fit the testbed.
    """
    problem = _misfit(testbed, profile)
    if problem:
        shipped = [name for name in names("profiles") if not _misfit(testbed, load_profile(name))]
        fitting = ", ".join(f"{name} (--profile {name})" for name in shipped)
        remedy = f"shipped profiles that fit this testbed: {fitting}" if shipped else ""
        raise InputError(files, problem, remedy=remedy)


def _misfit(testbed: TestbedFile, profile: ProfileFile) -> str:
    try:
        check_feasible(testbed, profile)
    except InputError as error:
        return str(error)
    return ""


def _folder(kind: str) -> Path:
    if kind not in KINDS:
        raise InputError("kind", "is unknown", value=kind, remedy=f"choose from {', '.join(KINDS)}")
    return shipped(KINDS[kind])


def _list(kind: str) -> str:
    return ", ".join(names(kind)) or "none shipped"
