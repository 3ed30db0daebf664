"""Profiling of an LM: finds the server's package, the hardware's name, and writes the files."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controller.bench.machine import describe_machine
from controller.bootstrap.calibration import write_file
from controller.domain.errors import InputError
from controller.files import replace_file
from controller.inputs.catalog import load_profile
from controller.inputs.speeds import QUANTITIES
from controller.profiling.entry import measured_profile
from controller.profiling.measure import measure
from controller.profiling.points import Notebook, Setup, load, plan
from controller.profiling.server import LmServer

LIBRARIES: Final = ("torch", "transformers", "diffusers", "llama-cpp-python")
ASK: Final = """
import importlib.metadata as m, json, platform, sys
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A measurement as asked for. ``own_server``: take the lm_server that came with edgelm."""

    engine: str
    model: Path
    lm: str
    base: str
    out: Path
    points: Path
    cores: list[int]
    batches: list[int]
    repeats: int
    device: str
    hardware: str | None
    python: str
    own_server: bool


def profile_lm(wanted: Wanted, tell: Callable[[str], None]) -> None:
    """Measure what is not measured yet and write the profile.

    Raises:
        InputError: an option is wrong, the server does not start, or the file of points is another
            measurement's.
        Permanent: the server gave a request up.
    """
    base = load_profile(wanted.base)
    if wanted.lm not in base.lms:
        raise InputError(
            "--lm", f"is no LM of profile {base.name}", value=wanted.lm,
            remedy=f"choose from {', '.join(base.lms)}, or give a --base that has it",
        )  # fmt: skip
    if not wanted.model.exists():
        raise InputError(
            "--model", "is not there", value=str(wanted.model), remedy="give the folder of the LM"
        )
    if wanted.out.suffix not in (".yaml", ".yml"):
        raise InputError(str(wanted.out), "is no name of a YAML file", remedy="let it end in .yaml")
    amounts = base.lms[wanted.lm].reference
    reference = tuple(float(getattr(amounts, name)) for name in QUANTITIES)
    setup = Setup(
        engine=wanted.engine,
        model=str(wanted.model),
        lm=wanted.lm,
        device=wanted.device,
        hardware=_hardware(wanted),
        repeats=wanted.repeats,
        reference=reference,
        versions=_versions(wanted.python),
    )
    source = "image" if amounts.input_megapixels else "text"
    kind = "image" if amounts.output_megapixels else "text"
    wanted.points.parent.mkdir(parents=True, exist_ok=True)
    notebook = Notebook(wanted.points, replace_file, load(wanted.points, setup))
    points = plan(wanted.cores, [1, *wanted.batches], reference)
    search = _package_folder() if wanted.own_server else ""
    arguments = ["--engine", wanted.engine, "--model", str(wanted.model.resolve())]
    log = wanted.points.with_suffix(".log")
    measure(
        notebook,
        points,
        f"{source}-to-{kind}",
        lambda folder, cores: LmServer(wanted.python, search, arguments, folder, cores, log),
        tell,
    )
    write_file(wanted.out, measured_profile(base, notebook.measurement, wanted.out.stem))


def _hardware(wanted: Wanted) -> str:
    if wanted.hardware is not None:
        return wanted.hardware
    if wanted.device == "gpu":
        raise InputError(
            "--hardware", "is needed for a GPU",
            remedy="give its model as testbeds name it, such as 'NVIDIA A5000'",
        )  # fmt: skip
    return str(describe_machine()["cpu"])


def _versions(python: str) -> dict[str, str]:
    try:
        done = subprocess.run(  # noqa: S603
            [python, "-c", ASK, *LIBRARIES], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(
            "--python", "is no Python that runs", value=python,
            remedy="give the interpreter of an environment that has lm_server",
        ) from error  # fmt: skip
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _package_folder() -> str:
    found = importlib.util.find_spec("lm_server")
    if found is None or found.origin is None:
        raise InputError(
            "lm_server", "is not installed here", remedy="install edgelm anew, or give --python"
        )
    return str(Path(found.origin).parents[1])
