"""Text generation by llama.cpp over one GGUF file: small quantised models, no PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import llama_cpp

from lm_server.engines.bad_model import BadModel
from lm_server.engines.stopped import Stopped
from lm_server.threads import engine_threads

MAGIC: Final = b"GGUF"
CONTEXT: Final = 4096  # tokens of a prompt and its output, at most


class Llama:
    """A language model in a GGUF file.

    A prompt has ``text``, ``output_tokens`` (at most that many are made) and ``seed``. The text is
    continued as it is, without a template of conversations. One that does not fit beside its
    output loses its beginning.

    Args:
        path: the file.
    """

    emulated = False
    batch = 1  # one context, one prompt: a second one would wait for the first

    def __init__(self, path: Path) -> None:
        self._path = path
        self.phases: dict[str, float] = {}  # seconds of each part of ``load``
        self._stopped: Callable[[], bool] = lambda: False
        self._beat: Callable[[], None] = lambda: None

    def load(self) -> None:
        """Map the weights and compute one prompt.

        Raises:
            BadModel: not a GGUF file that llama.cpp reads.
        """
        began_s = time.monotonic()
        remedy = "give a whole GGUF file of a language model"
        if not self._path.is_file():
            raise BadModel("it is not a file", remedy)
        with self._path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise BadModel("it does not begin as GGUF does", remedy)
        try:
            self._model = llama_cpp.Llama(
                str(self._path), n_ctx=CONTEXT, n_gpu_layers=-1, verbose=False
            )
        except (ValueError, RuntimeError) as error:
            raise BadModel(str(error), remedy) from error
        # llama.cpp asks in each node of its graph: also a long prompt can be stopped.
        self._asked = llama_cpp.ggml_abort_callback(self._look)
        llama_cpp.llama_set_abort_callback(self._model.ctx, self._asked, None)
        loaded_s = time.monotonic()
        self.run([{"text": "a", "output_tokens": 2, "seed": 0}], lambda: False, lambda: None)
        self.phases = {"weights": loaded_s - began_s, "warm_up": time.monotonic() - loaded_s}

    def run(
        self,
        prompts: Sequence[dict[str, Any]],
        stopped: Callable[[], bool],
        beat: Callable[[], None],
    ) -> list[bytes]:
        threads = engine_threads()
        llama_cpp.llama_set_n_threads(self._model.ctx, threads, threads)
        self._stopped, self._beat = stopped, beat
        return [self._generate(prompt) for prompt in prompts]

    def _generate(self, prompt: dict[str, Any]) -> bytes:
        """Return the continuation of one prompt, as UTF-8."""
        new = min(prompt["output_tokens"], CONTEXT - 1)
        tokens = self._tokens(prompt["text"])[-(CONTEXT - new) :]
        self._model.reset()  # no remains of other prompts: the same seed is the same answer
        parts = []
        try:
            for part in self._model.create_completion(
                tokens, max_tokens=new, seed=prompt["seed"] % 2**32, stream=True
            ):
                parts.append(part["choices"][0]["text"])
                if self._look():
                    raise Stopped
        except RuntimeError as error:
            if self._stopped():  # llama.cpp tells an aborted computation as a failed one
                raise Stopped from error
            raise
        return "".join(parts).strip().encode()

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = self._model.tokenize(text.encode(), add_bos=True, special=False)
        return tokens

    def _look(self, _: Any = None) -> bool:
        """Beat, and return whether the batch is not wanted any more."""
        self._beat()
        return self._stopped()
