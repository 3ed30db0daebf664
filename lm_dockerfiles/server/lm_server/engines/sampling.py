"""Sampling of tokens with a generator per prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch

TOP: Final = 50  # likeliest tokens that are drawn from


class SeededSampling:
    """A logits processor that draws each row's token by the row's own seed.

    It adds Gumbel noise to the likeliest tokens, so that the greatest sum is a sample of them
    (the Gumbel-max trick) and ``generate`` can run without its one generator for all rows: a
    prompt's tokens do not depend on the prompts beside it.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed % 2**63) for seed in seeds]

    def __call__(self, _tokens: Any, scores: Any) -> Any:
        """Return scores (rows, vocabulary) whose greatest is the sample; the rest is -inf."""
        best, places = scores.float().topk(min(TOP, scores.shape[-1]))
        uniform = torch.stack(
            [torch.rand(best.shape[-1], generator=one) for one in self._generators]
        ).to(best.device)
        noise = -torch.log(-torch.log(uniform.clamp(1e-10, 1 - 1e-7)))
        return torch.full_like(scores, -torch.inf, dtype=torch.float).scatter(
            -1, places, best + noise
        )
