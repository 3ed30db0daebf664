"""The order of the page: which figures and tables stand together, under which words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.report import wording
from controller.report.adaptation import LEVEL_EPOCHS, MARGIN
from controller.report.browser import Story
from controller.report.crew import Crew
from controller.report.formats import percent
from controller.report.misalignment import weigh_misalignment
from controller.report.sheets import Sheet
from controller.report.study import Study


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
    stories: tuple[Story, ...] = ()


def arrange(
    study: Study,
    crew: Crew,
    pictures: Mapping[str, Picture],
    tables: Mapping[str, Sheet],
    stories: tuple[Story, ...],
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
        part("adaptation", "After a change", _ADAPT, "after-changes", "adaptation"),
        part("agents", "Agents", _AGENTS, "agents", "advice", "guard", "agent-outcomes",
             "agent-tokens", "fault-rates"),
        part("alignment", "Does the cluster follow the plan?", weigh_misalignment(study, crew),
             "alignment"),
        Section("planner", "The planner, epoch by epoch", _STORIES, stories=stories),
        part("load", "Over load", "", "load-sweep"),
        part("bound", "Up to the bound", "", "gap"),
        part("sensitivity", "Does the ranking hold?", _VARY, "sensitivity"),
        part("decisions", "Decisions", "", "decisions", folded=True),
        part("sources", "Sources of the numbers", "", "sources", folded=True),
        part("runs", "Runs", "", "runs", folded=True),
    ]  # fmt: skip
    return [s for s in whole if s.pictures or s.sheets or s.stories]


_AGENTS = (
    "An agent describes what there is to a reasoner, a language model or an optimiser in its "
    "stead, and takes the reply for its decision. Once an epoch "
    "the planner says which LMs each node is for and what share of their requests it should get; "
    "once a slot the scheduler says where the requests born at each node go, and the deployer of "
    "each node which pods run there. In MA all three are agents; in MAL planner and scheduler are, "
    "and an algorithm (Lyapunov, as in AL, RL and LL) deploys. "
    "Every decision of an agent is a call that must come back within the slot and satisfy every "
    "constraint; else it is repaired once, and then a rule decides. Thinking time is charged."
)
_STORIES = (
    "One run of each strategy with agents. Open an epoch to see what its planner was told, what it "
    "answered, how that came about and what it was good for; the arrow keys go on and back. "
    "Here epochs count from 1 as in the figures; what is said to agents counts them from 0."
)
_ADAPT = (
    f"The load's mix changes, or a node goes and returns. A strategy is back when an epoch's "
    f"objective is at most {percent(MARGIN)} above its level before the change, the mean of the "
    f"up to {LEVEL_EPOCHS} epochs before."
)
_VARY = (
    "Some inputs are estimates, and load is whatever users bring. Here strategies are run again "
    "with other values of them and ranked anew."
)
