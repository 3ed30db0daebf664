"""Pages of the provider as HTML: the views that templates/airflow/ shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from controller.airflow.campaigns import Campaign
from controller.airflow.chart import HEIGHT, WIDTH, Chart, charts
from controller.airflow.settings import RESULTS
from controller.airflow.testbed import Holding
from controller.inputs.shipped import html_templates
from controller.report.style import looks

if TYPE_CHECKING:
    from jinja2 import Environment

REFRESH_S: Final = 15  # of a page that waits for a report


@dataclass(frozen=True, slots=True)
class ListView:
    """A page of campaigns. ``base``: path of all pages. ``found``: the folder of results, "" if
    nobody has named one. ``holding``: None leaves the testbed out."""

    title: str
    base: str
    found: str
    campaigns: Sequence[Campaign]
    charts: Sequence[Chart]
    colours: Mapping[str, str]
    holding: Holding | None = None
    variable: str = RESULTS
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True, slots=True)
class RunView:
    """The page of a DAG's run without a report, or not yet."""

    title: str
    base: str
    folder: str
    found: str
    campaign: Campaign | None
    colours: Mapping[str, str]
    variable: str = RESULTS
    refresh_s: int = REFRESH_S


@dataclass(frozen=True, slots=True)
class MessageView:
    """A page that says why there is no other, and what to do."""

    title: str
    sentence: str
    link: str = ""
    label: str = ""


def overview_page(
    base: str, found: str, campaigns: Sequence[Campaign], holding: Holding | None
) -> str:
    """Return the page of all campaigns."""
    return _list_page("Campaigns", base, found, campaigns, holding)


def dag_page(dag_id: str, base: str, found: str, campaigns: Sequence[Campaign]) -> str:
    """Return the page of the campaigns of a DAG's runs."""
    return _list_page(f"Campaigns of {dag_id}", base, found, campaigns, None)


def run_page(run_id: str, base: str, found: str, folder: str, campaign: Campaign | None) -> str:
    """Return the page of a run that has no report yet."""
    colours = colours_of([campaign] if campaign else [])
    return _render("run", RunView(run_id, base, folder, found, campaign, colours))


def message_page(title: str, sentence: str, link: str = "", label: str = "") -> str:
    """Return a page with a sentence and what to do."""
    return _render("message", MessageView(title, sentence, link, label))


def colours_of(campaigns: Iterable[Campaign]) -> dict[str, str]:
    """Return a CSS colour for every strategy, as in reports, light and dark."""
    named = {one.strategy: None for campaign in campaigns for one in campaign.standings}
    found = looks(tuple(named)).items()
    return {strategy: f"light-dark({look.colour}, {look.dark})" for strategy, look in found}


def _list_page(
    title: str, base: str, found: str, campaigns: Sequence[Campaign], holding: Holding | None
) -> str:
    view = ListView(
        title, base, found, campaigns, charts(campaigns), colours_of(campaigns), holding
    )
    return _render("campaigns", view)


def _render(template: str, view: object) -> str:
    return _environment().get_template(f"{template}.html.j2").render(view=view)


@cache
def _environment() -> Environment:
    environment = html_templates("airflow")
    environment.filters |= {"when": _when, "part": _part}
    return environment


def _when(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M}"


def _part(name: str) -> str:
    """Quote a name as one part of a path."""
    return quote(name, safe="")
