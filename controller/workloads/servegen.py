"""Import of ServeGen's client models: rates, burstiness and token counts of production clients.

Source: github.com/alibaba/ServeGen, Apache-2.0 (Xiang et al., NSDI 2026). A folder holds a pair of
files per client: ``chunk-K-trace.csv`` (window start, requests per second, CV and family, shape
and scale of the times between requests) and ``chunk-K-dataset.json`` (histograms of tokens).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from controller.domain.errors import InputError
from controller.inputs.catalog import parse
from controller.inputs.fields import Count, Name
from controller.workloads.histogram import Histogram, read_histograms
from controller.workloads.options import Clipping, Floats, ImportOptions, resolve_end
from controller.workloads.table import Ints, Lines, decode, read_bytes, read_table
from controller.workloads.trace import Trace

WINDOW: Final = ("start_s", "rate", "cv", "family", "shape", "scale")
FAMILIES: Final = ("Gamma", "Weibull")
DAY_S: Final = 86_400.0
MEGAPIXELS_PER_TOKEN: Final = 28 * 28 / 1e6  # a visual token of Qwen2-VL is 28 x 28 pixels
SOURCE: Final = {
    "name": "ServeGen mm-image",
    "url": "https://github.com/alibaba/ServeGen",
    "licence": "Apache-2.0",
}


class ServegenOptions(ImportOptions):
    """Checked options of :func:`import_servegen`."""

    lm: Name
    max_prompts: Count


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One client's model in one window of its trace."""

    client: int
    start_s: float
    width_s: float
    rate: float  # requests per second
    family: str
    shape: float
    histograms: dict[str, Histogram]


def import_servegen(
    folder: Path | str,
    *,
    lm: str = "LM3",
    max_prompts: int = 8,
    context_tokens: int = 512,
    max_output_tokens: int = 128,
    start_s: float = 0.0,
    end_s: float | None = None,
    rate: float | None = None,
    seed: int = 0,
) -> Trace:
    """Return a trace of image-to-text requests, drawn from the client models in a folder. Each
    image of a request is a prompt; requests without an image are left out. The origin is the
    client.

    Args:
        folder: such as ``data/multimodal/mm-image`` of the source.
        lm: image-to-text LM.
        max_prompts: images of a request are cut to this number.
        context_tokens: context of the LM's text side (BLIP's is 512).
        max_output_tokens: see :class:`controller.workloads.options.Clipping`.
        start_s: first second of the imported part of the day.
        end_s: end of the imported part; the end of the models if None.
        rate: mean requests with an image per second; all clients' rates are multiplied by one
            factor, so that burstiness stays. None: as measured.
        seed: seed of all draws.

    Raises:
        InputError: an option or a file is wrong.
    """
    given = dict(locals())  # the arguments, before anything else is local
    folder = Path(given.pop("folder"))
    options = parse(ServegenOptions, "import servegen", given)
    windows, sha256 = _read_folder(folder)
    end_s = resolve_end(options, max(w.start_s + w.width_s for w in windows), str(folder))
    factor = _factor(windows, start_s, end_s, rate, str(folder))
    rows, drawn = _draw_all(windows, start_s, end_s, factor, seed)
    clipping = Clipping(context_tokens, max_output_tokens)
    read, written, counts = clipping.apply(rows["text_tokens"], rows["output_tokens"])
    counts = {
        "drawn": drawn,
        "kept": len(read),
        **counts,
        "clipped_images": int((rows["images"] > max_prompts).sum()),
    }
    source = {
        **SOURCE,
        "file": folder.name,
        "sha256": sha256,
        "importer": "servegen",
        "options": options.model_dump(mode="json"),
        "rules": _rules(clipping, lm, max_prompts),
        "rate_factor": factor,
        "counts": counts,
    }
    return Trace(
        born_s=rows["born_s"] - start_s,
        lm=np.full(len(read), lm),
        origin=np.array([f"@{client:.0f}" for client in rows["client"]], dtype=np.str_),
        prompts=np.minimum(rows["images"], max_prompts).astype(np.int64),
        sizes={
            "input_tokens": read,
            "output_tokens": written,
            "input_megapixels": rows["image_tokens"] * MEGAPIXELS_PER_TOKEN,
            "output_megapixels": np.zeros(len(read)),
        },
        duration_s=end_s - start_s,
        sources=(source,),
    )


def _rules(clipping: Clipping, lm: str, max_prompts: int) -> dict[str, str]:
    """Return the rules of the import in words."""
    return {
        "arrivals": "per client and window: rate times width requests, times "
        "between them of the family and shape given, scaled to fill the window from a random phase",
        "sizes": "each field by its own histogram, independently",
        "clipping": f"{clipping}; images = min(images, {max_prompts})",
        "lms": f"each image is a prompt of {lm}; requests without an image are left out",
        "images": "28 x 28 pixels per image token; the mean over the images of a request",
        "origin": "@k is client k",
    }


def _draw_all(
    windows: list[Window], start_s: float, end_s: float, factor: float, seed: int
) -> tuple[dict[str, Floats], int]:
    """Return the requests with an image in order of birth, and the number of all requests. Every
    window draws from its own generator, so importing a shorter part gives the same requests."""
    parts = [
        _draw(w, factor, np.random.default_rng([seed, w.client, round(w.start_s)]))
        for w in windows
        if w.rate > 0 and w.start_s < end_s and w.start_s + w.width_s > start_s
    ]
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    inside = (drawn["born_s"] >= start_s) & (drawn["born_s"] < end_s)
    kept = np.flatnonzero(inside & (drawn["images"] > 0))
    order = kept[np.argsort(drawn["born_s"][kept], kind="stable")]
    return {name: column[order] for name, column in drawn.items()}, int(inside.sum())


