"""From sections to HTML. Everything is escaped: names, replies and errors can hold anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.report import reasoners, style, wording
from controller.report.context import Context
from controller.report.formats import percent
from controller.report.planning import Planning
from controller.report.sections import Section
from controller.report.study import Study

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def make_environment() -> Environment:
    """The report's templates."""
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
    environment.filters["percent"] = percent
    return environment


class PlanningRenderer:
    """Renders one decision of a planner."""

    def __init__(self, environment: Environment) -> None:
        self._module = environment.get_template("browser.html.j2").make_module()

    def __call__(self, strategy: str, planning: Planning) -> Markup:
        part: Markup = self._module.epoch(strategy, planning)  # type: ignore[attr-defined]
        return part


def render_page(
    environment: Environment,
    study: Study,
    context: Context,
    sections: list[Section],
    problems: tuple[str, ...],
    warnings: tuple[str, ...],
) -> str:
    """The whole page."""
    looks = style.looks(study.strategies)
    tints = style.tints()
    return environment.get_template("index.html.j2").render(
        campaign=study.campaign,
        headline=wording.headline(study),
        progress=wording.progress(study),
        warnings=warnings,
        caveat=wording.caveat(study),
        reasoned=reasoners.beside(study, study.present()),
        best=next(iter(study.ranking()), ""),
        tiles=wording.tiles(study),
        facts=wording.facts(study, context),
        estimates=wording.estimates(context),
        missing=(*wording.missing(study), *problems),
        sections=sections,
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
