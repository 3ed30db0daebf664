"""The page of a search: what holds together, what contradicts, and how wide the worlds range."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from controller.campaigns.facts import FactsFile, Quantity
from controller.inference.analysis import Found
from controller.inference.search import Sample, value_of
from controller.inputs.shipped import html_templates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAR: Final = 4.0  # tolerances; what is farther has the darkest colour
COLOURS: Final = ("#3568a8", "#b5562f", "#4d8a57", "#8a5fa8", "#8d7a1f", "#5f6b76")
STYLE: Final[dict[Any, Any]] = {
    "font.family": "sans-serif", "font.size": 8, "axes.spines.top": False,
    "axes.spines.right": False, "svg.fonttype": "none", "svg.hashsalt": "edgelm",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """The nearest world of an accepted set on other seeds. ``values``: name of a fact or watched
    figure -> its value by seed."""

    profile: str
    seeds: tuple[int, ...]
    values: Mapping[str, Sequence[float]]


def write_page(
    out: Path, file: FactsFile, found: Found, samples: Sequence[Sample], checks: Sequence[Check]
) -> None:
    """Write index.html, the figures and found.json to ``out``."""
    drawn = {"pairs": _pairs(file, samples), "ranges": _ranges(file, found),
             "facts": _facts(file, samples)}  # fmt: skip
    (out / "figures").mkdir(exist_ok=True)
    svgs = {}
    for name, figure in drawn.items():
        svgs[name] = _svg(figure)
        (out / "figures" / f"{name}.svg").write_text(svgs[name], encoding="utf-8")
    view = {"file": file, "found": found, "svgs": svgs, "tolerances": _tolerances,
            "sets": [_set(file, found, k, checks[k]) for k in range(len(checks))]}  # fmt: skip
    template = html_templates("inference").get_template("index.html.j2")
    (out / "index.html").write_text(template.render(**view), encoding="utf-8")
    (out / "found.json").write_text(_document(found, checks), encoding="utf-8")


def _document(found: Found, checks: Sequence[Check]) -> str:
    accepted = [
        {
            "facts": one.facts, "missing": one.missing, "worlds": one.worlds,
            "nearest": {"sample": one.nearest.number, **one.nearest.world.model_dump()},
            "factors": one.ranges, "rules": one.rules, "profile": check.profile,
            "other_seeds": {name: list(values) for name, values in check.values.items()},
        }
        for one, check in zip(found.accepted, checks, strict=True)
    ]  # fmt: skip
    document = {
        "samples": found.samples, "all_facts_least_distance": found.all_least,
        "facts": [asdict(one) for one in found.facts],
        "contradictions": [asdict(one) for one in found.contradictions], "accepted": accepted,
    }  # fmt: skip
    return json.dumps(_finite(document), indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """Replace what JSON has no word for by null."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _set(file: FactsFile, found: Found, k: int, check: Check) -> dict[str, Any]:
    """Return an accepted set as the template shows it."""
    one = found.accepted[k]
    rows = [
        {"name": fact.name, "words": _words(fact), "reported": _target(fact.side, fact.target),
         "value": _number(value_of(fact, one.nearest.figures)), "held": fact.name in one.facts,
         "others": [_number(value) for value in check.values[fact.name]]}
        for fact in file.facts
    ]  # fmt: skip
    watched = [
        {"words": _words(seen), "reported": seen.reported,
         "others": [_number(value) for value in check.values[seen.name]]}
        for seen in file.watch
    ]  # fmt: skip
    factors = [
        {"name": key, "low": _number(low), "median": _number(median), "high": _number(high),
         "nearest": _number(one.nearest.world.scale[key])}
        for key, (low, median, high) in one.ranges.items()
    ]  # fmt: skip
    rules = {rule: ", ".join(f"{v} {n}" for v, n in counts.items())
             for rule, counts in one.rules.items()}  # fmt: skip
    return {"number": k + 1, "accepted": one, "check": check, "rows": rows, "watched": watched,
            "factors": factors, "rules": rules}  # fmt: skip


