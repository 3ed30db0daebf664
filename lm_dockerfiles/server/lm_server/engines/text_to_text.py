"""Text generation by a causal language model: GPT-2, GPT-2-large and whatever AutoModel knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessorList, logging

from lm_server.engines.sampling import SeededSampling
from lm_server.engines.torch_engine import DTYPE, TorchEngine, placement

logging.set_verbosity_error()  # warnings may quote the prompt
logging.disable_progress_bar()


class TextToText(TorchEngine):
    """A causal language model that continues texts.

    A prompt has ``text``, ``output_tokens`` (at most that many are made) and ``seed``. A text that
    does not fit beside its output loses its beginning.
    """

    index = "config.json"
    kind = "a causal language model, such as GPT-2"
    most = 8
    warm_up = {"text": "a", "output_tokens": 2, "seed": 0}  # noqa: RUF012

    def _load(self) -> list[Any]:
        self._tokenizer = AutoTokenizer.from_pretrained(self._path, local_files_only=True)
        self._model = AutoModelForCausalLM.from_pretrained(
            self._path, dtype=DTYPE, **placement("auto")
        )
        config = self._model.config
        self._context: int = getattr(config, "max_position_embeddings", None) or 2048
        end = self._tokenizer.eos_token_id
        self._end: int = 0 if end is None else end
        return [self._model]

    def _compute(self, prompts: Sequence[dict[str, Any]]) -> list[bytes]:
        lengths = [min(one["output_tokens"], self._context - 1) for one in prompts]
        rows = [
            self._tokens(one["text"], self._context - new)
            for one, new in zip(prompts, lengths, strict=True)
        ]
        # Together, the longest text and the longest output must fit; else each by itself.
        if max(map(len, rows)) + max(lengths) > self._context:
            each = zip(prompts, rows, lengths, strict=True)
            return [self._generate([p], [row], [new])[0] for p, row, new in each]
        return self._generate(prompts, rows, lengths)

    def _tokens(self, text: str, most: int) -> list[int]:
        tokens: list[int] = self._tokenizer(text)["input_ids"] or [self._end]
        return tokens[-most:]

    def _generate(
        self, prompts: Sequence[dict[str, Any]], rows: list[list[int]], lengths: list[int]
    ) -> list[bytes]:
        """Return the continuation of each row of tokens, as UTF-8."""
        width = max(map(len, rows))
        padded = [[self._end] * (width - len(row)) + row for row in rows]  # on the left
        mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
        device = self._model.device
        made = self._model.generate(
            torch.tensor(padded, device=device),
            attention_mask=torch.tensor(mask, device=device),
            max_new_tokens=max(lengths),
            do_sample=False,  # the processor draws
            logits_processor=LogitsProcessorList([SeededSampling([p["seed"] for p in prompts])]),
            pad_token_id=self._end,
        )[:, width:].tolist()
        cut = [row[:new] for row, new in zip(made, lengths, strict=True)]
        texts = self._tokenizer.batch_decode(cut, skip_special_tokens=True)
        return [text.encode() for text in texts]
