"""The reference engine: plain PyTorch, float32, on CPU or CUDA. Other engines are judged by its scores.

Batches are padded to the next bucket, because a bucket's time has been measured and the sort process plans with it; a
convolution in evaluation mode treats every row alone, so padding changes nothing. The same batch gives the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hspc_live.core.errors import ModelError
from hspc_live.core.values import Pixels
from hspc_models.card import Card
from hspc_models.network import CellNet, ScoringNet, channels_last

_WARM_RUNS = 1
_TIMED_RUNS = 40
_TIMED_SECONDS = 0.5


class TorchEagerEngine:
    """A network behind `core.protocols.Engine`. `threads` is torch's thread count, global to the process."""

    def __init__(
        self,
        card: Card,
        network: CellNet,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        threads: int = 2,
        buckets: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64),
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise ModelError("engine.device is cuda, but torch finds no CUDA device here; use auto or cpu")
        if not buckets or min(buckets) < 1:
            raise ModelError(f"engine.buckets must be batch sizes of at least 1, not {buckets}")
        torch.set_num_threads(threads)
        cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
        self._device = torch.device("cuda" if cuda else "cpu")
        if cuda:  # the reference is exact float32, and the same batch must give the same bits
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.benchmark = False
        self._card = card
        self._buckets = tuple(sorted(set(buckets)))
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

    @property
    def classes(self) -> tuple[str, ...]:
        """The card's classes, in the order of the columns."""
        return self._card.classes

    @property
    def buckets(self) -> tuple[int, ...]:
        """Batch sizes that run unpadded."""
        return self._buckets

    def warm_up(self) -> Mapping[int, float]:
        """p99 milliseconds a bucket, over 40 runs or half a second (of few runs, about the slowest)."""
        p99_ms: dict[int, float] = {}
        size = self._card.crop_px
        noise = np.random.default_rng(0).integers(0, 256, (self._buckets[-1], size, size), dtype=np.uint8)
        for bucket in self._buckets:
            for _ in range(_WARM_RUNS):
                self.infer(noise[:bucket])
            times_ms: list[float] = []
            began = time.perf_counter()
            while len(times_ms) < _TIMED_RUNS and (len(times_ms) < 3 or time.perf_counter() - began < _TIMED_SECONDS):
                start = time.perf_counter()
                self.infer(noise[:bucket])
                times_ms.append((time.perf_counter() - start) * 1e3)
            p99_ms[bucket] = float(np.percentile(times_ms, 99))
        return p99_ms

    def infer(self, crops: Pixels) -> NDArray[np.float32]:
        """Scores (n, classes) float32; NaN where a crop is not finite. Raises ModelError on another crop size."""
        size = self._card.crop_px
        if crops.ndim != 3 or crops.shape[1:] != (size, size):
            raise ModelError(f"crops have shape {crops.shape}; model {self._card.name} takes (n, {size}, {size})")
        scores = np.empty((len(crops), len(self.classes)), np.float32)
        largest = self._buckets[-1]
        for start in range(0, len(crops), largest):
            chunk = crops[start : start + largest]
            scores[start : start + len(chunk)] = self._run(chunk)
        return scores

    def close(self) -> None:
        """Let go of the network; afterwards `infer` raises ModelError."""
        self._module = None

    def _run(self, crops: Pixels) -> NDArray[np.float32]:
        """One padded batch of at most the largest bucket."""
        if self._module is None:
            raise ModelError("the engine has been closed")
        bucket = next(size for size in self._buckets if size >= len(crops))
        padded = np.zeros((bucket, *crops.shape[1:]), crops.dtype)
        padded[: len(crops)] = crops
        with torch.inference_mode():
            scores = self._module(torch.from_numpy(padded).to(self._device))
        result: NDArray[np.float32] = scores[: len(crops)].cpu().numpy()
        return result
