"""Writes CAMPAIGN/report: index.html, figures/ in three formats, tables/ as CSV."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller.report import evidence, ledger, reasoners, sheets, style
from controller.report.adaptation import find_changes, recoveries, tell_recoveries
from controller.report.advice import tell_advice
from controller.report.agents import tell_agents, tell_alignment, tell_guard
from controller.report.browser import tell_stories
from controller.report.context import Context, describe
from controller.report.crew import Crew, read_crew
from controller.report.plates import Plate
from controller.report.rendering import (
    PlanningRenderer,
    make_environment,
    render_page,
)
from controller.report.sections import Picture, arrange
from controller.report.sheets import Sheet
from controller.report.shortfall import warn
from controller.report.study import Study, study_campaign
from controller.results.campaign import read_campaign


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
    crew = read_crew(study)
    plates, unread = _draw(study, crew)
    pictures = _save_plates(study, plates, target)
    tables = _tabulate(study, context, crew)
    _save_tables(tables.values(), target)
    environment = make_environment()
    stories, untold = tell_stories(study, crew, PlanningRenderer(environment))
    sections = arrange(study, crew, pictures, tables, tuple(stories))
    problems = (*unread, *crew.problems, *untold)
    page = target / "index.html"
    page.write_text(
        render_page(environment, study, context, sections, problems, warn(study, crew)), "utf-8"
    )
    return page


def _draw(study: Study, crew: Crew) -> tuple[list[Plate], tuple[str, ...]]:
    """All plates there is data for, and what could not be read."""
    import matplotlib as mpl

    from controller.report.figures import (
        adaptation,
        agents,
        epochs,
        fault_rates,
        gap,
        latency,
        load,
        nodes,
        objective,
        per_lm,
        tradeoff,
    )
    from controller.report.gap import measure_gaps
    from controller.report.outcomes import read_outcomes

    outcomes = read_outcomes(study)
    seed, shown, unread = nodes.read_shown(study)
    setting, changes = find_changes(study)
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
            adaptation.draw_adaptation(
                study, setting, changes, recoveries(study, setting, changes)
            ),
            agents.draw_outcomes(study, crew),
            agents.draw_tokens(study, crew),
            fault_rates.draw_fault_rates(study),
            load.draw_load(study),
            gap.draw_gaps(study, measure_gaps(study)),
        ]
    return [plate for plate in drawn if plate], (*outcomes.problems.values(), *unread)


def _save_plates(study: Study, plates: Sequence[Plate], target: Path) -> dict[str, Picture]:
    import matplotlib as mpl

    from controller.report.export import save_plate, save_table

    pictures = {}
    with mpl.rc_context(style.RC):
        for plate in plates:
            svg = save_plate(plate, target / "figures")
            save_table(plate.data, target / "tables" / f"{plate.name}.csv")
            reasoned = reasoners.beside(study, reasoners.named_in(study, plate.data))
            caption = f"{plate.caption} {reasoned}".strip()
            pictures[plate.name] = Picture(plate.name, plate.title, caption, svg, plate.wide)
    return pictures


def _tabulate(study: Study, context: Context, crew: Crew) -> dict[str, Sheet]:
    found = [
        sheets.summarise_strategies(study),
        evidence.weigh_significance(study),
        evidence.compare_published(study),
        evidence.rank_settings(study),
        tell_recoveries(recoveries(study, *find_changes(study))),
        tell_agents(study, crew),
        tell_advice(study, crew),
        tell_guard(crew),
        tell_alignment(study, crew),
        ledger.count_decisions(study),
        ledger.list_sources(context),
        ledger.list_runs(study),
    ]
    return {sheet.name: _with_reasoners(study, sheet) for sheet in found if sheet}


def _with_reasoners(study: Study, sheet: Sheet) -> Sheet:
    """A note under every table that shows strategies with agents."""
    shown = {head.text for head in sheet.heads} | {str(v) for r in sheet.data.rows for v in r}
    words = reasoners.beside(study, [s for s in study.strategies if s in shown])
    return replace(sheet, notes=(*sheet.notes, words)) if words else sheet


def _save_tables(tables: Any, target: Path) -> None:
    from controller.report.export import save_table

    for sheet in tables:
        save_table(sheet.data, target / "tables" / f"{sheet.name}.csv")
