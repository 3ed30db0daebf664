"""Templates of the page. Everything is escaped: names, replies and errors can hold anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from controller.inputs.shipped import html_templates
from controller.report.text import counted, known, listed, percent, ranges, significant

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def make_environment() -> Environment:
    """Return the templates of templates/report/ with the page's filters."""
    environment = html_templates("report")
    environment.filters |= {
        "rich": _rich,
        "percent": percent,
        "significant": significant,
        "counted": counted,
        "ranges": ranges,
        "listed": listed,
        "known": known,
    }
    return environment


def make_renderer() -> Callable[..., Markup]:
    """Return a function that renders a template with its view."""
    from markupsafe import Markup

    environment = make_environment()

    def render(template: str, view: object) -> Markup:
        text = environment.get_template(template).render(view=view)
        return Markup(text.strip())  # noqa: S704 (escaped by the template)

    return render


def _rich(text: str) -> Markup:
    """Escape a text and set the subscript of F_norm."""
    from markupsafe import Markup, escape

    return Markup(str(escape(text)).replace("F_norm", "<i>F</i><sub>norm</sub>"))  # noqa: S704
