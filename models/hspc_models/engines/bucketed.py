"""What all engines that run a network share: fixed batch sizes, padding, refusals, and how bucket times are measured.

Batches are padded to the next bucket, because a bucket's time has been measured and the sort process plans with it;
more crops than the largest bucket are taken in turns.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import ModelError
from hspc_live.core.values import Pixels
from hspc_models.card import Card

_WARM_RUNS = 1
_TIMED_RUNS = 40
_TIMED_SECONDS = 0.5

NO_MEMORY = ("out of memory", "not enough memory", "outofmemory", "alloc_failed")
"""How libraries say that there is no memory."""


class BucketedEngine(ABC):
    """`core.protocols.Engine` but for the arithmetic. `_run` is given a whole bucket. Raises ModelError: no bucket."""

    def __init__(self, card: Card, buckets: tuple[int, ...]) -> None:
        if not buckets or min(buckets) < 1:
            raise ModelError(f"engine.buckets must be batch sizes of at least 1, not {buckets}")
        self._card = card
        self._buckets = tuple(sorted(set(buckets)))

    @property
    @abstractmethod
    def name(self) -> str:
        """Engine and device."""

    @property
    @abstractmethod
    def precision(self) -> str:
        """Arithmetic of the network."""

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
        """Scores (n, classes) float32; NaN where a crop is not finite.

        Raises ModelError on another crop size, MemoryError where the device has no memory for the bucket.
        """
        size = self._card.crop_px
        if crops.ndim != 3 or crops.shape[1:] != (size, size):
            raise ModelError(f"crops have shape {crops.shape}; model {self._card.name} takes (n, {size}, {size})")
        scores = np.empty((len(crops), len(self.classes)), np.float32)
        largest = self._buckets[-1]
        found = self._run_all(self._padded(crops))
        for start in range(0, len(crops), largest):
            rows = scores[start : start + largest]
            try:
                rows[:] = next(found)[: len(rows)]
            except RuntimeError as error:  # of torch, CUDA, OpenVINO: each has a class of its own below this one
                if any(words in str(error).lower() for words in NO_MEMORY):
                    bucket = self._bucket(len(rows))
                    raise MemoryError(f"{self.name}, a batch of {bucket}: {str(error).splitlines()[0]}") from error
                raise
        return scores

    def _padded(self, crops: Pixels) -> Iterator[Pixels]:
        """The crops in turns of at most the largest bucket, each filled up to one."""
        for start in range(0, len(crops), self._buckets[-1]):
            chunk = crops[start : start + self._buckets[-1]]
            padded = np.zeros((self._bucket(len(chunk)), *crops.shape[1:]), crops.dtype)
            padded[: len(chunk)] = chunk
            yield padded

    def _bucket(self, crops: int) -> int:
        """The least that holds so many."""
        return next(size for size in self._buckets if size >= crops)

    def _run_all(self, turns: Iterator[Pixels]) -> Iterator[NDArray[np.float32]]:
        """Scores of each turn, in order. An engine that can begin one while another is under way does so here."""
        return map(self._run, turns)

    @abstractmethod
    def close(self) -> None:
        """Let go of the network; afterwards `infer` raises ModelError; harmless when called twice."""

    @abstractmethod
    def _run(self, crops: Pixels) -> NDArray[np.float32]:
        """Scores (bucket, classes) of one whole bucket of crops."""


def closed() -> ModelError:
    """What `infer` raises after `close`."""
    return ModelError("the engine has been closed")
