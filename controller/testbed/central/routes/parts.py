"""Parts of requests and answers that several routes share."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import Header, Path, Query
from fastapi.responses import Response

from controller.domain.phases import OVER, WAITING
from controller.testbed.central.runs import RunAtCentre
from controller.testbed.central.service import Controller, FencingToken
from controller.testbed.handshake import refuse
from controller.testbed.keys import NAME

MOST_WAIT_S: Final = 30.0
MOST_FILE_BYTES: Final = 512 * 2**20
LOOK_S: Final = 1.0  # after which a long poll looks again, whether it was woken or not
RunId = Annotated[str, Path(pattern="^[0-9a-f]{12}$")]
RunKey = Annotated[str, Path(pattern=r"^[0-9a-f]{12}\.\d{1,9}$")]  # of one incarnation
Token = Annotated[str, Header(alias="Fencing-Token", pattern=r"^\d{1,15}\.\d{1,15}$")]
NodeName = Annotated[str, Path(pattern=f"^{NAME.pattern}$")]
FileName = Literal["journal.jsonl", "transcript.jsonl"]  # JOURNAL and TRANSCRIPT of handshake.py
Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
Wait = Annotated[float, Query(ge=0, le=MOST_WAIT_S)]

NO_LEASE: Final = "0.0"  # of who has no lease


def begun_as(run: RunAtCentre) -> dict[str, Any]:
    """Return a run as nodes and player begin it; its id among services is that of the
    incarnation."""
    return {
        "id": run.key,
        "experiment": run.document["experiment"],
        "began_unix_s": run.document["began_unix_s"],
        "speed": run.document["speed"],
    }


def progress_of(controller: Controller, run: RunAtCentre) -> dict[str, Any]:
    """Return how far a run is, whose it is and which services it waits for."""
    return {
        **run.progress(),
        "holder": run.document["holder"],
        "fencing_token": f"{run.document['fence']}.{run.document['attempt']}",
        "events": controller.events.newest,
        "waiting_for": controller.lacking(run) if run.phase == WAITING else [],
    }


def current_run(controller: Controller, key: str) -> RunAtCentre | None:
    run = controller.current
    return run if run is not None and run.key == key and run.phase not in OVER else None


def unknown_run() -> Response:
    return refuse(404, "this run is unknown here, or over")


def token_of(header: str) -> FencingToken:
    """Return a fencing token from its header."""
    fence, attempt = map(int, header.split("."))
    return FencingToken(fence, attempt)
