"""A section of the page: its tables and figures, and the words above them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.report.analysis.data import Data
from controller.report.figure import Figure
from controller.report.table import Table

if TYPE_CHECKING:
    from markupsafe import Markup

Render = Callable[..., "Markup"]  # (template, view) -> HTML


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page; it is left out where none of its functions returns anything.

    ``words``: the template above the tables, which is given what ``view`` returns. ``blocks``:
    ready-made parts of the page, for what is neither table nor figure. ``folded`` starts closed.
    """

    name: str
    title: str
    tables: tuple[Callable[[Data], Table | None], ...] = ()
    figures: tuple[Callable[[Data], Figure | None], ...] = ()
    blocks: Callable[[Data, Render], list[Markup]] | None = None
    words: str = ""
    view: Callable[[Data], object] | None = None
    folded: bool = False
