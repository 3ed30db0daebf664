"""Pages, middleware and links of the provider in a real API server, and in a browser.

``EDGELM_SCREENSHOTS=FOLDER`` keeps what the browser has seen, as docs/images/ has it.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from airflow_local.home import USER
from airflow_local.rest import RestError
from controller.airflow.folders import folder_of
from controller.report import write_report
from tests.airflow.standalone import Standalone, standalone
from tests.integration.test_report_browser import CHROMIUM, FLAGS
from tests.samples.sample_campaign import Sample, write_sample
from tests.unit.telemetry.exporters import exporter

DAGS = Path(__file__).parent / "ui_dags"
RUN_ID = "manual__2026-11-30T20:12:00+00:00"
EMPTY_ID = "manual-without-a-campaign"
HOLDER = f"run_campaign/{RUN_ID}"
NIGHTS = ("nightly-25", "nightly-26", "nightly-27", "nightly-28", "nightly-29")
HOURS = {folder_of("run_campaign", RUN_ID): 2.0, "outages": 1.0}
HOURS |= {night: 24.0 * (k + 1) for k, night in enumerate(reversed(NIGHTS))}
SIZE = {"width": 1280, "height": 800}


class Answer(NamedTuple):
    """An answer of the API server; redirects are not followed."""

    status: int
    headers: Any
    text: str


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay)


class Server:
    """A running Airflow as a person's programs see it."""

    def __init__(self, airflow: Standalone) -> None:
        self.airflow, self.url = airflow, airflow.url
        who = {"username": USER, "password": airflow.settings.password()}
        answer = self.ask("/auth/token", json.dumps(who), "application/json", login="")
        self.token = json.loads(answer.text)["access_token"]

    def ask(
        self, path: str, body: str | None = None, kind: str = "", login: str = "bearer"
    ) -> Answer:
        headers = {"Content-Type": kind} if kind else {}
        if login == "bearer":
            headers["Authorization"] = f"Bearer {self.token}"
        if login == "cookie":
            headers["Cookie"] = f"_token={self.token}"
        content = None if body is None else body.encode()
        request = urllib.request.Request(self.url + path, content, headers)  # noqa: S310
        try:
            with OPENER.open(request, timeout=60) as answer:
                return Answer(answer.status, answer.headers, answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read().decode())

    def begin(self, conf: object, dag_id: str = "run_campaign", login: str = "bearer") -> Answer:
        body = json.dumps({"logical_date": None, "conf": conf})
        return self.ask(f"/api/v2/dags/{dag_id}/dagRuns", body, "application/json", login)

    def runs(self, dag_id: str = "run_campaign") -> int:
        return int(self.airflow.rest.get(f"dags/{dag_id}/dagRuns")["total_entries"])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("campaigns")
    samples = {
        night: Sample(strategies=("RR", "RL", "LL", "SOLVER")[k == 0 :], seeds=(k, k + 1))
        for k, night in enumerate(NIGHTS)
    }
    samples |= {
        folder_of("run_campaign", RUN_ID): Sample(
            strategies=("RF", "RL", "SOLVER", "MA"), agents=("MA",)
        ),
        "outages": Sample(strategies=("RF", "SOLVER"), failed=[("RF", 1)], pending=[("SOLVER", 2)]),
    }
    names = {folder_of("run_campaign", RUN_ID): "paper", **dict.fromkeys(NIGHTS, "nightly")}
    for folder, sample in samples.items():
        home = write_sample(root / folder, sample)
        document = json.loads((home / "campaign.json").read_text())
        document["name"] = names.get(folder, folder)
        (home / "campaign.json").write_text(json.dumps(document))
        if folder != "outages":
            write_report(home)
        when = time.time() - 3600 * HOURS[folder]
        for path in (home / "campaign.json", home / "runs"):
            os.utime(path, (when, when))
    (root / "secret.txt").write_text("secret")
    (root / "outages" / "report").mkdir()
    (root / "outages" / "report" / "link.txt").symlink_to(root / "secret.txt")
    return root


@pytest.fixture(scope="module")
def lease() -> Iterator[dict[str, Any]]:
    """What a controller answers; its port is in it."""
    said: dict[str, Any] = {
        "lease": {"key": "testbed", "holder": HOLDER, "fence": 7, "until_unix_s": time.time() + 900}
    }

    def answer(handler: BaseHTTPRequestHandler) -> None:
        content = json.dumps(said["lease"]).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    with exporter(answer) as port:
        said["port"] = port
        yield said


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, results: Path, lease: dict[str, Any]
) -> Iterator[Server]:
    connection = {"conn_type": "generic", "host": "127.0.0.1", "port": lease["port"]}
    environment = {
        "EDGELM_RESULTS": str(results),
        "AIRFLOW_CONN_EDGELM_DEFAULT": json.dumps(connection),
    }
    names = ("api-server", "scheduler", "dag-processor")
    folder = tmp_path_factory.mktemp("airflow")
    with standalone(folder, DAGS, environment, names=names) as airflow:
        made = Server(airflow)
        for run_id in (RUN_ID, EMPTY_ID):
            airflow.wait(airflow.trigger("run_campaign", {"campaign": "smoke"}, run_id))
        yield made


