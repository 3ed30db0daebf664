"""Weights that edgelm knows: source, pinned revision, licence, and files that must be there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from controller.domain.errors import InputError

DIFFUSION_PARTS: Final = ("unet", "vae")


@dataclass(frozen=True, slots=True)
class Source:
    """Weights on the hub.

    ``patterns`` keeps a download to what an engine reads: repositories hold the same weights in
    several formats. ``index`` is the file by which an engine knows its kind of model.
    """

    repository: str
    revision: str  # a commit: a branch would move under a campaign
    licence: str
    licence_url: str
    engine: str
    index: str
    patterns: tuple[str, ...]


_TRANSFORMERS: Final = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)

SOURCES: Final[dict[str, Source]] = {
    "gpt2": Source(
        repository="openai-community/gpt2",
        revision="607a30d783dfa663caf39e06633721c8d4cfcd7e",
        licence="MIT (modified)",
        licence_url="https://github.com/openai/gpt-2/blob/master/LICENSE",
        engine="text-to-text",
        index="config.json",
        patterns=_TRANSFORMERS,
    ),
    "gpt2-large": Source(
        repository="openai-community/gpt2-large",
        revision="32b71b12589c2f8d625668d2335a01cac3249519",
        licence="MIT (modified)",
        licence_url="https://github.com/openai/gpt-2/blob/master/LICENSE",
        engine="text-to-text",
        index="config.json",
        patterns=_TRANSFORMERS,
    ),
    "blip": Source(
        repository="Salesforce/blip-image-captioning-large",
        revision="353689b859fcf0523410b1806dace5fb46ecdf41",
        licence="BSD-3-Clause",
        licence_url="https://github.com/salesforce/BLIP/blob/main/LICENSE.txt",
        engine="image-to-text",
        index="config.json",
        patterns=_TRANSFORMERS,
    ),
    "sd15": Source(
        repository="stable-diffusion-v1-5/stable-diffusion-v1-5",
        revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        licence="CreativeML OpenRAIL-M: restricts uses, and asks to pass the restrictions on",
        licence_url="https://huggingface.co/spaces/CompVis/stable-diffusion-license",
        engine="text-to-image",
        index="model_index.json",
        patterns=(
            "model_index.json",
            "*/*config.json",
            "tokenizer/*",
            "*/model.safetensors",
            "*/diffusion_pytorch_model.safetensors",
        ),
    ),
}


def source_of(lm: str) -> Source:
    """Return the source of an LM's weights.

    Raises:
        InputError: no such LM.
    """
    if lm not in SOURCES:
        raise InputError(
            "models", "no such weights", value=lm, remedy=f"choose of {', '.join(SOURCES)}"
        )
    return SOURCES[lm]
