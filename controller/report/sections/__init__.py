"""Sections of the page in its order. A section's module holds its figures and tables."""

from controller.report.sections import (
    adaptation,
    agents,
    beside_the_paper,
    bound,
    decisions,
    lms,
    load,
    objective,
    over_time,
    plan_followed,
    planner,
    runs,
    sensitivity,
    significance,
    sources,
    tradeoff,
)

SECTIONS = (
    objective.SECTION,
    significance.SECTION,
    tradeoff.SECTION,
    lms.SECTION,
    beside_the_paper.SECTION,
    over_time.SECTION,
    adaptation.SECTION,
    agents.SECTION,
    plan_followed.SECTION,
    planner.SECTION,
    load.SECTION,
    bound.SECTION,
    sensitivity.SECTION,
    decisions.SECTION,
    sources.SECTION,
    runs.SECTION,
)
