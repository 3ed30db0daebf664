"""Times of a profile: the measured, published or estimated speed of every LM on every hardware.

The *reference prompt* of an LM is the prompt with which its times were measured. A prompt of a
trace is a multiple of it (:meth:`LmProfile.work`), so tokens and pixels drive service time and
payload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """Seconds per reference prompt against an amount of resource.

    Linear between the table's points; constant above the last; below the first the time grows
    inversely, as a CFS quota of half a core takes twice as long as one core.
    """

    amounts: tuple[float, ...]  # ascending
    seconds: tuple[float, ...]

    def at(self, amount: float) -> float:
        """Return the seconds per reference prompt with ``amount`` of the resource."""
        if amount < self.amounts[0]:
            return self.seconds[0] * self.amounts[0] / amount
        return float(np.interp(amount, self.amounts, self.seconds))


@dataclass(frozen=True, slots=True)
class Batching:
    """Batch times. ``factors[k-1]``: time of a batch of k prompts over the time of one. Progress is
    checkpointed per batch; the paper's runner goes prompt by prompt, ``factors=(1.0,)``."""

    factors: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, slots=True)
class Size:
    """A quantity of a prompt, linear in its tokens and pixels."""

    fixed: float = 0.0
    per_input_token: float = 0.0
    per_output_token: float = 0.0
    per_input_megapixel: float = 0.0
    per_output_megapixel: float = 0.0


@dataclass(frozen=True, slots=True)
class Prompt:
    """Size of one prompt and its result."""

    input_tokens: float = 0.0
    output_tokens: float = 0.0
    input_megapixels: float = 0.0
    output_megapixels: float = 0.0


@dataclass(frozen=True, slots=True)
class LmProfile:
    """Profile of one LM: speed by hardware, life cycle, memory, payload."""

    reference: Prompt
    work_model: Size  # relative time; ``work(reference) == 1``
    cpu: Mapping[str, Curve]  # CPU model -> seconds against cores; empty: cannot run on CPUs
    gpu: Mapping[str, Curve]  # GPU model -> seconds against physical GPUs spanned
    cpu_batching: Batching
    gpu_batching: Batching
    start_cpu_s: float
    start_gpu_s: float
    stop_s: float
    resident_ram_gb: float
    resident_vram_gb: float
    uplink_bytes: Size  # per prompt, origin -> destination
    downlink_bytes: Size  # per result, back

    def work(self, sizes: Mapping[str, Floats]) -> Floats:
        """Return (R,) the service time of prompts over that of the reference prompt. ``sizes``:
        columns as in :class:`Prompt`, each (R,)."""
        one = linear(self.work_model, {k: np.array(v) for k, v in prompt_columns(self.reference)})
        return linear(self.work_model, sizes) / one


def prompt_columns(prompt: Prompt) -> list[tuple[str, float]]:
    """Return (column, value) pairs of a prompt, in the order of its fields."""
    return [
        ("input_tokens", prompt.input_tokens),
        ("output_tokens", prompt.output_tokens),
        ("input_megapixels", prompt.input_megapixels),
        ("output_megapixels", prompt.output_megapixels),
    ]


def linear(size: Size, columns: Mapping[str, Floats]) -> Floats:
    """Evaluate a :class:`Size` over columns of prompt sizes."""
    return np.asarray(
        size.fixed
        + size.per_input_token * columns["input_tokens"]
        + size.per_output_token * columns["output_tokens"]
        + size.per_input_megapixel * columns["input_megapixels"]
        + size.per_output_megapixel * columns["output_megapixels"],
        dtype=np.float64,
    )


@dataclass(frozen=True, slots=True)
class Profile:
    """Profiles of LMs by name. ``switch_loss``: share of a GPU's time lost to switching while two
    or more of its slices are busy."""

    name: str
    lms: Mapping[str, LmProfile]
    switch_loss: float
    summary: str = ""  # one sentence a report can print: which hardware, measured or estimated
    sources: Mapping[str, str] = field(default_factory=dict)  # field path -> source
