"""The plugin that every component of Airflow loads: so nothing of the pages is imported here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from controller.airflow.alerts import RunCreatedDeadline
from controller.airflow.middleware import NewRuns, is_known
from controller.airflow.paths import PREFIX

# Pages are below the path of Airflow's own address.
PAGES: Final = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/") + PREFIX


class Pages:
    """The application of the pages, made when the first is asked for."""

    @cached_property
    def _app(self) -> Callable[..., Awaitable[None]]:
        from controller.airflow.routes import make_app

        return make_app()

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        await self._app(scope, receive, send)


APPS: Final = [{"app": Pages(), "url_prefix": PREFIX, "name": "edgelm"}]
MIDDLEWARES: Final = [
    {"middleware": NewRuns, "kwargs": {"is_known": is_known}, "name": "edgelm"},
]
VIEWS: Final = [
    {"name": "edgelm", "href": f"{PAGES}{href}", "destination": destination, "url_route": route}
    for destination, route, href in (
        ("nav", "edgelm", "/"),
        ("dag", "edgelm-dag", "/dag?dag_id={DAG_ID}"),
        ("dag_run", "edgelm-run", "/run?dag_id={DAG_ID}&run_id={RUN_ID}"),
    )
]


class EdgelmPlugin(AirflowPlugin):
    """Pages of campaigns in the navigation, a DAG and a run; refusal of unknown parameters."""

    name = "edgelm"
    fastapi_apps = APPS
    fastapi_root_middlewares = MIDDLEWARES
    external_views = VIEWS
    deadline_references = [RunCreatedDeadline]  # noqa: RUF012 - Airflow's own type
