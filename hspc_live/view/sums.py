"""The screen's figures as pure functions: percentiles of counts, purity by scores, durations. No Qt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959964


def percentile_ms(counts: NDArray[np.uint32], percent: float) -> float | None:
    """The percentile of latencies counted by whole milliseconds, as the upper end of its bin; None without any.

    The last bin has no upper end: what falls into it is infinite.
    """
    total = int(counts.sum())
    if total == 0:
        return None
    place = int(np.searchsorted(np.cumsum(counts), math.ceil(total * percent / 100.0)))
    return math.inf if place >= len(counts) - 1 else float(place + 1)


@dataclass(frozen=True, slots=True)
class Purity:
    """A share of the wanted among `cells`, with its 95 % interval."""

    share: float
    low: float
    high: float
    cells: int


def purity_by_scores(
    sums: Sequence[float], classes: Sequence[str], wanted: frozenset[str], cells: int
) -> Purity | None:
    """The purity of `cells` sorted cells as their scores have it; None without cells or a wanted class.

    `sums` are the sums of their scores, by class. As far as scores are probabilities, the mean score of the wanted is
    the expected purity. The interval is Wilson's (1927) for that share among so many cells: the scores' own spread is
    never wider than that of a share of their mean, so it is, if anything, too wide.
    """
    if cells <= 0 or not wanted or len(sums) != len(classes):
        return None
    share = min(1.0, sum(total for name, total in zip(classes, sums, strict=True) if name in wanted) / cells)
    z2 = Z95 * Z95
    middle = (share + z2 / (2 * cells)) / (1 + z2 / cells)
    half = Z95 / (1 + z2 / cells) * math.sqrt(share * (1 - share) / cells + z2 / (4 * cells * cells))
    return Purity(share, max(0.0, middle - half), min(1.0, middle + half), cells)


def long_words(seconds: float | None) -> str:
    """A duration for a person."""
    if seconds is None:
        return "measuring"
    if seconds > 99 * 3600:
        return "more than 99 h"
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
