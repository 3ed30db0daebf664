"""The command calibrate: fits a profile to observed runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from controller.cli.app import app
from controller.cli.options import AsJson

if TYPE_CHECKING:
    from controller.calibration.estimates import Estimate
    from controller.calibration.fit import Calibration
    from controller.calibration.regimes import Comparison, Error

NOTE: Final = (
    "Emulated engines that take the twin's own profile show that services and twin agree, not what "
    "a GPU does."
)


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
    check: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER", help="Campaign with other seeds to compare the twin with, repeatable."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a profile and a testbed's latencies to the records of runs (docs/calibration.md).

    An LM or hardware with too few requests keeps its old numbers. With --check, runs that the fit
    has not seen are made again on the calibrated twin, and errors shown by LM and load regime.

    \b
    Examples:
      edgelm calibrate results/paper-live --out my/profile.yaml --testbed-out my/testbed.yaml
      edgelm calibrate results/seed-0 --check results/seed-1 --json
    """
    from controller.bootstrap.calibration import calibrate as fit_to
    from controller.bootstrap.calibration import check as check_on
    from controller.bootstrap.calibration import write_file

    made = fit_to(folders)
    written = []
    for path, content in ((out, made.profile), (testbed_out, made.testbed)):
        if path is not None:
            write_file(path, content)
            written.append(str(path))
    checked = check_on(check, made) if check else []
    if as_json:
        document: dict[str, Any] = {"written": written, **_document(made.found)}
        if check:
            document["check"] = {"note": NOTE, "rows": [asdict(one) for one in checked]}
        typer.echo(json.dumps(document, indent=1))
        return
    for line in _lines(made.found):
        typer.echo(line)
    for name in written:
        typer.echo(f"written: {name}")
    if check:
        typer.echo("\n".join(["", *_check_lines(checked), NOTE]))


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


def _check_lines(found: list[Comparison]) -> list[str]:
    lines = [
        "twin against live, by LM and regime; errors: mean absolute over windows of 10 slots, in "
        "brackets that of the twin before",
        f"  {'LM':5} {'regime':11} {'requests':>8} {'live s':>8} {'twin s':>8} "
        f"{'error of latency, s':>24} {'':>17} {'live':>6} {'twin':>6} {'error of success':>22} "
        "same way",
    ]
    for one in found:
        head = f"  {one.lm:5} {one.regime:11} {one.requests:8}"
        if one.latency_error_s is None or one.success_error is None:
            lines.append(f"{head} too few")
            continue
        lines.append(
            f"{head} {one.live_s:8.2f} {one.twin_s:8.2f} {_error(one.latency_error_s):>24} "
            f"{one.relative_error:7.1%} [{one.relative_error_before:7.1%}] "
            f"{one.live_success:6.3f} {one.twin_success:6.3f} "
            f"{_error(one.success_error):>22} {one.same_way:8.1%}"
        )
    return lines


def _error(one: Error) -> str:
    if one.low is None or one.high is None:
        return f"{one.value:.3g} (one window)"
    return f"{one.value:.3g} ({one.low:.3g} to {one.high:.3g})"
