"""The colours are told apart with common colour blindness too, and from the page."""

from itertools import combinations

import numpy as np
import pytest

from controller.report import style

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
}  # fmt: skip
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
GROUPS = {
    "strategies": [(look.colour, look.dark) for look in style.KNOWN.values()],
    "components": list(style.COMPONENTS.values()),
    "failures": list(style.FAILURES.values()),
    "modes": list(style.MODES.values()),
}


def linear(colour: str) -> np.ndarray:
    srgb = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = XYZ @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(a: str, b: str) -> float:
    dark, light = sorted(float(XYZ[1] @ linear(colour)) for colour in (a, b))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("group", GROUPS)
def test_colours_of_a_group_differ(group, theme, vision):
    colours = [pair[theme] for pair in GROUPS[group]]
    seen = [lab(VISION[vision] @ linear(colour)) for colour in colours]
    nearest = min(np.linalg.norm(a - b) for a, b in combinations(seen, 2))
    assert nearest > 15  # CIE 1976; 2.3 is just noticeable side by side


def test_strategies_stand_out_from_the_page():
    dark_page = dict(style.TINTS)[style.SURFACE][1]
    for look in style.KNOWN.values():
        assert contrast(look.colour, style.SURFACE) > 2.3
        assert contrast(look.dark, dark_page) > 3


def test_text_is_readable():
    page = {"light": style.SURFACE, "dark": style.TINTS[style.SURFACE][1]}
    for colour in (style.INK, style.MUTED):
        assert contrast(colour, page["light"]) > 4.5
        assert contrast(style.TINTS[colour][1], page["dark"]) > 4.5


def test_a_strategy_looks_the_same_whoever_is_beside_it():
    alone = style.looks(("SOLVER",))["SOLVER"]
    assert style.looks(("RR", "SOLVER", "mine"))["SOLVER"] is alone


def test_unknown_strategies_look_different():
    found = style.looks(("a", "b", "c", "d"))
    assert len({look.colour for look in found.values()}) == 4
    assert len({look.marker for look in found.values()}) == 4


def test_every_colour_has_one_name_on_the_page():
    tints = style.tints()
    names = [name for name, _ in tints.values()]
    assert len(names) == len(set(names))
