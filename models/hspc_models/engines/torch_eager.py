"""The reference engine: plain PyTorch, float32, on CPU or CUDA. Other engines are judged by its scores.

A convolution in evaluation mode treats every row alone, so padding changes nothing. The same batch gives the same bits.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hspc_live.core.errors import ModelError
from hspc_live.core.values import Pixels
from hspc_models.card import Card
from hspc_models.engines.bucketed import BucketedEngine, closed
from hspc_models.network import CellNet, ScoringNet, channels_last


class TorchEagerEngine(BucketedEngine):
    """A network behind `core.protocols.Engine`. `threads` is torch's thread count, global to the process."""

    def __init__(
        self,
        card: Card,
        network: CellNet,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        threads: int = 2,
        buckets: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64),
    ) -> None:
        super().__init__(card, buckets)
        if device == "cuda" and not torch.cuda.is_available():
            raise ModelError("engine.device is cuda, but torch finds no CUDA device here; use auto or cpu")
        torch.set_num_threads(threads)
        cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
        self._device = torch.device("cuda" if cuda else "cpu")
        if cuda:  # the reference is exact float32, and the same batch must give the same bits
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.benchmark = False
        module = ScoringNet(network.float(), card.temperature, card.symmetries).eval().to(self._device)
        channels_last(module)
        self._module: ScoringNet | None = module

    @property
    def name(self) -> str:
        """Engine and device."""
        return f"torch-eager/{self._device.type}"

    @property
    def precision(self) -> str:
        """Arithmetic of the network."""
        return "fp32"

    def close(self) -> None:
        """Let go of the network; afterwards `infer` raises ModelError."""
        self._module = None

    def _run(self, crops: Pixels) -> NDArray[np.float32]:
        if self._module is None:
            raise closed()
        with torch.inference_mode():
            scores = self._module(torch.from_numpy(crops).to(self._device))
        result: NDArray[np.float32] = scores.cpu().numpy()
        return result
