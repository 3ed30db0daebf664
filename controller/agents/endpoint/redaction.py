"""Removes the key from all that a server sends, before anything else reads it.

A server can repeat the key in its answer, as it is or encoded. All text of a server passes
:meth:`Redactor.body` or :meth:`Redactor.text` on its way to transcripts, details, errors and logs.
Encodings that are in common use are known, also one within another; against a server that hides the
key on purpose nothing helps, but such a server has it already.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

SHORTEST: Final = 8  # characters; shorter keys ("EMPTY") are placeholders and ordinary words
MARK: Final = "***"

_LAYERS: Final = 5  # encodings within each other
_DECODINGS: Final = 30  # of one text; each takes time in proportion to its length
# Between two characters of a key: white space, and signs that nobody sees.
_GAP: Final = r"[\s\x00\u00ad\u200b-\u200f\u2060\ufeff]*"
_ESCAPE: Final = re.compile(r"\\+(?:u([0-9a-f]{4})|x([0-9a-f]{2})|([^ux\s]))", re.IGNORECASE)


class Redactor:
    """Replaces a key by a mark. A key that is no secret, or none, is left alone."""

    def __init__(self, key: str) -> None:
        self._pattern = _pattern(key) if len(key) >= SHORTEST else None

    def __repr__(self) -> str:
        return "Redactor(***)"

    def body(self, content: bytes) -> bytes:
        """Return an answer's body without the key. JSON is searched as it reads when decoded, then
        as it is written: a reader keeps the last of two fields of one name, messages quote both. A
        body without the key comes back as it is."""
        if self._pattern is None:
            return content
        try:
            data = json.loads(content)
            clean = self._data(data)
            written = content if clean == data else json.dumps(clean).encode()
        except (ValueError, RecursionError):
            written = content
        text = written.decode("utf-8", "replace")
        found = self.text(text)
        return written if found == text else found.encode("utf-8", "replace")

    def text(self, text: str) -> str:
        """Return a text without the key, whatever common encoding it has there. A text that shows
        the key again and again as it is decoded becomes a mark as a whole."""
        if self._pattern is None:
            return text
        text = decoded = self._pattern.sub(MARK, text)
        layers = 0  # without the key, from what is returned
        for _ in range(_DECODINGS):
            before, decoded = decoded, _decoded(decoded)
            layers += 1
            if layers > _LAYERS or decoded == before:
                return text
            if self._pattern.search(decoded):
                text = decoded = self._pattern.sub(MARK, decoded)
                layers = 0
        return MARK

    def _data(self, value: Any) -> Any:
        """Return JSON data without the key, in names as well as in values."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(name): self._data(one) for name, one in value.items()}
        if isinstance(value, list):
            return self._joined([self._data(one) for one in value])
        return value

    def _joined(self, parts: list[Any]) -> list[Any]:
        """Return a content's parts without a key that only shows when they are put together: the
        first then has all of their text."""
        for field in {name for part in parts if isinstance(part, dict) for name in part} | {None}:
            places = list(_texts(parts, field))
            whole = "".join(holder[place] for holder, place in places)
            clean = self.text(whole)
            for number, (holder, place) in enumerate(places if clean != whole else ()):
                holder[place] = "" if number else clean
        return parts


def _texts(parts: list[Any], field: str | None) -> Iterator[tuple[Any, Any]]:
    """Yield where the texts of a field stand. A part may be a text itself."""
    for place, part in enumerate(parts):
        if isinstance(part, str):
            yield parts, place
        elif isinstance(part, dict) and isinstance(part.get(field), str):
            yield part, field


def _pattern(key: str) -> re.Pattern[str]:
    """Return a pattern of the key, plain and in base64 or hexadecimal digits."""
    forms = {key, key.encode().hex()}
    for shift in range(3):  # by where in a longer text the key stands
        whole = base64.b64encode(b"\0" * shift + key.encode()).decode().rstrip("=")
        kept = whole[-(-shift * 8 // 6) : len(whole) - (1 if (shift + len(key)) % 3 else 0)]
        forms |= {kept, kept.replace("+", "-").replace("/", "_")}
    longest_first = sorted(forms, key=len, reverse=True)
    return re.compile(
        "|".join(_GAP.join(re.escape(sign) for sign in form) for form in longest_first),
        re.IGNORECASE,
    )


def _decoded(text: str) -> str:
    """Return a text with one layer of escapes less: JSON's, URLs', HTML's."""
    if not any(sign in text for sign in "\\%&"):
        return text
    return html.unescape(unquote(_ESCAPE.sub(_unescaped, text)))


def _unescaped(escape: re.Match[str]) -> str:
    digits = escape[1] or escape[2]
    return chr(int(digits, 16)) if digits else escape[3]
