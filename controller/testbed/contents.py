"""Made-up contents of prompts: text of the right number of words, images of the right size."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from functools import lru_cache
from typing import Any, Final

import numpy as np

# Of no meaning, and nobody's: what a prompt says must not matter to anything that is measured.
WORDS: Final = [
    "amber",
    "birch",
    "copper",
    "delta",
    "ember",
    "fjord",
    "grove",
    "harbour",
    "island",
    "juniper",
    "kelp",
    "lantern",
    "meadow",
    "nectar",
    "orchard",
    "pebble",
    "quartz",
    "river",
    "saddle",
    "timber",
    "umber",
    "valley",
    "willow",
    "yarrow",
    "zephyr",
]
STEPS: Final = 50  # of diffusion


def prompts_of(
    modality: str, request_id: int, prompts: int, size: dict[str, float]
) -> list[dict[str, Any]]:
    """Return the prompts of a request as LM servers take them.

    ``size``: of one prompt, by the columns of :class:`controller.domain.profile.Prompt`. The same
    request always has the same contents.
    """
    source, _, kind = modality.partition("-to-")
    rng = np.random.default_rng(request_id)
    made = []
    for seed in rng.integers(0, 2**31, prompts).tolist():
        prompt: dict[str, Any] = {"seed": seed}
        if source == "image":
            prompt["image_base64"] = _image(max(1, round(side_of(size["input_megapixels"]))))
        else:
            words = rng.choice(len(WORDS), max(1, round(size["input_tokens"]))).tolist()
            prompt["text"] = " ".join(WORDS[word] for word in words)
        if kind == "image":
            side = max(8, 8 * round(side_of(size["output_megapixels"]) / 8))
            prompt |= {"width": side, "height": side, "steps": STEPS}
        else:
            prompt["output_tokens"] = max(1, round(size["output_tokens"]))
        made.append(prompt)
    return made


def side_of(megapixels: float) -> float:
    """Return the side of a square image in pixels."""
    return math.sqrt(megapixels * 1e6)


@lru_cache(maxsize=64)
def _image(side: int) -> str:
    """Return a PNG of ``side`` x ``side`` grey pixels, in base64."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    shades = (np.add.outer(np.arange(side), np.arange(side)) % 256).astype(np.uint8)
    rows = np.column_stack([np.zeros(side, np.uint8), shades])  # a filter byte before each row
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return base64.b64encode(content).decode()
