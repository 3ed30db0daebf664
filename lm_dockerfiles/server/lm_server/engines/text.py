"""Text generation: a causal language model of transformers, such as GPT-2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lm_server.engines.stopped import Stopped
from lm_server.engines.torch_tools import (
    Phases,
    check_folder,
    device_options,
    out_of_memory_told,
    settings_of,
    to_device,
    use_threads,
)


class TextEngine:
    """A model that goes on with a text, greedily, so that the same prompt gives the same text.

    Args:
        path: folder of ``save_pretrained``: weights and tokenizer.

    Raises:
        NoModel: the folder has no model.
    """

    emulated = False

    def __init__(self, path: Path) -> None:
        check_folder(path, "config.json")
        self._path = path
        self.batch = int(settings_of(path)["batch"])
        self._phases = Phases()
        self._model: Any = None
        self._tokenizer: Any = None

    @property
    def phases(self) -> dict[str, float]:
        return self._phases.seconds

    def load(self) -> None:
        with self._phases.timed("import"):
            from transformers import AutoModelForCausalLM, AutoTokenizer
        with self._phases.timed("weights"):
            use_threads()
            self._tokenizer = AutoTokenizer.from_pretrained(self._path, padding_side="left")
            if self._tokenizer.pad_token is None:
                self._tokenizer.pad_token = self._tokenizer.eos_token
            model = AutoModelForCausalLM.from_pretrained(
                self._path, low_cpu_mem_usage=True, **device_options()
            )
            self._model = to_device(model).eval()
        with self._phases.timed("warm_up"):
            self.run([{"text": "Hello", "output_tokens": 1}], lambda: False, lambda: None)

    def run(
        self,
        prompts: Sequence[dict[str, Any]],
        stopped: Callable[[], bool],
        beat: Callable[[], None],
    ) -> list[bytes]:
        import torch
        from transformers import StoppingCriteriaList

        use_threads()
        wanted = [int(one["output_tokens"]) for one in prompts]
        # What does not fit before the answer is cut off at its beginning.
        room = max(1, int(self._model.config.max_position_embeddings) - max(wanted))
        self._tokenizer.truncation_side = "left"
        given = self._tokenizer(
            [one["text"] or self._tokenizer.eos_token for one in prompts],
            return_tensors="pt", padding=True, truncation=True, max_length=room,
        ).to(self._model.device)  # fmt: skip
        watch = EveryToken(stopped, beat)
        with out_of_memory_told(), torch.inference_mode():
            found = self._model.generate(
                **given, max_new_tokens=max(wanted), do_sample=False,
                pad_token_id=self._tokenizer.pad_token_id,
                stopping_criteria=StoppingCriteriaList([watch]),
            )  # fmt: skip
        if watch.has_stopped:
            raise Stopped
        answers = found[:, given["input_ids"].shape[1] :]
        return [
            self._tokenizer.decode(answer[:count], skip_special_tokens=True).encode()
            for answer, count in zip(answers, wanted, strict=True)
        ]


class EveryToken:
    """Stopping criterion that beats, and stops the batch when it is not wanted any more."""

    def __init__(self, stopped: Callable[[], bool], beat: Callable[[], None]) -> None:
        self._stopped, self._beat = stopped, beat
        self.has_stopped = False

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        del scores, kwargs
        import torch

        self._beat()
        self.has_stopped = self.has_stopped or self._stopped()
        return torch.full((input_ids.shape[0],), self.has_stopped, device=input_ids.device)