def run_page(run_id: str, dag_id: str = "run_campaign") -> str:
    return f"/edgelm/run?dag_id={quote(dag_id, safe='')}&run_id={quote(run_id, safe='')}"


def report_of(folder: str, path: str = "index.html") -> str:
    return f"/edgelm/campaigns/{folder}/report/{path}"


def pages() -> list[str]:
    """Return a path of every route."""
    return [
        "/edgelm/", "/edgelm/dag?dag_id=run_campaign", run_page(RUN_ID), run_page(EMPTY_ID),
        "/edgelm/campaigns/nightly-28/report", report_of("nightly-28", ""),
        report_of("nightly-28"), report_of("nightly-28", "missing.html"),
    ]  # fmt: skip


@pytest.mark.parametrize("path", pages())
def test_nobody_sees_anything_without_a_login(server: Server, path: str) -> None:
    answer = server.ask(path, login="")
    assert answer.status == 401
    assert "This page needs a login" in answer.text
    assert f"login?next={quote(path.partition('?')[0], safe='')}" in answer.text
    assert "SOLVER" not in answer.text


def test_a_wrong_token_opens_nothing(server: Server) -> None:
    token, server.token = server.token, "x.y.z"
    try:
        for login in ("bearer", "cookie"):
            assert server.ask("/edgelm/", login=login).status in (401, 403)
    finally:
        server.token = token


@pytest.mark.parametrize("login", ["bearer", "cookie"])
def test_a_login_opens_the_overview(server: Server, results: Path, login: str) -> None:
    answer = server.ask("/edgelm/", login=login)
    assert answer.status == 200
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    for folder in HOURS:
        assert folder in answer.text
    assert f"The testbed is held by <b>{HOLDER}</b>" in answer.text
    assert "nightly: objective over time" in answer.text
    assert report_of("nightly-28") in answer.text
    assert report_of("outages") not in answer.text


def test_a_free_and_a_silent_testbed(server: Server, lease: dict[str, Any]) -> None:
    kept = lease["lease"]
    try:
        lease["lease"] = None
        assert "The testbed is free" in server.ask("/edgelm/").text
        lease["lease"] = {"holder": "x"}
        assert "Who has the testbed is unknown" in server.ask("/edgelm/").text
    finally:
        lease["lease"] = kept


def test_a_report_is_served_with_its_files(server: Server, results: Path) -> None:
    page = server.ask(report_of("nightly-28"))
    assert page.status == 200
    assert page.text == (results / "nightly-28" / "report" / "index.html").read_text()
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy
    assert "http" not in policy
    kinds = {".svg": "image/svg+xml", ".csv": "text/csv; charset=utf-8"}
    report = results / "nightly-28" / "report"
    for suffix, kind in kinds.items():
        file = next(report.rglob(f"*{suffix}")).relative_to(report).as_posix()
        answer = server.ask(report_of("nightly-28", file))
        assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
        assert "script-src" not in answer.headers["Content-Security-Policy"]
    for path in ("/edgelm/campaigns/nightly-28/report", report_of("nightly-28", "")):
        answer = server.ask(path)
        assert (answer.status, answer.headers["Location"]) == (303, report_of("nightly-28"))


@pytest.mark.parametrize(
    "path",
    [
        report_of("nightly-28", "../campaign.json"),
        report_of("nightly-28", "..%2fcampaign.json"),
        report_of("nightly-28", "%2e%2e/campaign.json"),
        report_of("nightly-28", "figures/..%2f..%2fcampaign.json"),
        report_of("nightly-28", "%2fetc%2fpasswd"),
        report_of("nightly-28", "/etc/passwd"),
        report_of("nightly-28", "..%5ccampaign.json"),
        report_of("nightly-28", "index.html%00"),
        report_of("outages", "link.txt"),
        report_of("..%2fcampaigns%2fnightly-28"),
        report_of("%2e%2e", "secret.txt"),
        report_of(".", "secret.txt"),
    ],
)
def test_no_path_leads_out_of_a_report(server: Server, path: str) -> None:
    answer = server.ask(path)
    assert answer.status == 404
    assert "secret" not in answer.text.replace("secret.txt", "")
    assert '"runs"' not in answer.text
    assert "root:" not in answer.text


