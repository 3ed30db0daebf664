"""The command calibrate: fits a profile to observed runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.app import app
from controller.cli.options import AsJson

if TYPE_CHECKING:
    from controller.calibration.estimates import Estimate
    from controller.calibration.fit import Calibration


@app.command()
def calibrate(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Campaigns with finished runs.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Profile to write, .yaml.")
    ] = None,
    testbed_out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Testbed to write, .yaml: network and control latency."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a profile and a testbed's latencies to the records of runs (docs/calibration.md).

    An LM or hardware with too few requests keeps its old numbers.

    \b
    Examples:
      edgelm calibrate results/paper-live --out my/profile.yaml --testbed-out my/testbed.yaml
    """
    from controller.bootstrap.calibration import calibrate as fit_to
    from controller.bootstrap.calibration import write_file

    made = fit_to(folders)
    written = []
    for path, content in ((out, made.profile), (testbed_out, made.testbed)):
        if path is not None:
            write_file(path, content)
            written.append(str(path))
    if as_json:
        typer.echo(json.dumps({"written": written, **_document(made.found)}, indent=1))
        return
    for line in _lines(made.found):
        typer.echo(line)
    for name in written:
        typer.echo(f"written: {name}")


def _rows(found: Calibration) -> list[tuple[str, str, Estimate]]:
    """Return (number, unit, estimate) of all that was fitted."""
    rows = [(f"service {lm} on {model}", "x", one) for (lm, _, model), one in found.service.items()]
    rows += [(f"start {lm} on {device}", "s", one) for (lm, device), one in found.starts.items()]
    rows += [(f"latency {link}", "s", one) for link, one in found.links.items()]
    return [*rows, ("control", "s", found.control)]


def _lines(found: Calibration) -> list[str]:
    lines = [f"from {found.origin}"]
    for name, unit, one in _rows(found):
        if one.value is None:
            lines.append(f"  {name:36} too few ({one.n}): keeps its old number")
        else:
            interval = f"({one.low:.4g} to {one.high:.4g})"
            lines.append(f"  {name:36} {one.value:.4g} {unit} {interval}, {one.n} observed")
    return lines


def _document(found: Calibration) -> dict[str, Any]:
    return {
        "from": found.origin,
        "runs": list(found.runs),
        "service": [
            {"lm": lm, "device": device, "model": model, **asdict(one)}
            for (lm, device, model), one in found.service.items()
        ],
        "start_s": [
            {"lm": lm, "device": device, **asdict(one)}
            for (lm, device), one in found.starts.items()
        ],
        "latency_s": {link: asdict(one) for link, one in found.links.items()},
        "control_s": asdict(found.control),
    }
