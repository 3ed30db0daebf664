"""What services render is what a parser reads, for any label text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.telemetry import names
from controller.telemetry.exposition import Exposition, parse, problems
from controller.telemetry.names import Emitter


def test_a_new_service_exposes_its_unlabelled_series_as_zero() -> None:
    samples = parse(Exposition(Emitter.NODE).render())
    assert {one.name for one in samples} == {
        one.name for one in names.of(Emitter.NODE) if one.always
    }
    assert {one.value for one in samples} == {0}


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1))
def test_label_values_come_back(text: str) -> None:
    exposition = Exposition(Emitter.NODE)
    exposition.add(names.NODE_REQUESTS, 2, lm=text, outcome="done")
    exposition.add(names.NODE_REQUESTS, lm=text, outcome="done")
    found = [one for one in parse(exposition.render()) if one.name == names.NODE_REQUESTS.name]
    assert [(one.label("lm"), one.label("outcome"), one.value) for one in found] == [
        (text, "done", 3)
    ]


@given(st.lists(st.floats(0, 2000), max_size=20))
def test_a_histogram_counts_what_is_at_most_each_bound(values: list[float]) -> None:
    exposition = Exposition(Emitter.NODE)
    for value in values:
        exposition.observe(names.NODE_REQUEST_PARTS, value, lm="LM1", part="queue")
    samples = parse(exposition.render())
    rows = [one for one in samples if one.name.endswith("part_seconds_bucket")]
    for row in rows:
        assert row.value == sum(value <= float(row.label("le")) for value in values)
    assert len(rows) == (len(names.NODE_REQUEST_PARTS.buckets) + 1 if values else 0)
    totals = {
        one.name.rsplit("_", 1)[1]: one.value for one in samples if "part_seconds" in one.name
    }
    if values:
        assert totals["count"] == len(values)
        assert math.isclose(totals["sum"], sum(values), abs_tol=1e-9)


def test_a_full_service_agrees_with_the_table() -> None:
    exposition = Exposition(Emitter.CONTROLLER)
    exposition.set(names.CONTROLLER_SLOT, 12)
    exposition.add(names.DECISIONS, tier="planner", outcome="ok")
    exposition.observe(names.DECISION_SECONDS, 0.2, tier="planner")
    exposition.add(names.SCRAPES, target="n1", exporter="dcgm", outcome="failed")
    assert problems(exposition.render(), Emitter.CONTROLLER) == []


def test_series_of_what_is_gone_disappear() -> None:
    exposition = Exposition(Emitter.NODE)
    exposition.set_all(names.POD_GPU_BUSY, [({"gpu": "a", "pod": "x"}, 0.5)])
    exposition.set_all(names.POD_GPU_BUSY, [({"gpu": "a", "pod": "y"}, 0.25)])
    found = [one for one in parse(exposition.render()) if one.name == names.POD_GPU_BUSY.name]
    assert [(one.label("pod"), one.value) for one in found] == [("y", 0.25)]


def test_values_keep_their_digits() -> None:
    exposition = Exposition(Emitter.NODE)
    for value in (1234567890.125, 2.0**60, 1e-9, math.inf):
        exposition.set(names.NODE_QUEUE_BYTES, value)
        [found] = [
            one for one in parse(exposition.render()) if one.name == names.NODE_QUEUE_BYTES.name
        ]
        assert found.value == value


def test_what_the_table_does_not_know_is_refused() -> None:
    exposition = Exposition(Emitter.NODE)
    with pytest.raises(ValueError, match="not a metric of edgelm node"):
        exposition.set(names.CONTROLLER_SLOT, 1)
    with pytest.raises(ValueError, match="is a counter, not a gauge"):
        exposition.set(names.NODE_SENT_BYTES, 1)
    with pytest.raises(ValueError, match="has labels"):
        exposition.add(names.NODE_REQUESTS, lm="LM1", pid="7")
    with pytest.raises(ValueError, match="cannot change by -1"):
        exposition.add(names.NODE_SENT_BYTES, -1)
