"""The application that Airflow's API server mounts at /edgelm: campaigns and their reports, for
whoever has logged in to Airflow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from airflow.models import Connection, DagRun
from airflow.sdk.exceptions import AirflowNotFoundException
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from sqlalchemy import select
from starlette.exceptions import HTTPException as StarletteHTTPException

from controller.airflow.campaigns import (
    Campaign,
    list_campaigns,
    read_campaign,
    read_campaigns,
)
from controller.airflow.files import OTHER, content_type, report_file
from controller.airflow.folders import folder_of, is_folder_name
from controller.airflow.pages import dag_page, message_page, overview_page, run_page
from controller.airflow.paths import PREFIX, report_path
from controller.airflow.settings import RESULTS, results_folder
from controller.airflow.testbed import CONNECTION, Holding, address_of, look

NOTHING_ELSE: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
# A report's page has its scripts and styles inside, and asks for nothing.
REPORT: Final = f"{NOTHING_ELSE}; script-src 'unsafe-inline'; font-src data:"
RUNS: Final = 100  # of a DAG that its page looks at, the newest

Id = Annotated[str, Query(min_length=1, max_length=250)]


def make_app() -> FastAPI:
    """Return the application."""
    app = FastAPI(
        title="edgelm", docs_url=None, redoc_url=None, openapi_url=None,
        dependencies=[Depends(get_user)],
    )  # fmt: skip
    app.middleware("http")(_guard)
    app.exception_handler(StarletteHTTPException)(_explain)

    @app.get("/")
    def overview(request: Request) -> HTMLResponse:
        """Return all campaigns, and who has the testbed."""
        root = results_folder()
        found = list_campaigns(root) if root else []
        return HTMLResponse(overview_page(_base(request), _named(root), found, _holding()))

    @app.get("/dag", dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN))])
    def dag(request: Request, dag_id: Id, session: SessionDep) -> HTMLResponse:
        """Return the campaigns of a DAG's newest runs."""
        newest = select(DagRun.run_id).where(DagRun.dag_id == dag_id)
        runs = session.scalars(newest.order_by(DagRun.run_after.desc()).limit(RUNS))
        root = results_folder()
        found = read_campaigns(root, [folder_of(dag_id, one) for one in runs]) if root else []
        return HTMLResponse(dag_page(dag_id, _base(request), _named(root), found))

    @app.get("/run", dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN))])
    def run(request: Request, dag_id: Id, run_id: Id, session: SessionDep) -> Response:
        """Send to the report of a run's campaign; without one, say how far the campaign is."""
        wanted = select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
        known = session.scalar(wanted)
        if known is None:
            raise HTTPException(404, f"{dag_id} has no run {run_id}; it may have been deleted.")
        root, folder = results_folder(), _folder_of(known)
        campaign = read_campaign(root, folder) if root else None
        if campaign is not None and campaign.has_report:
            return RedirectResponse(_base(request) + report_path(folder), 303)
        page = run_page(run_id, _base(request), _named(root), folder, campaign)
        return HTMLResponse(page)

    @app.get("/campaigns/{campaign}/report")
    @app.get("/campaigns/{campaign}/report/")
    def report(request: Request, campaign: str) -> Response:
        """Send to the page of a report, so that its links to files hold."""
        return RedirectResponse(_base(request) + report_path(campaign), 303)

    @app.get("/campaigns/{campaign}/report/{path:path}")
    def file(campaign: str, path: str) -> Response:
        """Return a file of a report."""
        root = results_folder()
        found = report_file(root, campaign, path) if root else None
        if found is None:
            raise HTTPException(
                404, _no_file(root, read_campaign(root, campaign) if root else None)
            )
        kind = content_type(found)
        policy = REPORT if kind.startswith("text/html") else NOTHING_ELSE
        headers = {"Content-Security-Policy": policy, "Cache-Control": "private, no-cache"}
        name = found.name if kind == OTHER else None  # a browser saves what it cannot show
        return FileResponse(found, media_type=kind, headers=headers, filename=name)

    return app


async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Add to every answer what a browser must not do with it."""
    response = await call_next(request)
    response.headers.setdefault("Content-Security-Policy", NOTHING_ELSE)
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    return response


async def _explain(request: Request, error: StarletteHTTPException) -> HTMLResponse:
    """Return the page of a refusal."""
    status, base = error.status_code, _base(request)
    if status == 401:
        here = quote(f"{request.url.path}?{request.url.query}".rstrip("?"), safe="")
        login = f"{base.removesuffix(PREFIX)}/api/v2/auth/login?next={here}"
        page = message_page("Log in", "This page needs a login to Airflow.", login, "Log in")
    elif status == 403:
        sentence = "Your role does not let you see this: ask who runs this Airflow."
        page = message_page("Not allowed", sentence)
    else:
        given = error.detail if error.detail != "Not Found" else "There is no such page."
        page = message_page("Not found", given, f"{base}/", "All campaigns")
    return HTMLResponse(page, status, dict(error.headers or {}))


def _base(request: Request) -> str:
    return str(request.scope.get("root_path", ""))


def _named(root: Path | None) -> str:
    return str(root) if root else ""


def _no_file(root: Path | None, campaign: Campaign | None) -> str:
    if root is None:
        return f"Airflow does not know where results are: set {RESULTS} for its API server."
    if campaign is None:
        return f"There is no such campaign in {root}."
    if not campaign.has_report:
        folder = root / campaign.folder
        return f"This campaign has no report yet: edgelm report {folder} writes it."
    return "Its report has no such file."


def _folder_of(run: DagRun) -> str:
    """Return the folder that a run is about: the one that its parameters or its asset's event name,
    else the one named after it."""
    events: Sequence[Any] = run.consumed_asset_events
    for given in (run.conf, *(event.extra for event in events)):
        folder = given.get("folder") if isinstance(given, dict) else None
        if isinstance(folder, str) and is_folder_name(folder):
            return folder
    return folder_of(run.dag_id, run.run_id)


def _holding() -> Holding | None:
    """Return who has the testbed of the default connection; None without a connection."""
    try:
        # The API server has no task's supervisor to ask, as airflow.sdk's would.
        found = Connection.get_connection_from_secrets(CONNECTION)  # noqa: AIR311
        address = address_of(found)
    except AirflowNotFoundException:
        return None
    except ValueError as error:
        return Holding(problem=f"the connection {CONNECTION} cannot be used: {error}")
    return look(address)