def _draw(window: Window, factor: float, rng: np.random.Generator) -> dict[str, Floats]:
    """Return the requests of a window, columns of shape (R,). Fields are independent: the source
    publishes their marginals only. ``image_tokens`` is the mean of a request's images."""
    mean = window.rate * factor * window.width_s
    count = int(mean) + int(rng.random() < mean - int(mean))
    if window.family == "Gamma":
        gaps = rng.standard_gamma(window.shape, count)
    else:
        gaps = rng.weibull(window.shape, count)
    # The gaps of very bursty clients underflow to 0; if all do, all requests come at one time.
    total = max(float(gaps.sum()), np.finfo(float).tiny)
    # A random phase, modulo the window: if every first gap began with the window, all clients
    # would burst at once.
    elapsed = (rng.random() + np.cumsum(gaps) / total) % 1
    histograms = window.histograms
    images = histograms["image_count"].draw(count, rng)
    tokens = histograms["image_tokens"].draw(int(images.sum()), rng)
    owner = np.repeat(np.arange(count), images.astype(np.int64))
    return {
        "born_s": window.start_s + elapsed * window.width_s,
        "client": np.full(count, float(window.client)),
        "images": images,
        "image_tokens": np.bincount(owner, tokens, minlength=count) / np.maximum(images, 1),
        "text_tokens": histograms["text_tokens"].draw(count, rng),
        "output_tokens": histograms["output_tokens"].draw(count, rng),
    }


def _factor(
    windows: list[Window], start_s: float, end_s: float, rate: float | None, source: str
) -> float:
    """Return the factor of all rates that gives ``rate`` requests with an image per second.

    Raises:
        InputError: no request with an image is expected.
    """
    expected = sum(
        w.rate
        * w.histograms["image_count"].positive_share
        * max(0.0, min(end_s, w.start_s + w.width_s) - max(start_s, w.start_s))
        for w in windows
    )
    if expected == 0:
        raise InputError(source, f"no requests with an image from {start_s} s to {end_s} s")
    return 1.0 if rate is None else rate * (end_s - start_s) / expected


def _read_folder(folder: Path) -> tuple[list[Window], str]:
    """Return all windows of all clients, and one digest of all files."""
    traces = sorted(folder.glob("chunk-*-trace.csv"), key=lambda path: (len(path.name), path.name))
    if not traces:
        raise InputError(str(folder), "has no chunk-*-trace.csv", remedy="give ServeGen's folder")
    hashed = hashlib.sha256()
    windows: list[Window] = []
    for path in traces:
        match = re.fullmatch(r"chunk-(\d+)-trace\.csv", path.name)
        if match is None:
            raise InputError(str(path), "is not named like chunk-7-trace.csv")
        data = path.with_name(f"chunk-{match[1]}-dataset.json")
        contents = read_bytes(path), read_bytes(data)
        for name, content in zip((path.name, data.name), contents, strict=True):
            hashed.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
        histograms = read_histograms(contents[1], str(data))
        rows = list(_read_windows(contents[0], str(path)))
        ends_s = [start_s for start_s, *_ in rows[1:]]
        last_s = rows[-1][0] + (rows[-1][0] - rows[-2][0] if len(rows) > 1 else DAY_S)
        for (start_s, rate, family, shape), end_s in zip(rows, [*ends_s, last_s], strict=True):
            current = [start for start in histograms if start <= start_s]
            fields = histograms[current[-1] if current else next(iter(histograms))]
            windows.append(
                Window(int(match[1]), start_s, end_s - start_s, rate, family, shape, fields)
            )
    return windows, hashed.hexdigest()


def _read_windows(content: bytes, source: str) -> Iterator[tuple[float, float, str, float]]:
    """Yield the start, rate, family and shape of every window."""
    text = ",".join(WINDOW) + "\n" + decode(content, source)
    _, rows, lines = read_table(text, source, WINDOW, WINDOW, first_line=0)
    if not rows:
        raise InputError(source, "has no windows")
    columns: dict[str, tuple[Any, ...]] = dict(zip(WINDOW, zip(*rows, strict=True), strict=True))
    where = Lines(source, lines)
    numbers = {name: where.numbers(name, columns[name]) for name in WINDOW if name != "family"}
    starts_s: Floats = numbers["start_s"]
    where.refuse(
        np.flatnonzero(np.diff(starts_s) <= 0) + 1, "start_s", "is not after the row above"
    )
    active = numbers["rate"] > 0
    known = np.isin(columns["family"], FAMILIES)
    unknown: Ints = np.flatnonzero(active & ~known)
    where.refuse(unknown, "family", f"is none of {', '.join(FAMILIES)}")
    where.refuse(np.flatnonzero(active & (numbers["shape"] <= 0)), "shape", "must be above 0")
    yield from zip(
        starts_s.tolist(), numbers["rate"].tolist(), columns["family"], numbers["shape"].tolist(),
        strict=True,
    )  # fmt: skip
