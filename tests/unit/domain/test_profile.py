"""Curves and sizes of a profile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from controller.domain.profile import Batching, Curve, LmProfile, Prompt, Size, linear

CURVE = Curve((1.0, 2.0, 4.0), (8.0, 5.0, 3.0))


@pytest.mark.parametrize(
    ("cores", "seconds"),
    [
        (0.25, 32.0),  # a quarter of the table's first point: four times as long
        (0.5, 16.0),
        (1.0, 8.0),
        (1.5, 6.5),  # half-way
        (2.0, 5.0),
        (3.0, 4.0),
        (4.0, 3.0),
        (24.0, 3.0),  # more does not help
    ],
)
def test_a_curve_interpolates_and_holds_its_ends(cores: float, seconds: float) -> None:
    assert CURVE.at(cores) == pytest.approx(seconds)


@given(
    st.lists(st.floats(0.1, 100), min_size=1, max_size=6),
    st.floats(0.01, 20),
    st.floats(0.01, 20),
)
def test_a_falling_curve_falls_everywhere(seconds: list[float], a: float, b: float) -> None:
    curve = Curve(tuple(range(1, len(seconds) + 1)), tuple(sorted(seconds, reverse=True)))
    few, many = sorted((a, b))
    assert curve.at(many) <= curve.at(few) * (1 + 1e-12)
    assert min(seconds) * (1 - 1e-12) <= curve.at(few)


def columns(prompt: Prompt) -> dict[str, np.ndarray]:
    return {
        "input_tokens": np.array([prompt.input_tokens]),
        "output_tokens": np.array([prompt.output_tokens]),
        "input_megapixels": np.array([prompt.input_megapixels]),
        "output_megapixels": np.array([prompt.output_megapixels]),
    }


def test_a_size_is_linear_in_tokens_and_pixels() -> None:
    """1 + 2 * 10 + 3 * 100 + 4 * 0.5 + 5 * 0.25"""
    size = Size(1.0, 2.0, 3.0, 4.0, 5.0)
    assert_allclose(linear(size, columns(Prompt(10, 100, 0.5, 0.25))), [324.25])
    assert_allclose(linear(Size(), columns(Prompt(10, 100, 0.5, 0.25))), [0])


def test_work_is_relative_to_the_reference_prompt() -> None:
    """The reference takes 5 + 1 * 50 + 2 * 100 = 255; half the output 155."""
    profile = LmProfile(
        reference=Prompt(input_tokens=50, output_tokens=100),
        work_model=Size(fixed=5, per_input_token=1, per_output_token=2),
        cpu={},
        gpu={"gpu": Curve((1.0,), (1.0,))},
        cpu_batching=Batching(),
        gpu_batching=Batching(),
        start_cpu_s=0.0,
        start_gpu_s=0.0,
        stop_s=0.0,
        resident_ram_gb=0.0,
        resident_vram_gb=0.0,
        uplink_bytes=Size(),
        downlink_bytes=Size(),
    )
    assert_allclose(profile.work(columns(profile.reference)), [1])
    assert_allclose(profile.work(columns(Prompt(50, 50))), [155 / 255])
