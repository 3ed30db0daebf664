"""Our own request files: CSV, headed by commented YAML that names the sources of the requests.

The format is specified in docs/workloads.md.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

from controller.domain.errors import InputError
from controller.inputs.documents import PLAIN_VALUES, read_yaml_text
from controller.workloads.table import Lines, decode, read_bytes, read_table

FORMAT: Final = "edgelm-trace/1"
SIZES: Final = ("input_tokens", "output_tokens", "input_megapixels", "output_megapixels")
COLUMNS: Final = ("born_s", "lm", "origin", "prompts", *SIZES)
REQUIRED: Final = ("born_s", "lm", "prompts")
MAX_DURATION_S: Final = 1e9  # some thirty years
MAX_PROMPTS: Final = 100_000  # of one request: more is a mistake in the file

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Names = NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests in order of birth; all arrays are (R,). ``origin``: a node's name, ``@k`` for
    client k of the source, or empty. ``sizes``: per prompt, NaN for the LM's reference prompt."""

    born_s: Floats
    lm: Names
    origin: Names
    prompts: Ints
    sizes: dict[str, Floats]
    duration_s: float  # length of the period in which the requests were observed or drawn
    sources: tuple[dict[str, Any], ...] = field(default=())  # provenance and import steps

    def __len__(self) -> int:
        return len(self.born_s)


class _Dumper(yaml.SafeDumper):
    """YAML dumper that quotes texts such as 1e5 or 0o10, which YAML 1.2 and our reader take for
    numbers."""


for _tag, _pattern, _first in PLAIN_VALUES:
    _Dumper.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))


def digest(content: bytes) -> str:
    """Return the SHA-256 of a request file's content, the same for CRLF and LF, with and without
    BOM."""
    plain = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    return hashlib.sha256(plain).hexdigest()


def read_trace(path: Path) -> Trace:
    """Read a request file.

    Raises:
        InputError: the file is unreadable or a row is malformed; names file and line.
    """
    return parse_trace(read_bytes(path), str(path))


def parse_trace(content: bytes, source: str) -> Trace:
    """Return the trace in ``content``, the bytes of ``source``. Raises as :func:`read_trace`."""
    head, table, first_line = _split(decode(content, source))
    header, rows, lines = read_table(table, source, COLUMNS, REQUIRED, first_line)
    columns = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}
    where = Lines(source, lines)
    born_s = where.numbers("born_s", columns.get("born_s", ()))
    where.refuse(np.flatnonzero(np.diff(born_s) < 0) + 1, "born_s", "is before the row above")
    prompts = where.numbers("prompts", columns.get("prompts", ()))
    odd = (prompts % 1 != 0) | (prompts < 1) | (prompts > MAX_PROMPTS)
    where.refuse(np.flatnonzero(odd), "prompts", f"is no whole number from 1 to {MAX_PROMPTS}")
    lm = _names(columns.get("lm", ()), len(rows))
    where.refuse(np.flatnonzero(lm == ""), "lm", "is empty")
    duration_s, sources = _provenance(head, source)
    end_s = float(born_s[-1]) if len(born_s) else 0.0
    if duration_s is not None and duration_s < end_s:
        raise InputError(
            source, f"a request is born at {end_s} s, after the end", field="duration_s",
            value=duration_s,
        )  # fmt: skip
    return Trace(
        born_s=born_s,
        lm=lm,
        origin=_names(columns.get("origin", ()), len(rows)),
        prompts=prompts.astype(np.int64),
        sizes={name: where.optional(name, columns.get(name), len(rows)) for name in SIZES},
        duration_s=end_s if duration_s is None else duration_s,
        sources=sources,
    )


