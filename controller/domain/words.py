"""Words for a terminal: counts, and text from files and servers that must not act as code."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return the text with control characters, which a terminal would obey, as escapes; line ends
    and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )


def counted(number: int, noun: str) -> str:
    """Return "1 run", "2 runs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
