"""README and docs say what is so: their commands run, and what they name exists.

Blocks fenced with ``console run`` are run, line by line, each page in an empty folder of its own
with an empty home; other blocks are only looked at.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from controller.strategies import STRATEGIES

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

README = (ROOT / "README.md").read_text()

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CALL = re.compile(r"(?:^|[\s;&|(])edgelm((?: +[^\s;&|<>]+)*)")


def commands(page: Path) -> list[str]:
    """The lines of a page that are to be run."""
    blocks = [body for info, body in FENCE.findall(page.read_text()) if info == "console run"]
    joined = "".join(blocks).replace("\\\n", " ")
    return [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda p: p.name)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    folder.mkdir()
    environment = {"HOME": str(home), "PATH": f"{BIN}:{os.defpath}", "MPLBACKEND": "agg"}
    script = "set -xeuo pipefail\n" + "\n".join(commands(page))
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_the_readme_shows_commands_that_are_run() -> None:
    assert len(commands(ROOT / "README.md")) >= 3


def test_the_readme_tells_every_strategy_by_its_parts() -> None:
    cells = re.findall(r"^\| ([A-Z-]+) \| (\w+) \| (\w+) \| (\w+) \|", README, re.MULTILINE)
    parts = [(name, r.planner, r.scheduler, r.deployer) for name, r in STRATEGIES.items()]
    assert cells == parts


def test_the_readme_shows_the_layout_as_it_is() -> None:
    block = re.findall(r"^    (?:.*)$", README, re.MULTILINE)
    names = [name for line in block for name in re.findall(r"([\w./]+(?:\.py|/))(?:\s|$)", line)]
    package = {n for n in names if (ROOT / "controller" / n).exists()}
    assert [n for n in names if n not in package and not (ROOT / n).exists()] == []
    modules = {child.name + "/" * child.is_dir() for child in (ROOT / "controller").iterdir()}
    assert {m for m in modules if not m.startswith("_") and m != "py.typed"} <= package


def test_the_readme_leads_to_every_page() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in LINK.findall(README)}
    decisions = ROOT / "docs" / "decisions"
    assert decisions in linked
    assert [
        p for p in PAGES if p not in linked | {ROOT / "README.md"} and p.parent != decisions
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    links = [link for link in LINK.findall(text) if "://" not in link]
    assert [link for link in links if not leads_somewhere(page, link)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path) if path else page
    return target.exists() and (not anchor or anchor in anchors(target.read_text()))


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ +(.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_and_options_that_are_named_exist(page: Path) -> None:
    unknown = []
    for words, options in calls(page.read_text()):
        known = help_of(words)
        unknown += [f"edgelm {' '.join(words)}"] if known is None else []
        unknown += [f"{' '.join(words)} {o}" for o in options if o not in (known or options)]
    assert unknown == []


def calls(text: str) -> list[tuple[tuple[str, ...], list[str]]]:
    """(words, options) of each call of edgelm in the page's code."""
    code = [body for _, body in FENCE.findall(text)] + INLINE.findall(FENCE.sub("", text))
    found = []
    for line in "\n".join(code).replace("\\\n", " ").splitlines():
        for call in CALL.findall(line):
            tokens = call.split()
            words = [token for token in tokens if re.fullmatch("[a-z]+", token)]
            options = [re.split("[=,]", token)[0] for token in tokens if token.startswith("--")]
            if tokens and tokens[0] in words:
                found.append((tuple(words[: 2 if words[0] in ("trace", "models") else 1]), options))
    return found


@cache
def help_of(words: tuple[str, ...]) -> str | None:
    """The help of a command, None if there is no such command."""
    done = subprocess.run(
        [BIN / "edgelm", *words, "--help"],
        env={"PATH": os.defpath, "COLUMNS": "300", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
    )
    return done.stdout if done.returncode == 0 else None


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_make_targets_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    code = [body for _, body in FENCE.findall(text)] + INLINE.findall(FENCE.sub("", text))
    named = set(re.findall(r"^(?:\$ )?make ([a-z0-9-]+)", "\n".join(code), re.MULTILINE))
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named <= targets
