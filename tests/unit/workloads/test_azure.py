"""Import of the Azure trace, on an excerpt of it (tests/data/traces/README.md)."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from controller.domain.errors import InputError
from controller.workloads.importers import import_azure
from controller.workloads.trace import read_trace, write_trace


@pytest.fixture(scope="module")
def excerpt(traces):
    return traces / "azure_llm_2023_conv.csv"


@pytest.fixture(scope="module")
def tokens(excerpt):
    with excerpt.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array([[int(r["ContextTokens"]), int(r["GeneratedTokens"])] for r in rows]).T


def test_every_row_becomes_a_request_clipped_by_one_rule(excerpt, tokens):
    trace = import_azure(excerpt)
    context, generated = tokens
    assert len(trace) == 200
    outputs = np.minimum(generated, 512)
    inputs = np.minimum(context, 1024 - outputs)
    assert trace.sizes["output_tokens"].tolist() == outputs.tolist()
    assert trace.sizes["input_tokens"].tolist() == inputs.tolist()
    assert trace.lm.tolist() == np.where(context <= 1024, "LM1", "LM2").tolist()
    assert set(trace.prompts.tolist()) == {1}
    assert trace.born_s[:3] == pytest.approx([0, 4.314579, 4.541877], abs=1e-9)
    counts = trace.sources[0]["counts"]
    assert counts["clipped_input"] == int((inputs < context).sum()) > 50
    assert counts["clipped_output"] == int((outputs < generated).sum()) > 0
    assert trace.sources[0]["licence"] == "CC-BY-4.0"
    assert "min(output, 512)" in trace.sources[0]["rules"]["clipping"]


def test_times_are_cut_stretched_and_thinned(excerpt):
    whole = import_azure(excerpt)
    end_s = whole.duration_s
    later = import_azure(excerpt, start_s=10, end_s=40, stretch=3)
    inside = whole.born_s[(whole.born_s >= 10) & (whole.born_s <= 40)]
    assert later.born_s == pytest.approx((inside - 10) * 3)
    assert later.duration_s == 90
    rates = [len(import_azure(excerpt, rate=1.5, seed=s)) / end_s for s in range(40)]
    assert np.mean(rates) == pytest.approx(1.5, rel=0.08)
    one, other = import_azure(excerpt, rate=1.5), import_azure(excerpt, rate=1.5)
    assert one.born_s.tolist() == other.born_s.tolist()
    assert set(one.born_s.tolist()) < set(whole.born_s.tolist())
    with pytest.raises(InputError, match=r"requests per second \(got 50\)"):
        import_azure(excerpt, rate=50)


def test_a_share_becomes_requests_for_images(excerpt, tokens):
    trace = import_azure(excerpt, image_share=0.3, image_prompts=4, image_lm="SD", lms=["GPT"])
    image = trace.lm == "SD"
    assert abs(image.sum() - 60) < 4 * np.sqrt(200 * 0.3 * 0.7)
    assert set(trace.prompts[image].tolist()) == {4}
    assert set(trace.sizes["output_megapixels"][image].tolist()) == {0.262144}
    assert trace.sizes["input_tokens"][image].tolist() == np.minimum(tokens[0], 77)[image].tolist()
    assert set(trace.lm[~image].tolist()) == {"GPT"}
    assert not trace.sizes["output_megapixels"][~image].any()
    assert trace.sources[0]["counts"]["images"] == image.sum()
    assert trace.sources[0]["options"]["image_share"] == 0.3


def test_provenance_survives_the_file(excerpt, tmp_path):
    trace = import_azure(excerpt, rate=2, lms=("LM1", "LM2"))
    write_trace(trace, tmp_path / "t.csv")
    assert read_trace(tmp_path / "t.csv").sources == trace.sources
    assert str(tmp_path) not in (tmp_path / "t.csv").read_text()


GOOD = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: column TIMESTAMP is missing"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\r\n", "has no requests"),
        ("TIMESTAMP,Context,GeneratedTokens\r\n", "no such column .got 'Context'."),
        (GOOD + "yesterday,1,1\r\n", "line 3: TIMESTAMP: is no time .got 'yesterday'.; such as"),
        (GOOD + ",1,1\r\n", "line 3: TIMESTAMP: is no time"),
        (GOOD + "\r\n2023-11-16 18:15:40,1,1\r\n", "line 4: TIMESTAMP: is before the row above"),
        (GOOD + "2023-11-16 18:16:00,-1,1\r\n", "line 3: ContextTokens: .*'-1'"),
        (GOOD + "2023-11-16 18:16:00,1,many\r\n", "line 3: GeneratedTokens: .*'many'"),
        (GOOD + "2023-11-16 18:16:00,1\r\n", "line 3: 2 cells instead of 3"),
        (GOOD, "all requests have one time, so that the trace lasts no time; give a trace"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(content, message, tmp_path):
    path = tmp_path / "azure.csv"
    path.write_text(content, newline="")
    with pytest.raises(InputError, match=r"azure\.csv.*" + message):
        import_azure(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stretch": 0}, "stretch: should be greater than or equal to 0.000000001"),
        ({"rate": float("nan")}, "rate: .*finite"),
        ({"rate": "fast"}, "rate: .*'fast'"),
        ({"start_s": -1}, "start_s: .*greater than or equal to 0"),
        ({"start_s": 9, "end_s": 9}, "end_s must lie after start_s"),
        ({"end_s": 4000}, "end_s: the trace ends at 61.2635 s .got 4000.0.; give a time before it"),
        ({"image_share": 1.1}, "image_share: .*less than or equal to 1"),
        ({"image_prompts": 0}, "image_prompts: .*greater than or equal to 1"),
        ({"image_prompts": 1.5}, "image_prompts: .*1.5"),
        ({"max_output_tokens": 1024}, "max_output_tokens must be below context_tokens"),
        ({"seed": -1}, "seed: .*greater than or equal to 0"),
        ({"lms": ()}, "lms: .*at least 1 item"),
        ({"lms": "A,B,C"}, "lms: .*at most 2 items"),
        ({"lms": "A,"}, r"lms\[1\]"),
    ],
)
def test_bad_options_are_refused(options, message, excerpt):
    with pytest.raises(InputError, match=message):
        import_azure(excerpt, **options)


def test_text_lms_can_be_given_as_one_text(excerpt):
    assert set(import_azure(excerpt, lms="A,B").lm.tolist()) == {"A", "B"}
