"""When the world changes, and how soon the objective is back."""

import json
from pathlib import Path

import matplotlib as mpl
import pytest

from controller.report.analysis.data import Data, analyse
from controller.report.analysis.recovery import Change, changes_of, find_changes, recoveries
from controller.report.sections.adaptation import draw_changes, tabulate_recoveries
from controller.report.sections.agents import fault_rates
from controller.results.campaign import Campaign
from controller.results.run import Run, Setting
from tests.unit.report.campaigns import NOMINAL, summary

PHASES = [{"epochs": 2}, {"epochs": 1, "weights": {"LM1": 2}}, {"epochs": 1, "weights": {"LM1": 2}}]


def experiment(epochs=10, process=None, outages=()) -> dict:
    return {
        "epochs": epochs, "slot_s": 30.0, "epoch_slots": 50,
        "workload": {"name": "w", "summary": "W.", "process": process or {"kind": "paper"}},
        "faults": {"outages": list(outages)},
    }  # fmt: skip


def found(**given) -> list[tuple[int, str]]:
    return [(change.epoch, change.words) for change in changes_of(experiment(**given))]


def test_a_phase_that_differs_from_the_one_before_is_a_change():
    once = {"kind": "phases", "phases": PHASES, "after": "hold", "inner": {"kind": "paper"}}
    assert found(process=once) == [(2, "mix 2")]
    again = {"kind": "phases", "phases": PHASES, "after": "repeat", "inner": {"kind": "paper"}}
    assert found(process=again) == [(2, "mix 2"), (4, "mix 1"), (6, "mix 2"), (8, "mix 1")]


def test_an_outage_is_two_changes_unless_it_is_within_an_epoch():
    assert found(outages=[{"node": "vm7", "down_s": 3100, "up_s": 6000}]) == [
        (2, "vm7 down"), (4, "vm7 back"),
    ]  # fmt: skip
    assert found(outages=[{"node": "vm7", "down_s": 3100, "up_s": 3200}]) == [
        (2, "vm7 down, vm7 back")
    ]
    assert found(outages=[{"node": "vm7", "down_s": 1, "up_s": None}]) == [(0, "vm7 down")]
    assert found(outages=[{"node": "vm7", "down_s": 99999, "up_s": None}]) == []
    assert changes_of({}) == []


def study(**objectives: list[list[float]]) -> Data:
    runs = [
        Run(
            f"{name}-{seed}", name, seed, Setting(tuple(NOMINAL.items())), "done",
            summary(sum(values) / len(values), per_epoch=[{"objective": one} for one in values]),
        )
        for name, seeds in objectives.items()
        for seed, values in enumerate(seeds)
    ]  # fmt: skip
    return analyse(Campaign("made", "", Path("nowhere"), tuple(runs)))


CHANGES = (Change(2, 2.0, "mix 2"), Change(5, 5.5, "vm7 down"))


@pytest.mark.parametrize(
    ("objectives", "first", "second"),
    [
        ([1.0, 1.0, 3.0, 1.2, 1.1, 1.1, 1.1], 2, 0),  # 1.1 is within 10 % of 1
        ([1.0, 1.0, 1.0, 1.0, 1.0, 9.0, 9.0], 0, None),  # never back
        ([1.0, 1.0, 3.0, 3.0, 3.0, 1.0, 1.0], None, 0),  # back only after the next change
        ([1.0, 3.0, 2.1, 0.1, 0.1, 0.1, 9.0], 0, 0),  # level of the phase, not of the last epoch
    ],
)
def test_epochs_until_back(objectives, first, second):
    here = study(MA=[objectives])
    one, two = recoveries(here, here.nominal, CHANGES)
    assert one.epochs == (() if first is None else (first,))
    assert two.epochs == (() if second is None else (second,))
    assert one.runs == two.runs == 1


def test_at_most_five_epochs_make_the_level():
    values = [9.0] * 5 + [1.0] * 5 + [2.0, 1.0]
    here = study(MA=[values])
    (one,) = recoveries(here, here.nominal, (Change(10, 10.0, "mix 2"),))
    assert one.epochs == (1,)


