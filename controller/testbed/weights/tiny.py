"""Tiny models with random weights: the same classes and files as the real ones, in seconds.

Their answers mean nothing; everything around the numbers is real. Needs the extra ``lm``.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2TokenizerFast,
    logging,
)

END: Final = "<|endoftext|>"
IMAGE: Final = 64  # pixels of a side
CLIP_IMAGE: Final = 32  # pixels of a side, for the safety checker
CLIP_TOKENS: Final = 77  # of a prompt, as in Stable Diffusion


def build(lm: str, folder: Path, seed: int) -> None:
    """Save a tiny model of an LM of the catalog into a folder."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(seed)
    _BUILDERS[lm](folder)


def _gpt2(layers: int) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        vocab = {character: k for k, character in enumerate(sorted(ByteLevel.alphabet()))}
        vocab[END] = len(vocab)
        config = GPT2Config(
            vocab_size=len(vocab),
            n_positions=1024,
            n_embd=64,
            n_layer=layers,
            n_head=4,
            bos_token_id=vocab[END],
            eos_token_id=vocab[END],
        )
        GPT2LMHeadModel(config).save_pretrained(folder)
        GPT2TokenizerFast(vocab=vocab, merges=[]).save_pretrained(folder)

    return save


def _blip(folder: Path) -> None:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    words = ["a", "of", "the", "photo", "cat", "dog", "street", "with", "red", "green"]
    tokens = dict.fromkeys([*special, *letters, *(f"##{one}" for one in letters), *words])
    vocab = {token: k for k, token in enumerate(tokens)}
    layers = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
              "num_attention_heads": 4}  # fmt: skip
    text: dict[str, Any] = {
        **layers,
        "vocab_size": len(vocab),
        "encoder_hidden_size": 64,
        "max_position_embeddings": 512,
        "pad_token_id": vocab["[PAD]"],
        "bos_token_id": vocab["[DEC]"],
        "eos_token_id": vocab["[CLS]"],  # the real one's is unused, too: captions end by [SEP]
        "sep_token_id": vocab["[SEP]"],
    }
    vision = {**layers, "image_size": IMAGE, "patch_size": 16}
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=64)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    size = {"height": IMAGE, "width": IMAGE}
    tokenizer = BertTokenizerFast(vocab=vocab, bos_token="[DEC]")  # noqa: S106
    processor = BlipProcessor(BlipImageProcessor(size=size), tokenizer)
    processor.save_pretrained(folder)


def _stable_diffusion(folder: Path) -> None:
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    tokens = [*letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", END]
    vocab = {token: k for k, token in enumerate(tokens)}
    text = CLIPTextConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CLIP_TOKENS,
        bos_token_id=vocab["<|startoftext|>"],
        eos_token_id=vocab[END],
        pad_token_id=vocab[END],
    )
    unet = UNet2DConditionModel(
        sample_size=IMAGE // 8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=32,
        attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    vae = AutoencoderKL(
        block_out_channels=(16, 16, 16, 32),  # four: an image has 8 times the latents' side
        latent_channels=4,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer(vocab=vocab, merges=[], model_max_length=CLIP_TOKENS),
        unet=unet,
        scheduler=PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            skip_prk_steps=True,
            steps_offset=1,
        ),
        safety_checker=_safety_checker(),
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": CLIP_IMAGE},
            crop_size={"height": CLIP_IMAGE, "width": CLIP_IMAGE},
        ),
    ).save_pretrained(folder)


def _safety_checker() -> Any:
    """Return a checker that looks at each image and lets it pass."""
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
              "num_attention_heads": 4, "image_size": CLIP_IMAGE, "patch_size": 8}  # fmt: skip
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=32))
    for threshold in (checker.concept_embeds_weights, checker.special_care_embeds_weights):
        threshold.data.fill_(2.0)  # beyond every cosine
    return checker


_BUILDERS: Final[dict[str, Callable[[Path], None]]] = {
    "gpt2": _gpt2(layers=2),
    "gpt2-large": _gpt2(layers=6),
    "blip": _blip,
    "sd15": _stable_diffusion,
}
