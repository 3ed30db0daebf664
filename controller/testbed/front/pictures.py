"""Images that users send: data URIs, never addresses that a server would have to fetch."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from typing import Final

from controller.testbed.front.errors import invalid

MOST_IMAGE: Final = 8 * 2**20  # characters of base64
MOST_PIXELS: Final = 2**24
SCHEME: Final = re.compile(r"\s*data:", re.IGNORECASE)
HEAD: Final = re.compile(
    r"\s*data:image/[a-z0-9.+-]+(;[a-z0-9-]+=[^;,]*)*;base64$", re.IGNORECASE
)  # before the comma
JPEG_SIZES: Final = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def image_of(url: str, param: str) -> str:
    """Return the base64 of an image that a data URI holds.

    Raises:
        Refused: no data URI, too large, or no PNG, JPEG or WebP.
    """
    if not SCHEME.match(url[:16]):
        message = f"{param} must be a data URI (data:image/png;base64,...): nothing is fetched"
        raise invalid("unsupported_image_url", message, param)
    if len(url) > MOST_IMAGE:
        message = f"{param} has {len(url)} characters; at most {MOST_IMAGE} are taken"
        raise invalid("image_too_large", message, param)
    head, comma, text = url.partition(",")
    if not comma or not HEAD.match(head):
        raise invalid("invalid_image", f"{param} is no data URI of an image in base64", param)
    text = "".join(text.split())
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("invalid_image", f"{param} is not base64", param) from None
    pixels = pixels_of(content)
    if pixels is None:
        raise invalid("invalid_image", f"{param} is no PNG, JPEG or WebP", param)
    if pixels > MOST_PIXELS:
        message = f"{param} has {pixels} pixels; at most {MOST_PIXELS} are taken"
        raise invalid("image_too_large", message, param)
    return text


def pixels_of(content: bytes) -> int | None:
    """Return the pixels of an image by its header, 0 where that does not say, None for no image."""
    if content.startswith(b"\x89PNG\r\n\x1a\n") and content[12:16] == b"IHDR":
        return _product(">II", content[16:24])
    if content.startswith(b"\xff\xd8\xff"):
        return _jpeg_pixels(content)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return _webp_pixels(content)
    return None


def _jpeg_pixels(content: bytes) -> int:
    place = 2
    while place + 9 <= len(content) and content[place] == 0xFF:
        if content[place + 1] in JPEG_SIZES:
            return _product(">HH", content[place + 5 : place + 9]) or 0
        place += 2 + int(struct.unpack(">H", content[place + 2 : place + 4])[0])
    return 0


def _webp_pixels(content: bytes) -> int:
    kind = content[12:16]
    if kind == b"VP8X" and len(content) >= 30:
        width, height = (int.from_bytes(content[k : k + 3], "little") + 1 for k in (24, 27))
        return width * height
    if kind == b"VP8 " and len(content) >= 30:
        width, height = struct.unpack("<HH", content[26:30])
        return int((width & 0x3FFF) * (height & 0x3FFF))
    if kind == b"VP8L" and len(content) >= 25:
        bits = int.from_bytes(content[21:25], "little")
        return ((bits & 0x3FFF) + 1) * (((bits >> 14) & 0x3FFF) + 1)
    return 0


def _product(form: str, content: bytes) -> int | None:
    try:
        width, height = struct.unpack(form, content)
    except struct.error:
        return None
    return int(width * height)
