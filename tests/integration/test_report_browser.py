"""The report in a real browser: Debian's chromium, driven by Playwright."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.report import write_report
from tests.samples.sample_campaign import Sample, write_sample

CHROMIUM = Path("/usr/bin/chromium")
FIGURES = 14  # of a campaign over several loads with agents
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs: sudo apt-get install chromium"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    sample = Sample(
        strategies=("RR", "RL", "LL", "SOLVER", "MAL", "MA"),
        epochs=3,
        loads=(0.5, 1.0),
        failed=[("RL", 2)],
        agents=("MAL", "MA"),
    )
    return write_report(write_sample(tmp_path_factory.mktemp("campaign"), sample)).as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs: make setup")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()


class Visit:
    """A page with everything it said and asked for."""

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_page(**context)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_: object) -> None:
        self.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_every_figure_is_seen_and_nothing_is_asked_for(browser, url, width, scheme):
    size = {"width": width, "height": 900}
    with Visit(browser, url, viewport=size, color_scheme=scheme) as visit:
        figures = visit.page.locator("figure svg")
        assert figures.count() == FIGURES
        for figure in figures.all():
            box = figure.bounding_box()
            assert figure.is_visible()
            assert box["width"] > 200
            assert box["height"] > 50
        scroll_width = visit.page.evaluate("document.documentElement.scrollWidth")
        assert scroll_width == width, "the page itself must not scroll sideways"
        assert visit.said == []
        assert visit.asked == [url]


def test_the_theme_reaches_the_figures(browser, url):
    ink = "getComputedStyle(document.querySelector('figure svg text')).fill"
    with Visit(browser, url, color_scheme="light") as visit:
        light = visit.page.evaluate(ink)
        visit.page.get_by_role("button", name="Dark page").click()
        assert visit.page.evaluate(ink) != light
        visit.page.get_by_role("button", name="Light page").click()
        assert visit.page.evaluate(ink) == light


def test_a_strategy_can_be_switched_off_everywhere(browser, url):
    with Visit(browser, url, viewport={"width": 1400, "height": 900}) as visit:
        row = visit.page.locator("#results tbody tr", has_text="SOLVER")
        index = row.get_attribute("data-series")
        parts = visit.page.locator(f"figure [data-series='{index}']")
        assert parts.count() > 30
        visit.page.get_by_role("button", name="SOLVER").click()
        assert row.is_hidden()
        assert all(part.is_hidden() for part in parts.all())
        visit.page.get_by_role("button", name="SOLVER").click()
        assert row.is_visible()


def test_the_summary_sorts(browser, url):
    def order(visit: Visit) -> list[str]:
        return visit.page.locator("#results tbody th").all_inner_texts()

    with Visit(browser, url, viewport={"width": 1400, "height": 900}) as visit:
        first = order(visit)
        head = visit.page.locator("#results thead th", has_text="Objective")
        head.get_by_role("button").click()
        assert order(visit) == first
        head.get_by_role("button").click()
        assert order(visit) == first[::-1]
        assert head.get_attribute("aria-sort") == "descending"


def test_results_fit_a_laptop_and_say_who_reasoned(browser, url):
    wide = "e => e.scrollWidth > e.clientWidth"
    with Visit(browser, url, viewport={"width": 1300, "height": 900}) as visit:
        for name in ("results", "significance", "agents", "alignment"):
            for sheet in visit.page.locator(f"#{name} .sheet").all():
                assert not sheet.evaluate(wide), name
        words = visit.page.locator("#results").inner_text()
        assert "MAL and MA: reasoned by an optimiser, not a language model." in words


def test_decisions_can_be_walked_through_with_the_keyboard(browser, url):
    with Visit(browser, url, viewport={"width": 1300, "height": 900}) as visit:
        story = visit.page.get_by_role("group", name="Decisions of MA, seed 0")
        first, second = story.locator("details.epoch").nth(0), story.locator("details.epoch").nth(1)
        first.locator("summary").first.click()
        assert first.get_by_role("heading", name="What it saw").is_visible()
        visit.page.keyboard.press("ArrowRight")
        assert second.get_by_role("heading", name="What came of it").is_visible()
        assert first.get_attribute("open") is None
        assert second.locator("summary").first.evaluate("e => e === document.activeElement")
        visit.page.keyboard.press("ArrowLeft")
        assert first.get_attribute("open") is not None
        story.get_by_role("button", name="Next epoch of MA").click()
        assert second.get_attribute("open") is not None
        second.get_by_text("The observation in numbers").click()
        assert "</script><script>alert(1)</script>" in second.locator("pre").first.inner_text()
        assert visit.said == []


def test_the_page_reads_without_scripts(browser, url):
    with Visit(browser, url, java_script_enabled=False) as visit:
        epoch = visit.page.locator("details.epoch").first
        epoch.locator("summary").first.click()
        assert epoch.get_by_role("heading", name="What it said").is_visible()
        assert visit.page.locator(".steps").first.is_hidden()
        assert visit.page.locator("figure svg").count() == FIGURES
        assert visit.page.locator(".switches").is_hidden()
        assert visit.page.get_by_role("link", name="LM by LM").is_visible()
