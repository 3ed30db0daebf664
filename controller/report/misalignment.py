"""Does MAL do here what the paper says of it, and why? In words that follow from the numbers."""

from __future__ import annotations

from math import isnan
from typing import Final

from controller.report.agents import over_seeds
from controller.report.crew import Crew
from controller.report.formats import listed, percent, significant
from controller.report.study import Study
from controller.results.statistics import mean_interval

MAL: Final = "MAL"
RIVALS: Final = ("RL", "MA")  # its deployer without its planner; its planner without its deployer
CLOSE: Final = 1.1  # factors below this are called the same
TINY: Final = 0.001


def weigh_misalignment(study: Study, crew: Crew) -> str:
    """What the table of alignment means for MAL; the table's plain purpose without it."""
    if MAL not in crew.alignments:
        return (
            "A policy is worth something if requests go where it means them to and pods are ready "
            "where it expects them."
        )
    text = (
        "The paper finds MAL less fair than RL and explains it by misalignment: requests follow a "
        "policy that deployment ignores."
    )
    return " ".join([text, *_fairness(study), *_why(crew)])


def _fairness(study: Study) -> list[str]:
    sentences = []
    for rival in RIVALS:
        ours, theirs = study.paired("f_norm", MAL, rival)
        gap = mean_interval(ours - theirs)
        if not gap.n:
            continue
        figures = f"F_norm {ours.mean():.3f} against {theirs.mean():.3f}"
        if isnan(gap.low):
            verdict = "one seed cannot say whether it is less fair than"
        elif gap.high < 0:
            verdict = "it is less fair than"
        elif gap.low > 0:
            verdict = "it is fairer than"
        else:
            verdict = "it cannot be told to be less fair than"
        sentences.append(f"Here {verdict} {rival} ({figures}).")
    latency = [_latency(study, rival) for rival in RIVALS if study.finished(rival)]
    if study.finished(MAL) and latency:
        mean = significant(study.interval("t_mean_s", MAL).mean)
        sentences.append(f"Its mean latency is {mean} s, {listed(latency)}.")
    return sentences


def _latency(study: Study, rival: str) -> str:
    return f"{rival}'s {significant(study.interval('t_mean_s', rival).mean)} s"


def _why(crew: Crew) -> list[str]:
    """MAL beside the best-aligned strategy with a policy, MA if it was run."""
    others = [s for s in crew.alignments if s != MAL]
    mine = {f: over_seeds(crew.alignments[MAL], f).mean for f in _SAID}
    if not others:
        return [f"Of MAL's requests {percent(mine['no_pod'])} met no ready pod."]
    other = "MA" if "MA" in others else others[0]
    theirs = {f: over_seeds(crew.alignments[other], f).mean for f in _SAID}
    parts = [
        f"{words} ({percent(mine[f])} against {percent(theirs[f])})"
        for f, words in _SAID.items()
        if _more(mine[f], theirs[f])
    ]
    if not parts:
        return [f"Its pods follow the policy as closely as {other}'s, so misalignment is no cause."]
    return [
        f"Misaligned it is: compared with {other}, {listed(parts)}.",
        *([] if mine["off_role"] > TINY else
          ["Requests themselves stay within the roles: it is deployment that departs."]),
    ]  # fmt: skip


_SAID: Final = {
    "no_pod": "more of its requests meet no ready pod",
    "plan_uncovered": "more of its planned shares are at nodes without a pod",
    "pods_off_role": "more of its pods are off role",
    "off_role": "more of its requests are off role",
}


def _more(mine: float, theirs: float) -> bool:
    """Noticeably more; NaN is not."""
    return mine - theirs > TINY and mine > CLOSE * theirs
