"""Watch over a running network: signs of life, and the end of a batch that is not wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lm_server.engines.stopped import Stopped


class Watch:
    """Hooks on the blocks of networks, which ask and beat while a batch is computed.

    A block (a layer of a transformer, a stage of a UNet) is smaller than a token or a denoising
    step, and every architecture has them: a long prompt, an image encoder or the decoder of a
    latent image neither hides a stop nor looks like a hung engine.
    """

    def __init__(self) -> None:
        self._stopped: Callable[[], bool] = lambda: False
        self._beat: Callable[[], None] = lambda: None

    def over(self, network: Any) -> None:
        """Look after each block of a network from now on."""
        for module in network.modules():
            if isinstance(module, torch.nn.ModuleList):
                for block in module:
                    block.register_forward_hook(self._look)

    @contextmanager
    def during(self, stopped: Callable[[], bool], beat: Callable[[], None]) -> Iterator[None]:
        """Ask ``stopped`` and call ``beat`` while the context lasts.

        Raises:
            Stopped: out of the network, at the first block after ``stopped`` has become true.
        """
        before = self._stopped, self._beat
        self._stopped, self._beat = stopped, beat
        try:
            self._look()
            yield
        finally:
            self._stopped, self._beat = before

    def _look(self, *_: Any) -> None:
        self._beat()
        if self._stopped():
            raise Stopped
