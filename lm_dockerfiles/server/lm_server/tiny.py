"""Tiny models with random weights, of the same kinds as the paper's four: for tests, in seconds.

They load through the same ``from_pretrained`` as the real ones. What they say means nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

POSITIONS: Final = 512  # tokens at most
SIDE: Final = 64  # pixels of an image that the pipeline draws by itself


def build(folder: Path) -> dict[str, Path]:
    """Write all of ``MODELS`` under ``folder``; return their folders by name."""
    import torch

    found = {}
    for name, make in MODELS.items():
        torch.manual_seed(0)
        make(folder / name)
        found[name] = folder / name
    return found


def _letters() -> dict[str, int]:
    """Return a vocabulary of one token per byte, in GPT-2's spelling of bytes, and an end."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    return {"<|endoftext|>": 0, **{letter: k + 1 for k, letter in enumerate(letters)}}


def _gpt2(layers: int, width: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

        letters = _letters()
        config = GPT2Config(
            vocab_size=len(letters), n_positions=POSITIONS, n_embd=width, n_layer=layers, n_head=2,
            bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        GPT2LMHeadModel(config).save_pretrained(folder)
        GPT2TokenizerFast(vocab=letters, merges=[]).save_pretrained(folder)
        (folder / "serving.json").write_text(json.dumps({"batch": 4}))

    return make


def _blip(folder: Path) -> None:
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
        BlipTextConfig,
        BlipVisionConfig,
    )

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
    words += [*"abcdefghijklmnopqrstuvwxyz", "dog", "cat", "red", "blue", "on", "grass"]
    vocabulary = {word: k for k, word in enumerate(words)}
    size: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                            "intermediate_size": 64}  # fmt: skip
    # A vocabulary this small needs its special tokens inside it.
    text = BlipTextConfig(
        vocab_size=len(words), bos_token_id=5, eos_token_id=3, pad_token_id=0, sep_token_id=3,
        max_position_embeddings=POSITIONS, projection_dim=32, encoder_hidden_size=32, **size,
    )  # fmt: skip
    vision = BlipVisionConfig(image_size=32, patch_size=8, projection_dim=32, **size)
    config = BlipConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=32,
        image_text_hidden_size=32,
    )  # fmt: skip
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipProcessor(
        BlipImageProcessor(size={"height": 32, "width": 32}), BertTokenizerFast(vocab=vocabulary)
    ).save_pretrained(folder)


def _stable_diffusion(folder: Path) -> None:
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in "abcdefghijklmnopqrstuvwxyz0123456789 ,.":
        letters.setdefault(letter, len(letters))
        letters.setdefault(f"{letter}</w>", len(letters))
    text = CLIPTextConfig(
        vocab_size=len(letters), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=77, bos_token_id=0, eos_token_id=1,
        pad_token_id=1,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=SIDE // 8, in_channels=4, out_channels=4, layers_per_block=1,
        block_out_channels=(32, 64), norm_num_groups=8, cross_attention_dim=32,
        attention_head_dim=8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, norm_num_groups=8, sample_size=SIDE,
        block_out_channels=(8, 8, 16, 16), layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    tokenizer = CLIPTokenizer(vocab=letters, merges=[], model_max_length=77)
    StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip


MODELS: Final[Mapping[str, Callable[[Path], None]]] = {
    "gpt2": _gpt2(layers=2, width=64),
    "gpt2-large": _gpt2(layers=4, width=96),
    "blip": _blip,
    "stable-diffusion": _stable_diffusion,
}
