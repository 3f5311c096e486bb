"""Fluorescence beside predicted classes: how brightly each class shines, and what the brightest cells are.

As the paper looks at Evi1-GFP: every predicted class at each score threshold, the brightest share named, and the cells
of the top N % listed. Fluorescence is skewed, so beside the paper's ANOVA and t tests stands a test of ranks (Kruskal
and Wallis, *J. Am. Stat. Assoc.* 47:583, 1952). Cells that were not measured (NaN) have no part in any of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hspc_models.card import Rate
from hspc_models.compare import GroupComparison, compare_groups
from hspc_models.metrics import wilson

Values = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class ClassGlow:
    """One class, in counts; what is None cannot be said of so few. `quartiles` are the first, the median, the third."""

    name: str
    n: int
    mean: float | None
    sem: float | None
    quartiles: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True)
class GlowAt:
    """Fluorescence of the cells called at one threshold. `rank_p` is None where there is nothing to compare."""

    threshold: float
    classes: tuple[ClassGlow, ...]
    tests: GroupComparison | None
    rank_p: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        tests = None if self.tests is None else self.tests.to_json()
        return {
            "threshold": self.threshold,
            "classes": {
                one.name: {key: value for key, value in asdict(one).items() if key != "name"} for one in self.classes
            },
            "anova": tests and tests["anova"],
            "t_tests": [] if tests is None else tests["t_tests"],
            "kruskal_wallis_p": self.rank_p,
        }


@dataclass(frozen=True, slots=True)
class Brightest:
    """The brightest `percent` of the measured cells: `n`, from `at_least` counts up, and which classes they are."""

    percent: float
    n: int
    at_least: float
    shares: dict[str, Rate]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        shares = {name: rate.model_dump() for name, rate in self.shares.items()}
        return {"percent": self.percent, "n": self.n, "at_least": self.at_least, "shares": shares}


@dataclass(frozen=True, slots=True)
class AllOf:
    """The brightest `n` cells, `percent` of all measured, were all called `name`; the next was called another.

    `purity` has the interval of n of n. It is too kind, as the place to stop was chosen by looking.
    """

    name: str
    n: int
    percent: float
    purity: Rate

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"class": self.name, "n": self.n, "percent": self.percent, "purity": self.purity.model_dump()}


def glow_at(values: Values, scores: Values, threshold: float, classes: Sequence[str]) -> GlowAt:
    """Fluorescence (n,) by predicted class of the cells whose best score of (n, classes) reaches `threshold`."""
    called = measured(values) & (scores.max(axis=1) >= threshold)
    predicted = scores.argmax(axis=1)
    by_class = {name: values[called & (predicted == column)].astype(np.float64) for column, name in enumerate(classes)}
    present = {name: found for name, found in by_class.items() if len(found)}
    spread = [found for found in present.values() if found.min() < found.max()]
    return GlowAt(
        threshold,
        tuple(_described(name, found) for name, found in by_class.items()),
        compare_groups({name: found.tolist() for name, found in present.items()}) if len(present) > 1 else None,
        float(stats.kruskal(*present.values()).pvalue) if len(present) > 1 and spread else None,
    )


def measured(values: Values) -> NDArray[np.bool_]:
    """Which cells (n,) have a fluorescence."""
    return np.asarray(np.isfinite(values))


def ranking(values: Values) -> NDArray[np.intp]:
    """Rows of the measured cells, brightest first; of equally bright ones the earlier first."""
    order = np.argsort(-values.astype(np.float64), kind="stable")
    return np.asarray(order[measured(values)[order]])


def brightest(values: Values, predicted: NDArray[np.integer], classes: Sequence[str], percent: float) -> Brightest:
    """What the brightest `percent` of the measured cells (at least one) were called. Raises ValueError of no cell."""
    order = ranking(values)
    if not len(order):
        raise ValueError("no cell was measured")
    n = top_count(len(order), percent)
    counts = np.bincount(predicted[order[:n]], minlength=len(classes))
    shares = {name: wilson(int(count), n) for name, count in zip(classes, counts, strict=True)}
    return Brightest(percent, n, float(values[order[n - 1]]), shares)


def top_count(n: int, percent: float) -> int:
    """How many of n cells the top `percent` are: rounded to the nearest, at least one."""
    return max(1, math.floor(n * percent / 100 + 0.5))


def all_of_one(values: Values, predicted: NDArray[np.integer], classes: Sequence[str]) -> AllOf:
    """The longest run of brightest cells that were all called the same. Raises ValueError of no cell."""
    called = predicted[ranking(values)]
    if not len(called):
        raise ValueError("no cell was measured")
    other = np.flatnonzero(called != called[0])
    n = int(other[0]) if len(other) else len(called)
    return AllOf(classes[int(called[0])], n, 100 * n / len(called), wilson(n, n))


def _described(name: str, values: NDArray[np.float64]) -> ClassGlow:
    if not len(values):
        return ClassGlow(name, 0, None, None, None)
    first, median, third = (float(q) for q in np.percentile(values, (25, 50, 75)))
    sem = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
    return ClassGlow(name, len(values), float(values.mean()), sem, (first, median, third))
