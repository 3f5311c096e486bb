"""An engine that answers at once: it shows what everything around the engine costs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.values import Pixels


class ImmediateEngine:
    """Gives every crop a score of 1 for the first class, without a look at it."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self._classes = classes

    @property
    def name(self) -> str:
        """Engine name."""
        return "null"

    @property
    def precision(self) -> str:
        """It calculates nothing."""
        return "none"

    @property
    def classes(self) -> tuple[str, ...]:
        """The settings' classes."""
        return self._classes

    @property
    def buckets(self) -> tuple[int, ...]:
        """As the real engines'."""
        return (1, 2, 4, 8, 16, 32, 64)

    def warm_up(self) -> Mapping[int, float]:
        """No bucket takes any time."""
        return dict.fromkeys(self.buckets, 0.0)

    def infer(self, crops: Pixels) -> NDArray[np.float32]:
        """Scores (n, classes) float32: 1 for the first class."""
        scores = np.zeros((len(crops), len(self._classes)), np.float32)
        scores[:, 0] = 1.0
        return scores

    def close(self) -> None:
        """Nothing to free."""
