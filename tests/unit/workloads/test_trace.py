from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller.domain.errors import InputError
from controller.workloads.trace import (
    COLUMNS,
    SIZES,
    Trace,
    cut,
    digest,
    merge,
    parse_trace,
    read_trace,
    write_trace,
)

HEADER = ",".join(COLUMNS)
ROW = "1.5,LM1,vm2,2,10,20,0,0"


def trace_of(*rows: str, head: str = "") -> Trace:
    return parse_trace("\n".join([head + HEADER, *rows, ""]).encode(), "t.csv")


names = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1
).filter(lambda name: name.strip() == name)
sizes = st.one_of(st.just(float("nan")), st.floats(0, 1e6).map(lambda x: float(f"{x:.6g}")))


@st.composite
def made_traces(draw) -> Trace:
    count = draw(st.integers(0, 8))
    born_s = sorted(draw(st.lists(st.integers(0, 10**7), min_size=count, max_size=count)))

    def column(elements):
        return draw(st.lists(elements, min_size=count, max_size=count))

    return Trace(
        born_s=np.array(born_s, dtype=np.float64) / 1000,
        lm=np.array(column(names), dtype=np.str_),
        origin=np.array(column(st.one_of(st.just(""), names)), dtype=np.str_),
        prompts=np.array(column(st.integers(1, 100)), dtype=np.int64),
        sizes={name: np.array(column(sizes), dtype=np.float64) for name in SIZES},
        duration_s=draw(st.integers(10**7, 10**9)) / 1000,
        sources=({"name": draw(st.text(max_size=20)), "counts": {"kept": count}},),
    )


