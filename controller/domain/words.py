"""Text from files and servers, fit for a terminal."""

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
