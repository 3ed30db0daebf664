"""Import of ServeGen's client models, on three of its clients (tests/data/traces/README.md)."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from controller.domain.errors import InputError
from controller.workloads.histogram import read_histograms
from controller.workloads.importers import import_servegen
from controller.workloads.servegen import Window, _draw

HISTOGRAMS = {
    "text_tokens": "{40: 0.5, 600: 0.5}",
    "image_tokens": "{100: 0.25, 1000: 0.75}",
    "image_count": "{0: 0.2, 1: 0.5, 3: 0.2, 12: 0.1}",
    "output_tokens": "{10: 0.5, 300: 0.5}",
}


@pytest.fixture(scope="module")
def excerpt(traces):
    return traces / "servegen_mm-image"


@pytest.fixture
def made(tmp_path):
    """One client: two busy hours, one without requests, one busy again with one image each."""
    rows = (
        "0,0.5,1,Gamma,1,2\r\n3600,0.5,2,Weibull,0.5,1\r\n7200,0,0,,0,0\r\n10800,1,1,Gamma,1,1\r\n"
    )
    (tmp_path / "chunk-4-trace.csv").write_text(rows, newline="")
    single = {**HISTOGRAMS, "image_count": "{1: 1.0}"}
    (tmp_path / "chunk-4-dataset.json").write_text(json.dumps({"0": HISTOGRAMS, "9000": single}))
    return tmp_path


def test_requests_follow_rates_and_histograms(made):
    trace = import_servegen(made)
    assert trace.duration_s == 4 * 3600
    per_hour = np.bincount((trace.born_s // 3600).astype(int), minlength=4)
    # 1800 drawn in a busy hour, 4 of 5 with an image
    assert np.all(np.abs(per_hour[:2] - 1440) < 4 * np.sqrt(1800 * 0.8 * 0.2))
    assert per_hour[2:].tolist() == [0, 3600]
    first = trace.born_s < 7200
    share = np.bincount(trace.prompts[first], minlength=9) / first.sum()
    error = 4 * np.sqrt(0.25 / first.sum())
    assert share[[1, 3, 8]] == pytest.approx([0.625, 0.25, 0.125], abs=error)  # 12 is cut to 8
    assert trace.sources[0]["counts"]["clipped_images"] == (trace.prompts == 8).sum()
    assert set(trace.sizes["output_tokens"].tolist()) == {10, 128}
    assert set(trace.sizes["input_tokens"].tolist()) == {40, 384, 502}
    one = (trace.prompts == 1) & first
    assert set(np.round(trace.sizes["input_megapixels"][one], 6)) == {0.0784, 0.784}
    mean = (0.25 * 100 + 0.75 * 1000) * 784e-6
    assert trace.sizes["input_megapixels"].mean() == pytest.approx(mean, rel=0.03)
    assert set(trace.origin.tolist()) == {"@4"}
    assert set(trace.lm.tolist()) == {"LM3"}


def test_rate_scales_all_clients_and_windows_cut(made):
    trace = import_servegen(made, rate=0.1, start_s=1800, end_s=9000)
    assert trace.duration_s == 7200
    assert len(trace) == pytest.approx(720, abs=4 * np.sqrt(720))
    assert trace.born_s.min() >= 0
    assert trace.born_s.max() <= 5400  # the third hour is empty
    longer = import_servegen(made, start_s=1800)
    shorter = import_servegen(made, start_s=1800, end_s=3000)
    assert np.array_equal(shorter.born_s, longer.born_s[longer.born_s < 1200])
    with pytest.raises(InputError, match="no requests with an image"):
        import_servegen(made, start_s=7200, end_s=9000)


@pytest.mark.parametrize(("family", "shape", "cv"), [("Gamma", 0.25, 2), ("Weibull", 2, 0.5227)])
def test_times_between_requests_have_the_familys_spread(family, shape, cv):
    histograms = read_histograms(json.dumps({"0": HISTOGRAMS}).encode(), "x")[0]
    window = Window(1, 0.0, 20_000.0, 1.0, family, shape, histograms)
    born_s = np.sort(_draw(window, 1.0, np.random.default_rng(5))["born_s"])
    gaps = np.diff(born_s)
    assert len(born_s) == 20_000
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03)


def test_clients_do_not_burst_together_at_the_window_start():
    histograms = read_histograms(json.dumps({"0": HISTOGRAMS}).encode(), "x")[0]
    window = Window(1, 0.0, 600.0, 0.05, "Gamma", 0.01, histograms)
    draws = [_draw(window, 1.0, np.random.default_rng(seed))["born_s"] for seed in range(400)]
    firsts = np.array([born_s[0] for born_s in draws]) / 600
    assert abs(firsts.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 400)
    assert all(np.all((born_s >= 0) & (born_s < 600)) for born_s in draws)


def test_the_excerpt_is_imported_the_same_way_every_time(excerpt):
    one, again = (import_servegen(excerpt, rate=0.02, seed=3) for _ in range(2))
    assert one.born_s.tolist() == again.born_s.tolist()
    assert one.duration_s == 86_400
    assert len(one) == pytest.approx(0.02 * 86_400, rel=0.05)
    assert set(one.origin.tolist()) == {"@2", "@9", "@22"}
    assert np.all(one.prompts >= 1)
    assert np.all(one.sizes["input_megapixels"] > 0)
    assert np.all(np.diff(one.born_s) >= 0)
    source = one.sources[0]
    assert source["licence"] == "Apache-2.0"
    assert source["file"] == "servegen_mm-image"
    assert one.born_s.tolist() != import_servegen(excerpt, rate=0.02, seed=4).born_s.tolist()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("3600,0.5", "3600,fast", "trace.csv, line 2: rate: .*'fast'"),
        ("3600,0.5", "3600,-1", "trace.csv, line 2: rate: .*'-1'"),
        ("3600,0.5", "0,0.5", "trace.csv, line 2: start_s: is not after the row above"),
        ("Weibull", "Cauchy", "trace.csv, line 2: family: is none of Gamma, Weibull"),
        ("Weibull,0.5", "Weibull,0", "trace.csv, line 2: shape: must be above 0"),
        ("7200,0,0,,0,0", "7200,0,0", "trace.csv, line 3: 3 cells instead of 6"),
    ],
)
def test_a_malformed_trace_is_named_with_its_line(made, old, new, message):
    path = made / "chunk-4-trace.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=r"chunk-4-" + message):
        import_servegen(made)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "is no mapping of windows"),
        ('{"noon": {}}', "noon: is no window; such as 21600"),
        ('{"0": {}}', "0.text_tokens: is no histogram"),
        (json.dumps({"0": {**HISTOGRAMS, "image_count": "{1: -1}"}}), "0.image_count: shares must"),
        (
            json.dumps({"0": {**HISTOGRAMS, "image_count": "{1: NaN}"}}),
            "0.image_count: shares must",
        ),
        (json.dumps({"0": {**HISTOGRAMS, "image_count": "{}"}}), "0.image_count: shares must"),
        (
            json.dumps({"0": {**HISTOGRAMS, "output_tokens": "{x: 1}"}}),
            "0.output_tokens: is no hist",
        ),
        (json.dumps({"0": {**HISTOGRAMS, "output_tokens": "[1]"}}), "0.output_tokens: is no hist"),
    ],
)
def test_a_malformed_dataset_is_named(made, content, message):
    (made / "chunk-4-dataset.json").write_text(content)
    with pytest.raises(InputError, match=r"chunk-4-dataset\.json.*" + message):
        import_servegen(made)


def test_a_folder_without_clients_or_with_half_a_client_is_refused(made, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(InputError, match=r"has no chunk-\*-trace\.csv"):
        import_servegen(empty)
    shutil.copy(made / "chunk-4-trace.csv", empty)
    with pytest.raises(InputError, match=r"chunk-4-dataset\.json: cannot be read"):
        import_servegen(empty)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0}, "import servegen: rate: should be greater than or equal to 0.000000001"),
        ({"max_prompts": 2.5}, "import servegen: max_prompts: .*2.5"),
        ({"lm": ""}, "import servegen: lm: "),
        ({"max_output_tokens": 512}, "max_output_tokens must be below context_tokens"),
        ({"end_s": 1e6}, "ends at 14400 s"),
    ],
)
def test_bad_options_are_refused(made, options, message):
    with pytest.raises(InputError, match=message):
        import_servegen(made, **options)