def test_seeds_that_are_not_back_are_counted_apart():
    here = study(MA=[[1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 9.0, 9.0, 9.0, 1.0]])
    table = tabulate_recoveries(recoveries(here, here.nominal, CHANGES[:1]))
    assert table is not None
    ((_, cells),) = table.page_rows()
    assert cells[1].text == "1.5"
    never = study(MA=[[1.0, 1.0, 9.0]])
    table = tabulate_recoveries(recoveries(never, never.nominal, CHANGES[:1]))
    assert table is not None
    assert table.page_rows()[0][1][1].text == "not within the phase"


def test_what_builds_up_later_has_left_again():
    slow = study(MA=[[1.0, 1.0, 1.0, 5.0, 5.0], [1.0, 1.0, 5.0, 1.0, 1.05]])
    (one,) = recoveries(slow, slow.nominal, CHANGES[:1])
    assert one.epochs == (0, 1)
    assert one.left == 1
    table = tabulate_recoveries([one])
    assert table is not None
    assert table.page_rows()[0][1][1].small.endswith("1 of 2 left again")


def test_a_change_in_the_first_epoch_has_nothing_before_it():
    here = study(MA=[[1.0, 1.0]])
    assert recoveries(here, here.nominal, (Change(0, 0.1, "vm7 down"),)) == []
    assert tabulate_recoveries([]) is None
    assert find_changes(here) == (here.nominal, ())


def test_every_change_is_marked_in_the_figure():
    here = study(MA=[[1.0, 1.0, 3.0, 1.0, 1.0, 9.0, 9.0]], RL=[[9.0] * 7])
    with mpl.rc_context():
        figure = draw_changes(here, here.nominal, CHANGES)
    assert figure is not None
    texts = [text.get_text() for text in figure.drawing.axes[0].texts]
    assert texts == ["mix 2", "vm7 down"]
    assert figure.title.startswith(
        "MA has the lowest objective here and comes back to stay in 1 of 2"
    )
    assert draw_changes(here, here.nominal, ()) is None


def faulty(rates: dict[str, float]) -> Data:
    def files(name: str) -> dict[str, bytes]:
        spec = name[name.index(":") + 1 : -1] if ":" in name else ""
        reasoner = {"kind": "faulty" if spec else "reference", "faults": spec}
        experiment = {"strategy": "MA", "parameters": {}, "reasoner": reasoner}
        return {"experiment.json": json.dumps(experiment).encode()}

    runs = [
        Run(
            f"{name}-{seed}", name, seed, Setting(tuple(NOMINAL.items())), "done",
            summary(objective + seed / 100, reasoner="reference"), files=files(name),
        )
        for name, objective in rates.items()
        for seed in (0, 1)
    ]  # fmt: skip
    return analyse(Campaign("made", "", Path("nowhere"), tuple(runs)))


def test_the_objective_is_drawn_against_the_rate_of_faults():
    with mpl.rc_context():
        figure = fault_rates(
            faulty({"MA": 0.1, "MA (faulty:all=0.5)": 0.2, "MA (faulty:all=1.0)": 0.4})
        )
    assert figure is not None
    assert [(row[1], row[2]) for row in figure.frame.rows()] == [
        (0.0, "MA"), (0.5, "MA (faulty:all=0.5)"), (1.0, "MA (faulty:all=1.0)"),
    ]  # fmt: skip
    assert figure.title.startswith("With 50\u00a0% of replies spoilt the objective is 1.95 times")


def test_what_the_fallbacks_do_alone_is_a_level_and_no_point_of_another_mix():
    names = {"MA (reference)": 0.1, "MA (faulty:all=0.5)": 0.2, "MA (faulty:500=1)": 0.3}
    with mpl.rc_context():
        near = fault_rates(faulty(names))
        far = fault_rates(faulty({**names, "MA (faulty:500=1)": 9.0}))
    assert near is not None
    assert far is not None
    assert [row[1] for row in near.frame.rows()] == [0.0, 0.5]
    words = [figure.drawing.axes[0].texts[0].get_text() for figure in (near, far)]
    assert words == [
        "every reply spoilt (500): 0.305", "every reply spoilt (500): 9.00, off the scale",
    ]  # fmt: skip


def test_one_rate_is_no_curve():
    assert fault_rates(faulty({"MA (faulty:all=0.5)": 0.2})) is None
    assert fault_rates(faulty({"MA": 0.2})) is None
    mixed = {"MA (faulty:slow=0.5)": 0.2, "MA (faulty:empty=0.1)": 0.2}
    assert fault_rates(faulty(mixed)) is None