@settings(max_examples=80, deadline=None)
@given(trace=made_traces())
def test_what_was_written_is_read_again(trace, tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "t.csv"
    write_trace(trace, path)
    again = read_trace(path)
    assert np.array_equal(again.born_s, trace.born_s)
    assert again.lm.tolist() == trace.lm.tolist()
    assert again.origin.tolist() == trace.origin.tolist()
    assert again.prompts.tolist() == trace.prompts.tolist()
    for name in SIZES:
        assert np.array_equal(again.sizes[name], trace.sizes[name], equal_nan=True)
    assert again.duration_s == trace.duration_s
    assert again.sources == trace.sources


cells = st.sampled_from(
    ["0", "1", "7.5", "-1", "nan", "inf", "1e999", "", " 2 ", '"', "LM1", "é", "#"]
)
lines = st.one_of(
    st.sampled_from([HEADER, "born_s,lm,prompts", "# format: edgelm-trace/1", "# a: [", "", ROW]),
    st.lists(cells, max_size=9).map(",".join),
    st.text(max_size=30),
)
files = st.one_of(
    st.binary(max_size=60),
    st.tuples(st.lists(lines, max_size=6), st.sampled_from(["\n", "\r\n", "\r"])).map(
        lambda both: both[1].join(both[0]).encode("utf-8", "surrogatepass")
    ),
)


@settings(max_examples=300, deadline=None)
@given(content=files)
@example(content=b"born_s,lm,prompts\n1,LM1,1")
@example(content=b"born_s,lm,prompts\n1,LM1,1e999")
@example(
    content=b"# format: edgelm-trace/1\n# duration_s: 1" + b"0" * 400 + b"\nborn_s,lm,prompts\n"
)
@example(content=b"# format: edgelm-trace/1\n# duration_s: .nan\nborn_s,lm,prompts\n")
def test_any_file_is_a_valid_trace_or_a_clear_error(content):
    try:
        trace = parse_trace(content, "some.csv")
    except InputError as error:
        if not str(error).startswith("some.csv"):
            raise
        return
    assert np.all(np.diff(trace.born_s) >= 0)
    assert np.all(np.isfinite(trace.born_s) & (trace.born_s >= 0))
    assert np.all(trace.prompts >= 1)
    assert all(
        len(column) == len(trace) for column in (trace.lm, trace.origin, *trace.sizes.values())
    )
    assert trace.duration_s >= (trace.born_s[-1] if len(trace) else 0)


def test_line_endings_byte_order_mark_and_gaps_make_no_difference():
    plain = f"# format: edgelm-trace/1\n# duration_s: 60\n{HEADER}\n{ROW}\n9,LM2,,1,,,,\n".encode()
    expected = parse_trace(plain, "t.csv")
    assert expected.duration_s == 60
    for other in (
        plain.replace(b"\n", b"\r\n"),
        plain.replace(b"\n", b"\r"),
        b"\xef\xbb\xbf" + plain,
        plain.replace(b"9,LM2", b"\n,,,,,,,\n 9 , LM2"),
        plain.rstrip(b"\n"),
    ):
        trace = parse_trace(other, "t.csv")
        assert trace.born_s.tolist() == expected.born_s.tolist() == [1.5, 9]
        assert trace.lm.tolist() == ["LM1", "LM2"]
        assert trace.origin.tolist() == ["vm2", ""]
    assert digest(plain) == digest(b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n"))
    assert digest(plain) != digest(plain.replace(b"9,", b"8,"))


def test_empty_sizes_and_absent_columns_mean_the_reference_prompt():
    trace = trace_of("1,LM1,,1,,5,,")
    assert np.isnan(trace.sizes["input_tokens"][0])
    assert trace.sizes["output_tokens"][0] == 5
    short = parse_trace(b"prompts,lm,born_s\n2,LM1,3\n", "t.csv")
    assert short.prompts.tolist() == [2]
    assert short.origin.tolist() == [""]
    assert all(np.isnan(short.sizes[name]).all() for name in SIZES)
    assert short.duration_s == 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x,LM1,,1,,,,", "line 4: born_s: is no finite number, 0 or more .got 'x'."),
        ("nan,LM1,,1,,,,", "line 4: born_s: .*'nan'"),
        ("inf,LM1,,1,,,,", "line 4: born_s: .*'inf'"),
        ("-3,LM1,,1,,,,", "line 4: born_s: .*'-3'"),
        (",LM1,,1,,,,", "line 4: born_s: .*''"),
        ("0.5,LM1,,1,,,,", "line 4: born_s: is before the row above"),
        ("2,,,1,,,,", "line 4: lm: is empty"),
        ("2,LM1,,0,,,,", "line 4: prompts: is no whole number from 1"),
        ("2,LM1,,1.5,,,,", "line 4: prompts: is no whole number from 1"),
        ("2,LM1,,1e9,,,,", "line 4: prompts: is no whole number from 1"),
        ("2,LM1,,,,,,", "line 4: prompts: .*''"),
        ("2,LM1,,1,nan,,,", "line 4: input_tokens: .*'nan'"),
        ("2,LM1,,1,,-7,,", "line 4: output_tokens: .*'-7'"),
        ("2,LM1,,1,,,,big", "line 4: output_megapixels: .*'big'"),
        ("2,LM1,,1", "line 4: 4 cells instead of 8; the columns are born_s"),
        ("2,LM1,,1,,,,,", "line 4: 9 cells instead of 8"),
    ],
)
def test_a_malformed_row_is_named(row, message):
    with pytest.raises(InputError, match=r"^t\.csv, " + message):
        trace_of("", ROW, row)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: column born_s is missing"),
        (b"born_s,lm\n1,LM1\n", "line 1: column prompts is missing"),
        (b"born_s,lm,prompts,speed\n", "line 1: no such column .got 'speed'.; columns are born_s"),
        (b"born_s,lm,prompts,lm\n", "line 1: column is there twice .got 'lm'."),
        (b"born_s,lm,prompts\n1,LM\xff,1\n", "is not UTF-8"),
        (b"# hello\nborn_s,lm,prompts\n", "unknown format"),
        (b"# format: edgelm-trace/9\nborn_s,lm,prompts\n", "unknown format"),
        (b"# format: [\nborn_s,lm,prompts\n", "its commented head"),
        (
            b"# format: edgelm-trace/1\n# duration_s: soon\nborn_s,lm,prompts\n",
            "duration_s.*'soon'",
        ),
        (b"# format: edgelm-trace/1\n# duration_s: -1\nborn_s,lm,prompts\n", "duration_s.*-1"),
        (b"# format: edgelm-trace/1\n# sources: x\nborn_s,lm,prompts\n", "sources: is no list"),
        (
            b"# format: edgelm-trace/1\n# duration_s: 5\nborn_s,lm,prompts\n6,LM1,1\n",
            "duration_s: a request is born at 6.0 s, after the end",
        ),
    ],
)
def test_a_malformed_file_is_named(content, message):
    with pytest.raises(InputError, match=r"^t\.csv.*" + message):
        parse_trace(content, "t.csv")