def _words(quantity: Quantity) -> str:
    less = f" less {quantity.minus}'s" if quantity.minus else ""
    return f"{quantity.strategy} {quantity.quantity}{less}"


def _target(side: str, target: float) -> str:
    words = {"near": "about", "at_least": "at least", "at_most": "at most"}
    return f"{words[side]} {target:g}"


def _number(value: float) -> str:
    return f"{value:.3g}" if isfinite(value) else "none"


def _tolerances(value: float) -> str:
    return f"{value:.2f}" if isfinite(value) else "no value"


def _pairs(file: FactsFile, samples: Sequence[Sample]) -> Figure:
    """Draw, for every pair of facts, the least distance at which both hold."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    far = np.array([one.distances for one in samples])
    names = [fact.name for fact in file.facts]
    least = np.array([[far[:, (a, b)].max(axis=1).min() for b in range(len(names))]
                      for a in range(len(names))])  # fmt: skip
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.add_subplot()
        image = axes.imshow(np.minimum(least, FAR), cmap="Blues", vmin=0, vmax=FAR)
        for a, b in np.ndindex(least.shape):
            value = float(least[a, b])
            dark = value > FAR / 2
            text = f"{value:.1f}" if isfinite(value) else "-"
            weight = "bold" if value > 1 else "normal"
            axes.text(b, a, text, ha="center", va="center", fontsize=7, weight=weight,
                      color="white" if dark else "#222222")  # fmt: skip
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0)
        figure.colorbar(image, ax=axes, label="least distance of the pair (tolerances)", shrink=0.8)
    return figure


def _ranges(file: FactsFile, found: Found) -> Figure:
    """Draw the factors of the accepted worlds, set by set."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    keys = list(file.scale)
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.34 * len(keys) + 1.1), layout="constrained")
        axes = figure.add_subplot()
        shown = found.accepted[: len(COLOURS)]
        for k, one in enumerate(shown):
            at = np.arange(len(keys)) + (k - (len(shown) - 1) / 2) * 0.7 / max(1, len(shown))
            low, median, high = np.array([one.ranges[key] for key in keys]).T
            axes.hlines(at, low, high, color=COLOURS[k], lw=2, label=f"set {k + 1}")
            axes.plot(median, at, "|", color=COLOURS[k], ms=6, mew=1.5)
            nearest = [one.nearest.world.scale[key] for key in keys]
            axes.plot(nearest, at, "o", color=COLOURS[k], ms=3)
        axes.axvline(1, color="#999999", lw=0.8, zorder=0)
        axes.set_xscale("log")
        axes.set_yticks(range(len(keys)), keys)
        axes.invert_yaxis()
        axes.set_xlabel(f"factor on {file.profile} (range, median |, nearest world •)")
        if shown:
            axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _facts(file: FactsFile, samples: Sequence[Sample]) -> Figure:
    """Draw where the simulated values of every fact lie around its target, in tolerances."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.32 * len(file.facts) + 1.0), layout="constrained")
        axes = figure.add_subplot()
        rng = np.random.default_rng(0)
        for k, fact in enumerate(file.facts):
            values = np.array([value_of(fact, one.figures) for one in samples])
            off = np.clip((values - fact.target) / fact.tolerance, -12, 12)
            off = off[np.isfinite(off)]
            low = -12.0 if fact.side == "at_most" else -1.0
            high = 12.0 if fact.side == "at_least" else 1.0
            axes.fill_betweenx((k - 0.4, k + 0.4), low, high, color="#dce7f3", lw=0)
            axes.plot(off, k + rng.uniform(-0.3, 0.3, len(off)), ".", ms=1.2, color="#3568a8",
                      alpha=0.5, rasterized=True)  # fmt: skip
        axes.set_yticks(range(len(file.facts)), [fact.name for fact in file.facts])
        axes.invert_yaxis()
        axes.set_xlim(-12.5, 12.5)
        axes.set_xlabel("distance from the reported value (tolerances; beyond 12 at the edge)")
    return figure


def _svg(figure: Figure) -> str:
    from matplotlib import rc_context

    with rc_context(STYLE):
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None}, dpi=150)
    content = text.getvalue()
    return content[content.index("<svg") :]