def test_what_is_missing_says_what_to_do(server: Server, results: Path) -> None:
    assert "There is no such campaign" in server.ask(report_of("nothing")).text
    assert f"edgelm report {results}/outages" in server.ask(report_of("outages")).text
    assert "no such file" in server.ask(report_of("nightly-28", "x.html")).text
    assert server.ask("/edgelm/nothing").status == 404
    answer = server.ask(run_page("gone"))
    assert (answer.status, "has no run gone" in answer.text) == (404, True)
    assert server.ask("/edgelm/openapi.json").status == 404
    assert server.ask("/edgelm/docs").status == 404


def test_a_run_leads_to_its_report(server: Server, results: Path) -> None:
    answer = server.ask(run_page(RUN_ID))
    assert answer.status == 303
    assert answer.headers["Location"] == report_of(folder_of("run_campaign", RUN_ID))
    assert server.ask(answer.headers["Location"]).status == 200
    answer = server.ask(run_page(EMPTY_ID))
    assert answer.status == 200
    assert f"there is no <code>{results}/{EMPTY_ID}</code>" in answer.text


def test_a_dag_has_the_campaigns_of_its_runs(server: Server) -> None:
    answer = server.ask("/edgelm/dag?dag_id=run_campaign")
    assert folder_of("run_campaign", RUN_ID) in answer.text
    assert "nightly-28" not in answer.text
    assert "no campaign here yet" in server.ask("/edgelm/dag?dag_id=stranger").text
    assert server.ask("/edgelm/dag").status == 422


def test_unknown_parameters_are_refused_before_a_run_is(server: Server) -> None:
    before = server.runs()
    answer = server.begin({"campaign": "smoke", "strategy": ["RF"]})
    assert answer.status == 400
    detail = json.loads(answer.text)["detail"]
    assert detail.startswith("run_campaign has no parameter 'strategy'; did you mean strategies?")
    assert "hours_at_most" in detail
    with pytest.raises(RestError, match="did you mean seeds"):
        server.airflow.trigger("run_campaign", {"seed": 1})
    for conf in ({"campaign": "papr"}, {"seeds": 0}, {"strategies": ["R"]}, {"load": "1"}):
        answer = server.begin(conf)  # these are Airflow's own to refuse
        assert answer.status == 400
        assert "Invalid input for param" in answer.text
    answer = server.begin({"note": "x" * 2**20})
    assert answer.status == 413
    assert server.runs() == before


def test_all_else_is_begun_as_ever(server: Server) -> None:
    before = server.runs()
    for conf in (None, {}, {"campaign": "paper", "strategies": None, "seeds": None, "load": 0.5}):
        answer = server.begin(conf)
        assert answer.status == 200, answer.text
        assert json.loads(answer.text)["conf"] == (conf or {})
    assert server.runs() == before + 3
    assert server.begin({"strategy": 1}, dag_id="stranger").status == 200
    assert server.begin({"strategy": 1}, login="").status == 401
    assert server.begin({"strategy": 1}, login="cookie").status == 400
    answer = server.ask("/api/v2/dags/run_campaign/dagRuns", "{", "application/json")
    assert answer.status == 422


def test_a_task_links_to_report_and_testbed(server: Server) -> None:
    run = f"dags/run_campaign/dagRuns/{quote(RUN_ID, safe='')}"
    found = server.airflow.rest.get(f"{run}/taskInstances/name_folder/links")["extra_links"]
    assert found["Testbed"] == f"{server.url}/edgelm/#testbed"
    path = found["Report"].removeprefix(server.url)
    assert server.ask(path).headers["Location"] == report_of(folder_of("run_campaign", RUN_ID))


def test_the_plugin_is_whole(server: Server) -> None:
    (plugin,) = server.airflow.rest.get("plugins")["plugins"]
    views = {one["destination"]: one["url_route"] for one in plugin["external_views"]}
    assert views == {"nav": "edgelm", "dag": "edgelm-dag", "dag_run": "edgelm-run"}
    assert server.airflow.rest.get("plugins/importErrors")["total_entries"] == 0