def write_trace(trace: Trace, path: Path) -> None:
    """Write a new request file: times to the millisecond, sizes to six digits.

    Raises:
        InputError: the file exists already or cannot be written.
    """
    duration_s = math.ceil(round(trace.duration_s * 1000, 6)) / 1000  # rounded births stay within
    head = {"format": FORMAT, "duration_s": duration_s, "sources": list(trace.sources)}
    text = yaml.dump(head, Dumper=_Dumper, sort_keys=False, width=96)
    out = io.StringIO()
    out.writelines(f"# {line}\n" for line in text.rstrip("\n").split("\n"))
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    sizes = [[_number(x, 6) for x in trace.sizes[name]] for name in SIZES]
    born = [f"{x:.3f}".rstrip("0").rstrip(".") for x in trace.born_s]
    writer.writerows(zip(born, trace.lm, trace.origin, trace.prompts, *sizes, strict=True))
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(out.getvalue())
    except FileExistsError as error:
        raise InputError(
            str(path), "is there already", remedy="choose another name, or remove it first"
        ) from error
    except OSError as error:
        raise InputError(str(path), f"cannot be written: {error.strerror}") from error


def merge(traces: Sequence[Trace]) -> Trace:
    """Return one trace of several that run side by side from 0 s, cut to the shortest duration.

    Raises:
        InputError: no traces were given.
    """
    if not traces:
        raise InputError("merge", "no request file given")
    duration_s = min(trace.duration_s for trace in traces)
    parts = [cut(trace, duration_s) for trace in traces]
    born_s = np.concatenate([part.born_s for part in parts])
    order = np.argsort(born_s, kind="stable")
    return Trace(
        born_s=born_s[order],
        lm=np.concatenate([part.lm for part in parts])[order],
        origin=np.concatenate([part.origin for part in parts])[order],
        prompts=np.concatenate([part.prompts for part in parts])[order],
        sizes={n: np.concatenate([part.sizes[n] for part in parts])[order] for n in SIZES},
        duration_s=duration_s,
        sources=tuple(source for trace in traces for source in trace.sources),
    )


def cut(trace: Trace, duration_s: float) -> Trace:
    """Return the requests born before ``duration_s``, or all if the trace ends by then."""
    if duration_s >= trace.duration_s:
        return trace
    return replace(select(trace, trace.born_s < duration_s), duration_s=duration_s)


def select(trace: Trace, chosen: NDArray[Any]) -> Trace:
    """Return the requests at ``chosen``, a mask or ascending indices."""
    return replace(
        trace,
        born_s=trace.born_s[chosen],
        lm=trace.lm[chosen],
        origin=trace.origin[chosen],
        prompts=trace.prompts[chosen],
        sizes={name: column[chosen] for name, column in trace.sizes.items()},
    )


def _split(text: str) -> tuple[str, str, int]:
    """Return the commented head without its ``#``, the table, and the table's first line number."""
    lines = text.split("\n")
    count = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    head = "\n".join(line[1:].removeprefix(" ") for line in lines[:count])
    return head, "\n".join(lines[count:]), count + 1


def _provenance(head: str, source: str) -> tuple[float | None, tuple[dict[str, Any], ...]]:
    """Return the duration (None if not declared) and the sources of a head."""
    data = read_yaml_text(f"{source}, its commented head", head)
    if data is None:
        return None, ()
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(
            source, "unknown format", field="format", value=head[:60], remedy=f"write {FORMAT}"
        )
    duration_s, sources = data.get("duration_s"), data.get("sources", [])
    if duration_s is not None:
        duration_s = _finite(duration_s, source)
    if not isinstance(sources, list) or not all(isinstance(entry, dict) for entry in sources):
        raise InputError(source, "is no list of mappings", field="sources")
    return duration_s, tuple(sources)


def _finite(value: object, source: str) -> float:
    """Return the declared duration, or raise InputError if it is not 0 to MAX_DURATION_S."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or not 0 <= value <= MAX_DURATION_S:  # type: ignore[operator]
        raise InputError(
            source, f"is no number from 0 to {MAX_DURATION_S:g}", field="duration_s", value=value
        )
    return float(value)  # type: ignore[arg-type]


def _names(cells: Sequence[str], rows: int) -> Names:
    return np.array(cells, dtype=np.str_) if cells else np.full(rows, "", dtype=np.str_)


def _number(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}g}"
