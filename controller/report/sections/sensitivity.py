"""Section "Does the ranking hold?": the strategies ranked anew on every other setting."""

from __future__ import annotations

from collections import Counter

from controller.report.analysis.data import Data
from controller.report.analysis.ranking import CHANGES, HOLDS, WITHIN_NOISE, Variation, vary
from controller.report.structure import Section
from controller.report.table import Cell, Column, Row, Table, frame_of, words
from controller.report.text import NONE, counted


def sensitivity(data: Data) -> Table | None:
    """Tabulate the ranking on every other setting, and whether it is the nominal one."""
    variations, nominal = vary(data), data.ranking()
    if not variations or len(nominal) < 2:
        return None
    verdicts = Counter(v.verdict for v in variations)
    firsts = sum(v.ranking[:1] == nominal[:1] for v in variations)
    places = {f"rank_{s}": place for place, s in enumerate(nominal, 1)}
    rows = [
        {
            **{axis: v.setting.value(axis) for axis in data.varying},
            "kendall_tau": v.tau,
            "verdict": v.verdict,
            **{f"rank_{s}": v.ranking.index(s) + 1 if s in v.ranking else None for s in nominal},
        }
        for v in variations
    ]
    labels = ["nominal: " + data.nominal.label(data.varying),
              *(v.setting.label(data.varying, data.nominal) for v in variations)]  # fmt: skip
    shown = [{"kendall_tau": 1.0, "swaps": "", **places}]
    shown += [{**row, "swaps": _swaps(v)} for row, v in zip(rows, variations, strict=True)]

    def rank(row: Row, key: str) -> Cell:
        place = row[key] or 0
        return Cell(str(place or NONE), place, kind="moved" if place != places[key] else "")

    return Table(
        name="sensitivity",
        caption="Rank by mean objective on every setting. "
        f"Of {counted(len(variations), 'variation')} the nominal "
        f"ranking holds on {verdicts[HOLDS]}, swaps within noise on "
        f"{verdicts[WITHIN_NOISE]} and changes on {verdicts[CHANGES]}. {nominal[0]} is first on "
        f"{firsts} of them.",
        frame=frame_of(rows),
        shown=frame_of(
            {"setting": label, "swaps": row["swaps"], "kendall_tau": row["kendall_tau"],
             **{key: row[key] for key in places}}
            for label, row in zip(labels, shown, strict=True)
        ),
        columns=(
            Column("setting", "Setting", numeric=False),
            *(Column(f"rank_{s}", s, rank) for s in nominal),
            Column("kendall_tau", "Kendall's τ", _tau,
                   "1: the same order as nominal, -1: reversed"),
            Column("swaps", "Ranking", words("words"), numeric=False),
        ),
        notes=(
            "Two strategies have changed places only where the interval of their paired "
            "difference excludes 0 both before and after, at 95 % over all swaps together; any "
            "other swap is within noise, which with few seeds is wide.",
        ),
    )  # fmt: skip


def _tau(row: Row, key: str) -> Cell:
    tau = row[key]
    return Cell(NONE if tau != tau else f"{tau:.2f}", tau)


def _swaps(variation: Variation) -> str:
    swaps = variation.clear_swaps or variation.swaps
    passes = ", ".join(f"{now} passes {was}" for was, now in swaps[:3])
    more = f" and {len(swaps) - 3} more" if len(swaps) > 3 else ""
    return f"{variation.verdict}: {passes}{more}" if swaps else variation.verdict


SECTION = Section(
    "sensitivity", "Does the ranking hold?", tables=(sensitivity,), words="sensitivity.html.j2"
)
