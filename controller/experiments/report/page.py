"""Writes CAMPAIGN/report: index.html, figures/ in three formats, tables/ as CSV."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controller.experiments.report import evidence, ledger, reasoners, sheets, style, wording
from controller.experiments.report.context import Context, describe
from controller.experiments.report.plates import Plate
from controller.experiments.report.reading import read_campaign
from controller.experiments.report.sheets import Sheet
from controller.experiments.report.study import Study, study_campaign

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure on the page."""

    name: str
    title: str
    caption: str
    svg: str
    wide: bool


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page. ``folded`` starts closed."""

    name: str
    title: str
    words: str = ""
    pictures: tuple[Picture, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    folded: bool = False


def write_report(campaign_dir: Path) -> Path:
    """Write the report of whatever the campaign has finished; returns the page.

    An old report in the folder is replaced.

    Raises:
        InputError: ``campaign_dir`` is no campaign folder.
        OSError: the report cannot be written.
    """
    study = study_campaign(read_campaign(campaign_dir))
    context = describe(study)
    target = campaign_dir / "report"
    for name in ("figures", "tables"):
        shutil.rmtree(target / name, ignore_errors=True)
        (target / name).mkdir(parents=True)
    plates, problems = _draw(study)
    pictures = _save_plates(study, plates, target)
    tables = _tabulate(study, context)
    _save_tables(tables.values(), target)
    page = target / "index.html"
    page.write_text(_render(study, context, pictures, tables, problems), "utf-8")
    return page


def _draw(study: Study) -> tuple[list[Plate], tuple[str, ...]]:
    """All plates there is data for, and what could not be read."""
    import matplotlib as mpl

    from controller.experiments.report.figures import (
        epochs,
        gap,
        latency,
        load,
        nodes,
        objective,
        per_lm,
        tradeoff,
    )
    from controller.experiments.report.gap import measure_gaps
    from controller.experiments.report.outcomes import read_outcomes

    outcomes = read_outcomes(study)
    seed, shown, unread = nodes.read_shown(study)
    with mpl.rc_context(style.RC):
        drawn = [
            objective.draw_objective(study),
            objective.draw_bound_ratio(study),
            tradeoff.draw_tradeoff(study),
            per_lm.draw_per_lm(study),
            latency.draw_distributions(study, outcomes),
            per_lm.draw_components(study, outcomes),
            latency.draw_failures(study, outcomes),
            epochs.draw_epochs(study),
            nodes.draw_backlog(study, shown, seed),
            nodes.draw_activation(study, shown, seed),
            load.draw_load(study),
            gap.draw_gaps(study, measure_gaps(study)),
        ]
    return [plate for plate in drawn if plate], (*outcomes.problems.values(), *unread)


def _save_plates(study: Study, plates: Sequence[Plate], target: Path) -> dict[str, Picture]:
    import matplotlib as mpl

    from controller.experiments.report.export import save_plate, save_table

    pictures = {}
    with mpl.rc_context(style.RC):
        for plate in plates:
            svg = save_plate(plate, target / "figures")
            save_table(plate.data, target / "tables" / f"{plate.name}.csv")
            reasoned = reasoners.beside(study, reasoners.named_in(study, plate.data))
            caption = f"{plate.caption} {reasoned}".strip()
            pictures[plate.name] = Picture(plate.name, plate.title, caption, svg, plate.wide)
    return pictures


def _tabulate(study: Study, context: Context) -> dict[str, Sheet]:
    found = [
        sheets.summarise_strategies(study),
        evidence.weigh_significance(study),
        evidence.compare_published(study),
        evidence.rank_settings(study),
        ledger.count_decisions(study),
        ledger.list_sources(context),
        ledger.list_runs(study),
    ]
    return {sheet.name: _with_reasoners(study, sheet) for sheet in found if sheet}


def _with_reasoners(study: Study, sheet: Sheet) -> Sheet:
    """A note under every table that shows strategies with agents."""
    shown = [row.strategy for row in sheet.rows if row.strategy]
    words = reasoners.beside(study, [s for s in study.strategies if s in shown])
    return replace(sheet, notes=(*sheet.notes, words)) if words else sheet


def _save_tables(tables: Any, target: Path) -> None:
    from controller.experiments.report.export import save_table

    for sheet in tables:
        save_table(sheet.data, target / "tables" / f"{sheet.name}.csv")


def _sections(
    study: Study, pictures: dict[str, Picture], tables: dict[str, Sheet]
) -> list[Section]:
    """The page's order; what there is nothing for is left out."""

    def part(name: str, title: str, words: str, *names: str, folded: bool = False) -> Section:
        return Section(
            name,
            title,
            words,
            tuple(pictures[n] for n in names if n in pictures),
            tuple(tables[n] for n in names if n in tables),
            folded,
        )

    whole = [
        part("results", "Results", "", "summary", "objective", "bound-ratio"),
        part("significance", "Is the difference real?", wording.evidence(study), "significance"),
        part("tradeoff", "Latency against fairness", "", "fig5-latency-fairness"),
        part("lms", "LM by LM", "", "fig6-per-lm", "latency-cdf", "where-time-goes", "failures"),
        part("published", "Beside the paper", "", "published"),
        part("time", "Over time", "", "fig7-epochs", "backlog", "activation"),
        part("load", "Over load", "", "load-sweep"),
        part("bound", "Up to the bound", "", "gap"),
        part("sensitivity", "Does the ranking hold?", _VARY, "sensitivity"),
        part("decisions", "Decisions", "", "decisions", folded=not study.agents()),
        part("sources", "Sources of the numbers", "", "sources", folded=True),
        part("runs", "Runs", "", "runs", folded=True),
    ]
    return [section for section in whole if section.pictures or section.sheets]


_VARY = (
    "Some inputs are estimates, and load is whatever users bring. Here strategies are run again "
    "with other values of them and ranked anew."
)


def _render(
    study: Study,
    context: Context,
    pictures: dict[str, Picture],
    tables: dict[str, Sheet],
    problems: tuple[str, ...],
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from controller.inputs.catalog import template_dir

    environment = Environment(
        loader=FileSystemLoader(template_dir() / "report"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["rich"] = _rich
    looks = style.looks(study.strategies)
    tints = style.tints()
    return environment.get_template("index.html.j2").render(
        campaign=study.campaign,
        headline=wording.headline(study),
        progress=wording.progress(study),
        caveat=wording.caveat(study),
        reasoned=reasoners.beside(study, study.agents()),
        best=next(iter(study.ranking()), ""),
        tiles=wording.tiles(study),
        facts=wording.facts(study, context),
        estimates=wording.estimates(context),
        missing=(*wording.missing(study), *problems),
        sections=_sections(study, pictures, tables),
        strategies=[
            (k, name, tints[looks[name].colour][0])
            for k, name in enumerate(study.strategies)
            if name in study.present()
        ],
        index={name: k for k, name in enumerate(study.strategies)},
        tints=tints,
    )


def _rich(text: str) -> Markup:
    """Escaped text with the subscript of F_norm."""
    from markupsafe import Markup, escape

    return Markup(str(escape(text)).replace("F_norm", "<i>F</i><sub>norm</sub>"))  # noqa: S704
