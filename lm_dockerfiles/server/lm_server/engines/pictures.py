"""Images of prompts: decoded within limits."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any, Final

from PIL import Image

MOST_PIXELS: Final = 2**24  # a small file can unpack to gigabytes
FORMATS: Final = ("PNG", "JPEG", "WEBP")


class NoImage(ValueError):
    """A prompt without an image, or with one that cannot be read."""


class ImageTooLarge(ValueError):
    """An image with more than MOST_PIXELS."""


def decode(image_base64: str) -> Any:
    """Return an RGB image of Pillow.

    Raises:
        NoImage: nothing there, not base64, not one of FORMATS, or torn.
        ImageTooLarge: more than MOST_PIXELS; it is not unpacked.
    """
    try:
        content = base64.b64decode(image_base64, validate=True)
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MOST_PIXELS:
            raise ImageTooLarge
        return image.convert("RGB")
    except Image.DecompressionBombError:
        raise ImageTooLarge from None
    except (binascii.Error, OSError, SyntaxError) as error:
        raise NoImage from error
