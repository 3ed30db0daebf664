"""Numbers, lists and comparisons in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import floor, isnan, log10
from typing import Final

NONE: Final = "\u2013"  # a dash where there is no number
SPACE: Final = "\u00a0"  # a number and its unit stay together


def percent(share: float) -> str:
    """Write a share in per cent that is 0 or 100 only where it is exactly that."""
    if isnan(share):
        return NONE
    if 0 < share < 0.001:
        return f"under 0.1{SPACE}%"
    if 0.999 < share < 1:
        return f"over 99.9{SPACE}%"
    return f"{100 * share:.1f}".removesuffix(".0") + f"{SPACE}%"


def significant(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits, never in powers of ten."""
    if isnan(value):
        return NONE
    if value == 0:
        return "0"
    places = max(0, digits - 1 - floor(log10(abs(value))))
    return f"{value:,.{places}f}"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: 1 epoch, 2 epochs."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def known(number: int | None) -> str:
    """Write a number that may be unknown."""
    return "unknown" if number is None else str(number)


def ranges(numbers: Iterable[int]) -> str:
    """Write 1, 2, 3, 7 as "1 to 3, 7"."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(_span(first, last) for first, last in spans)


def listed(words: Iterable[str]) -> str:
    """Write a list as "a, b and c"."""
    *most, last = list(words) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def tied(
    values: Mapping[str, float], write: Callable[[float], str], *, highest: bool = False
) -> list[str]:
    """Return the names whose value reads the same as the best one's."""
    best = write((max if highest else min)(values.values()))
    return [name for name, value in values.items() if write(value) == best]


def subject(names: list[str], one: str, several: str) -> str:
    """Write names with the verb's form for their number: "A has", "A and B have"."""
    return f"{listed(names)} {one if len(names) == 1 else several}"


def leading(
    values: Mapping[str, float], best: list[str], one: str, several: str, alike: str
) -> str:
    """Write who is best as :func:`subject` does, or ``alike`` if several are compared and all of
    them are."""
    return alike if 1 < len(values) == len(best) else subject(best, one, several)


def _span(first: int, last: int) -> str:
    if first == last:
        return str(first)
    return f"{first} to {last}" if last > first + 1 else f"{first}, {last}"
