"""Import of the Azure LLM inference traces of 2023: one row a request, with real times and tokens.

Source: github.com/Azure/AzurePublicDataset, CC-BY 4.0 (Patel et al., "Splitwise", ISCA 2024).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from pydantic import BeforeValidator, Field

from controller.domain.errors import InputError
from controller.inputs.catalog import parse
from controller.inputs.fields import Count, Name, Positive, Share
from controller.workloads.options import Clipping, Floats, ImportOptions, resolve_end
from controller.workloads.table import Lines, decode, read_bytes, read_table
from controller.workloads.trace import SIZES, Trace

COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
CLIP_TOKENS: Final = 77  # context of Stable Diffusion's text encoder
SOURCE: Final = {
    "name": "Azure LLM inference trace 2023",
    "url": "https://github.com/Azure/AzurePublicDataset",
    "licence": "CC-BY-4.0",
}


def _split(names: object) -> object:
    return names.split(",") if isinstance(names, str) else names


class AzureOptions(ImportOptions):
    """Checked options of :func:`import_azure`."""

    lms: Annotated[
        tuple[Name, ...],
        BeforeValidator(_split),
        Field(min_length=1, max_length=2, description="one or two text LMs, such as LM1,LM2"),
    ]
    threshold_tokens: Count
    image_lm: Name
    image_share: Share
    image_prompts: Count
    image_megapixels: Positive
    stretch: Positive


def import_azure(
    path: Path | str,
    *,
    lms: Sequence[str] = ("LM1", "LM2"),
    threshold_tokens: int = 1024,
    image_lm: str = "LM4",
    image_share: float = 0.0,
    image_prompts: int = 1,
    image_megapixels: float = 0.262144,
    context_tokens: int = 1024,
    max_output_tokens: int = 512,
    start_s: float = 0.0,
    end_s: float | None = None,
    stretch: float = 1.0,
    rate: float | None = None,
    seed: int = 0,
) -> Trace:
    """Return a trace of text requests, one prompt each, and optionally of text-to-image requests.

    Args:
        path: ``AzureLLMInferenceTrace_conv.csv`` or a similar file.
        lms: text LMs; of two, the first serves prompts of up to ``threshold_tokens`` (before
            clipping), the second longer ones.
        threshold_tokens: see ``lms``; the default is GPT-2's context.
        image_lm: text-to-image LM.
        image_share: share of the requests, chosen at random, that become image requests. The trace
            has none: the times and prompts are real, the modality is assumed.
        image_prompts: images of such a request.
        image_megapixels: size of such an image; 512 x 512 pixels by default.
        context_tokens: context of the text LMs.
        max_output_tokens: see :class:`controller.workloads.options.Clipping`.
        start_s: first second of the imported part.
        end_s: end of the imported part; the trace's end if None.
        stretch: factor of the time between requests.
        rate: requests per second to keep, by random thinning; None keeps all.
        seed: seed of the thinning and of the choice of image requests.

    Raises:
        InputError: an option or a row of the file is wrong.
    """
    given = dict(locals())  # the arguments, before anything else is local
    path = Path(given.pop("path"))
    options = parse(AzureOptions, "import azure", given)
    content = read_bytes(path)
    times_s, inputs, outputs = _read(content, str(path))
    end_s = resolve_end(options, float(times_s[-1]), str(path))
    inside = (times_s >= start_s) & (times_s <= end_s)
    if not inside.any():
        raise InputError(str(path), f"no requests from {start_s} s to {end_s} s")
    rng = np.random.default_rng(seed)
    kept = inside & _thinned(inside, (end_s - start_s) * stretch, rate, rng, str(path))
    clipping = Clipping(context_tokens, max_output_tokens)
    columns, counts = _mapped(inputs[kept], outputs[kept], options, clipping, rng)
    source = {
        **SOURCE,
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "importer": "azure",
        "options": options.model_dump(mode="json"),
        "rules": _rules(clipping, options),
        "counts": {"read": len(times_s), "inside": int(inside.sum()), **counts},
    }
    return Trace(
        born_s=(times_s[kept] - start_s) * stretch,
        duration_s=(end_s - start_s) * stretch,
        sources=(source,),
        **columns,
    )


def _rules(clipping: Clipping, options: AzureOptions) -> dict[str, str]:
    """Return the rules of the import in words."""
    rules = {
        "clipping": str(clipping),
        "lms": f"up to {options.threshold_tokens} input tokens {options.lms[0]}, more "
        f"{options.lms[-1]}; one prompt each",
    }
    if options.image_share:
        rules["images"] = (
            f"a share of {options.image_share} at random becomes {options.image_lm}: "
            f"{options.image_prompts} prompts for {options.image_megapixels} megapixels each, the "
            f"text cut to {CLIP_TOKENS} tokens"
        )
    return rules


def _read(content: bytes, source: str) -> tuple[Floats, Floats, Floats]:
    """Return the seconds since the first request, context tokens, generated tokens; (R,) each."""
    header, rows, lines = read_table(decode(content, source), source, COLUMNS, COLUMNS)
    if not rows:
        raise InputError(source, "has no requests")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    where = Lines(source, lines)
    stamps = [_time(c, source, line) for c, line in zip(columns[COLUMNS[0]], lines, strict=True)]
    times_s = np.array([(stamp - stamps[0]).total_seconds() for stamp in stamps])
    where.refuse(np.flatnonzero(np.diff(times_s) < 0) + 1, COLUMNS[0], "is before the row above")
    inputs, outputs = (where.numbers(name, columns[name]) for name in COLUMNS[1:])
    return times_s, inputs, outputs


def _time(cell: str, source: str, line: int) -> datetime:
    try:
        time = datetime.fromisoformat(cell)
    except ValueError as error:
        raise InputError(
            f"{source}, line {line}", "is no time", field=COLUMNS[0], value=cell,
            remedy="such as 2023-11-16 18:15:46.6805900",
        ) from error  # fmt: skip
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _thinned(
    inside: np.ndarray, seconds: float, rate: float | None, rng: np.random.Generator, source: str
) -> np.ndarray:
    """Return the mask of the requests to keep, on average ``rate`` a second."""
    drawn = rng.random(len(inside))
    if rate is None:
        return np.full(len(inside), True)
    has = float(inside.sum()) / seconds
    if rate > has:
        raise InputError(
            "rate", f"{source} has {has:.4g} requests per second", value=rate,
            remedy="ask for less, or lower the stretch",
        )  # fmt: skip
    return drawn < rate / has


def _mapped(
    inputs: Floats,
    outputs: Floats,
    options: AzureOptions,
    clipping: Clipping,
    rng: np.random.Generator,
) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the columns of the trace except the times, and the counts of changed requests."""
    lms = options.lms
    image = rng.random(len(inputs)) < options.image_share
    text_lm = np.where(inputs <= options.threshold_tokens, lms[0], lms[-1])
    read, written, _ = clipping.apply(inputs, outputs)
    *_, counts = clipping.apply(inputs[~image], outputs[~image])
    zero = np.zeros(len(inputs))
    sizes = {
        "input_tokens": np.where(image, np.minimum(inputs, CLIP_TOKENS), read),
        "output_tokens": np.where(image, 0.0, written),
        "input_megapixels": zero,
        "output_megapixels": np.where(image, options.image_megapixels, 0.0),
    }
    columns = {
        "lm": np.where(image, options.image_lm, text_lm),
        "origin": np.full(len(inputs), ""),
        "prompts": np.where(image, options.image_prompts, 1).astype(np.int64),
        "sizes": {name: sizes[name] for name in SIZES},
    }
    return columns, {"kept": len(inputs), "images": int(image.sum()), **counts}
