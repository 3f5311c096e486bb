"""The canary: a crop whose scores are known rides along with a batch once a second, and shows an engine that drifts.

It takes a free slot of the batch's bucket, so it costs nothing; a full batch is let pass, but only for so long. Where
no cell is classified nothing is decided, and nothing need be watched. In a chamber, where batches must hold the crops
of one field and nothing else, it is scored by itself behind every field.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.clock import NS_PER_S
from hspc_live.core.protocols import Engine
from hspc_live.core.values import Pixels

EVERY_NS = NS_PER_S
LATEST_NS = 2 * NS_PER_S
TOLERANCE = 0.02
"""How far its scores may move with bucket and neighbours: as far as an INT8 engine's do (parity's own limit)."""


@dataclass(slots=True, eq=False)
class Canary:
    """`crop` (S, S) and the scores (classes,) that the engine gave it when it was found to be sound."""

    crop: Pixels
    scores: NDArray[np.float32]
    rides: int = 0
    _last_ns: int = 0

    def rides_now(self, views: int, buckets: tuple[int, ...], now_ns: int) -> bool:
        """Whether it is time, and a batch of `views` has room: if so, it counts as ridden."""
        since = now_ns - self._last_ns
        if since < EVERY_NS or (views in buckets and since < LATEST_NS):
            return False
        self._last_ns = now_ns
        self.rides += 1
        return True

    def drift(self, scores: NDArray[np.float32]) -> str | None:
        """What is wrong with `scores` (classes,), the engine's for the canary just now."""
        if scores.shape != self.scores.shape:
            return f"the engine has drifted: its scores for a known crop are {scores.shape}, not {self.scores.shape}"
        worst = float(np.abs(scores - self.scores).max())
        if worst <= TOLERANCE:
            return None
        told = ", ".join(f"{score:.3f}" for score in scores.tolist())
        known = ", ".join(f"{score:.3f}" for score in self.scores.tolist())
        return f"the engine has drifted: it scores a known crop {told}, which it scored {known}"

    def ask(self, engine: Engine) -> str | None:
        """Have `engine` score it by itself; what is wrong with what it says."""
        scores = engine.infer(self.crop[np.newaxis])
        return self.drift(scores[0] if len(scores) else scores)


def canary_of(engine: Engine, crop: Pixels, dtype: np.dtype[np.uint8] | np.dtype[np.uint16]) -> Canary:
    """A canary of the uint8 `crop` (S, S), at the camera's depth, with what `engine` says of it now."""
    deep: Pixels = crop.astype(np.uint16) * 257 if dtype == np.uint16 else crop
    return Canary(deep, engine.infer(deep[np.newaxis])[0])