def test_lines_are_counted_with_the_head():
    head = "# format: edgelm-trace/1\n# sources: []\n"
    with pytest.raises(InputError, match=r"t\.csv, line 5: lm"):
        trace_of(ROW, "2,,,1,,,,", head=head)


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.csv: cannot be read: No such file"):
        read_trace(tmp_path / "nothing.csv")
    with pytest.raises(InputError, match=r"t\.csv: cannot be written: No such file"):
        write_trace(trace_of(ROW), tmp_path / "no" / "folder" / "t.csv")


def test_merging_keeps_time_and_all_sources_up_to_the_shorter_end():
    one = trace_of(
        "1,LM1,,1,,,,",
        "5,LM1,,1,,,,",
        "8,LM1,,1,,,,",
        head="# format: edgelm-trace/1\n# duration_s: 9\n",
    )
    two = trace_of(
        "0,LM4,,3,,,,0.25", "5,LM4,,1,,,,", "6,LM4,,1,,,,",
        head="# format: edgelm-trace/1\n# duration_s: 6\n# sources: [{name: two}]\n",
    )  # fmt: skip
    both = merge([one, two])
    assert both.born_s.tolist() == [0, 1, 5, 5, 6]
    assert both.lm.tolist() == ["LM4", "LM1", "LM1", "LM4", "LM4"]
    assert both.prompts.tolist() == [3, 1, 1, 1, 1]
    assert both.sizes["output_megapixels"][0] == 0.25
    assert both.duration_s == 6
    assert both.sources == ({"name": "two"},)
    assert len(merge([one])) == 3
    with pytest.raises(InputError, match="no request file given"):
        merge([])


def test_a_duration_between_milliseconds_is_rounded_up(tmp_path):
    trace = replace(trace_of("61.2635,LM1,,1,,,,"), duration_s=61.26353)
    write_trace(trace, tmp_path / "t.csv")
    assert read_trace(tmp_path / "t.csv").duration_s == 61.264


def test_a_file_that_is_there_is_not_overwritten(tmp_path):
    path = tmp_path / "raw.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    with pytest.raises(InputError, match="there already"):
        write_trace(trace_of(ROW), path)
    assert path.read_text().startswith("TIMESTAMP")


def test_cutting_keeps_what_was_born_before():
    trace = trace_of("1,LM1,,1,,,,", "5,LM1,,1,,,,", "9,LM1,,1,,,,")
    assert cut(trace, 5).born_s.tolist() == [1]
    assert cut(trace, 9).born_s.tolist() == [1, 5, 9]


def test_the_shipped_trace_says_where_it_comes_from():
    from controller.workloads.spec import SHIPPED

    trace = read_trace(Path(SHIPPED) / "azure-servegen.csv")
    assert [source["licence"] for source in trace.sources] == ["CC-BY-4.0", "Apache-2.0"]
    for source in trace.sources:
        assert len(source["sha256"]) == 64
        assert source["rules"]["clipping"]
        assert source["options"]["seed"] == 0
    assert trace.duration_s == 7 * 50 * 30
    assert set(trace.lm.tolist()) == {"LM1", "LM2", "LM3", "LM4"}
    text = np.isin(trace.lm, ["LM1", "LM2"])
    assert (trace.sizes["input_tokens"] + trace.sizes["output_tokens"])[text].max() <= 1024