# In a browser.


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip("needs: sudo apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs: make setup")
    with sync_api.sync_playwright() as playwright:
        flags = [*FLAGS, "--no-proxy-server"]
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module", params=["light", "dark"])
def page(request: pytest.FixtureRequest, browser: Any, server: Server) -> Iterator[Any]:
    """A page of somebody who went to the overview, was sent to the login and came back."""
    context = browser.new_context(viewport=SIZE, color_scheme=request.param)
    context.set_default_timeout(60_000)
    made = context.new_page()
    made.scheme = request.param
    made.goto(f"{server.url}/edgelm/")
    made.get_by_role("link", name="Log in").click()
    made.locator("input[name=username]").fill(USER)
    made.locator("input[name=password]").fill(server.airflow.settings.password())
    made.keyboard.press("Enter")
    made.get_by_role("heading", name="Campaigns").wait_for()
    yield made
    context.close()


def keep(page: Any, name: str, height: int = SIZE["height"]) -> None:
    folder = os.environ.get("EDGELM_SCREENSHOTS")
    if not folder:
        return
    from PIL import Image

    page.set_viewport_size({**SIZE, "height": height})
    page.wait_for_timeout(3000)  # Airflow's own frame is still being filled
    for frame in page.frames:  # the folder of a test is of no interest
        frame.evaluate(
            "for (const one of document.querySelectorAll('code'))"
            " if (one.textContent.startsWith('/')) one.textContent = '/srv/edgelm/results'"
        )
    image = Image.open(BytesIO(page.screenshot()))
    path = Path(folder) / f"airflow-{name}-{page.scheme}.png"
    few = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    page.set_viewport_size(SIZE)


def is_dark(frame: Any) -> bool:
    colour = frame.locator("body").evaluate("e => getComputedStyle(e).backgroundColor")
    return sum(map(int, colour[4:-1].split(",")[:3])) < 384


@pytest.mark.browser
def test_the_overview_is_in_the_navigation(page: Any, server: Server) -> None:
    page.goto(server.url)
    page.locator("a[href$='/plugin/edgelm']").click()
    frame = page.frame_locator("iframe")
    frame.get_by_role("heading", name="Campaigns", exact=True).wait_for()
    frame.get_by_text(f"The testbed is held by {HOLDER}").wait_for()
    assert frame.get_by_role("img", name="Objective of").count() == 1
    assert is_dark(frame) == (page.scheme == "dark")
    keep(page, "campaigns", height=1150)
    frame.get_by_role("link", name="Report of nightly-29").click()
    frame.get_by_role("heading", level=1).get_by_text("SOLVER").wait_for()
    assert "/plugin/edgelm" in page.url


@pytest.mark.browser
def test_a_dag_has_a_tab(page: Any, server: Server) -> None:
    page.goto(f"{server.url}/dags/run_campaign")
    page.locator("a[href$='/plugin/edgelm-dag']").click()
    frame = page.frame_locator("iframe")
    frame.get_by_role("heading", name="Campaigns of run_campaign").wait_for()
    assert frame.get_by_role("link", name="Report of").count() == 1
    assert is_dark(frame) == (page.scheme == "dark")
    keep(page, "dag")


@pytest.mark.browser
def test_a_run_has_a_tab_with_its_report(page: Any, server: Server) -> None:
    page.goto(f"{server.url}/dags/run_campaign/runs/{RUN_ID}")
    page.locator("a[href$='/plugin/edgelm-run']").click()
    frame = page.frame_locator("iframe")
    frame.get_by_role("heading", level=1).get_by_text("SOLVER has the lowest objective").wait_for()
    assert frame.locator("figure svg").count() > 3
    assert is_dark(frame) == (page.scheme == "dark")
    keep(page, "run")
    with page.expect_download() as download:
        frame.locator("a[href$='.csv']").first.evaluate("e => { e.download = ''; e.click() }")
    assert download.value.suggested_filename.endswith(".csv")
    page.goto(f"{server.url}/dags/run_campaign/runs/{EMPTY_ID}/plugin/edgelm-run")
    page.frame_locator("iframe").get_by_text("This run has made no campaign").wait_for()


@pytest.mark.browser
def test_the_form_offers_choices(page: Any, server: Server) -> None:
    page.goto(f"{server.url}/dags/run_campaign")
    page.get_by_role("button", name="Trigger").click()
    page.get_by_text("smoke: The smallest campaign").wait_for()
    page.get_by_text("Instead of the campaign's own").click()
    strategies = page.locator("#element_strategies input").first
    strategies.click()
    page.keyboard.type("SOLV")
    page.keyboard.press("Enter")
    page.get_by_text("SOLVER: rolling-horizon optimiser (MILP)", exact=True).wait_for()
    keep(page, "form")
    strategies.focus()
    page.keyboard.press("Backspace")  # leaves null, which the parameter must take
    with page.expect_response(lambda one: one.url.endswith("/dagRuns")) as answer:
        page.get_by_role("button", name="Trigger").last.click()
    assert answer.value.status == 200
    assert answer.value.json()["conf"]["strategies"] is None
