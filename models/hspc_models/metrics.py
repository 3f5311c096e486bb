"""How good predictions are: confusion, consistency rates, precision, F1 and their averages. Pure functions on arrays.

*Consistency rate*, as in the paper: the share of a sorted class that the model puts into that class (recall). Labels
from sorting are not truth, so it is not called accuracy; on the twin, where truth is known, the word stays the same.

Every interval is a 95 % one: from a bootstrap over groups (over cells where there are none), and never narrower than
what holds for independent cells in closed form, which alone stays honest at 0 and 1, where a bootstrap has no spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hspc_models.card import Rate
from hspc_models.resample import (
    DRAWS,
    NOTHING,
    SEED,
    Estimate,
    drawn_tables,
    estimate,
    group_tables,
    members_of,
    percentiles,
)

Floats = NDArray[np.floating]
Labels = NDArray[np.integer]
_Tables = NDArray[np.float64]


def confusion(labels: Labels, predicted: Labels, classes: int) -> NDArray[np.int64]:
    """Counts (classes, classes): true class (rows) × predicted class (columns)."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (labels, predicted), 1)
    return table


def balanced_accuracy(table: NDArray[np.int64]) -> float:
    """Mean consistency rate of the classes that occur; NaN for an empty table."""
    return float(_mean_of_present(_recall(table[None].astype(float)), table[None])[0])


def wilson(hits: int, n: int) -> Rate:
    """A share with its 95 % score interval (Wilson 1927); 0 of 0 is known to lie in [0, 1]."""
    if n == 0:
        return Rate(rate=0.0, low=0.0, high=1.0, n=0)
    z = 1.959964
    p = hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Rate(rate=p, low=max(0.0, min(p, middle - half)), high=min(1.0, max(p, middle + half)), n=n)


def softmax(logits: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """Scores (n, classes) of logits (n, classes), divided by the temperature first."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    powers = np.exp(scaled)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class: `n` cells are of it, `predicted` were called so. `f1` is NaN where neither is anything."""

    n: int
    predicted: int
    consistency: Rate
    precision: Rate
    f1: Estimate


@dataclass(frozen=True, slots=True)
class Average:
    """Precision, recall and F1 averaged over the classes that occur."""

    precision: Estimate
    recall: Estimate
    f1: Estimate


@dataclass(frozen=True, slots=True)
class Figures:
    """What a table of predictions says. `balanced_accuracy` is the macro average of the consistency rates.

    `macro` counts every class alike, `weighted` by its cells; `units` is the number of groups (or cells) drawn.
    """

    classes: dict[str, ClassFigures]
    confusion: tuple[tuple[int, ...], ...]
    accuracy: Rate
    balanced_accuracy: Estimate
    macro: Average
    weighted: Average
    units: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "n": self.accuracy.n,
            "units": self.units,
            "confusion": [list(row) for row in self.confusion],
            "accuracy": self.accuracy.model_dump(),
            "balanced_accuracy": self.balanced_accuracy.to_json(),
            "classes": {
                name: {
                    "n": one.n,
                    "predicted": one.predicted,
                    "consistency_rate": one.consistency.model_dump(),
                    "precision": one.precision.model_dump(),
                    "f1": one.f1.to_json(),
                }
                for name, one in self.classes.items()
            },
            "macro": _average_json(self.macro),
            "weighted": _average_json(self.weighted),
        }


def judge(
    labels: Labels,
    predicted: Labels,
    names: Sequence[str],
    groups: ArrayLike | None = None,
    *,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Figures:
    """All figures of predictions (n,) for labels (n,), both indices into `names`; groups (n,) of cells or None.

    A class that is never predicted has precision 0, one without cells has no part in the averages.
    """
    k = len(names)
    members = members_of(groups, len(labels))
    tables = group_tables(labels, predicted, members, (k, k))
    units = len(tables)
    whole = tables.sum(axis=0)
    drawn = drawn_tables(tables, draws, seed) if units else np.zeros((draws, k, k))
    rows, columns, right = whole.sum(axis=1), whole.sum(axis=0), whole.diagonal()

    def share(hits: float, n: float, spread: _Tables) -> Rate:
        closed = wilson(int(hits), int(n))
        low, high = percentiles(spread, units)
        if groups is None or math.isnan(low) or not n:
            return closed
        return Rate(
            rate=closed.rate, low=max(0.0, min(closed.low, low)), high=min(1.0, max(closed.high, high)), n=closed.n
        )

    recall, precision, f1 = _recall(drawn), _precision(drawn), _f1(drawn)
    closed_f1 = [_closed_f1(int(right[c]), int(rows[c] + columns[c] - right[c])) for c in range(k)]
    classes = {
        name: ClassFigures(
            int(rows[c]),
            int(columns[c]),
            share(right[c], rows[c], recall[:, c]),
            share(right[c], columns[c], precision[:, c]),
            estimate(closed_f1[c].value, f1[:, c], units).widened(closed_f1[c].low, closed_f1[c].high),
        )
        for c, name in enumerate(names)
    }
    closed_recall = [_as_estimate(wilson(int(right[c]), int(rows[c]))) for c in range(k)]
    closed_precision = [_as_estimate(wilson(int(right[c]), int(columns[c]))) for c in range(k)]

    def average(spread: _Tables, closed: Sequence[Estimate], weighted: bool) -> Estimate:
        weights = rows if weighted else (rows > 0).astype(float)
        if not weights.sum():
            return NOTHING
        per_draw = drawn.sum(axis=2) if weighted else (drawn.sum(axis=2) > 0).astype(float)
        means = np.nansum(spread * per_draw, axis=1) / np.maximum(per_draw.sum(axis=1), 1.0)
        value, low, high = _combined(closed, weights / weights.sum())
        return estimate(value, means, units).widened(low, high)

    def averages(weighted: bool) -> Average:
        return Average(
            average(precision, closed_precision, weighted),
            average(recall, closed_recall, weighted),
            average(f1, closed_f1, weighted),
        )

    macro = averages(False)
    hits = drawn.diagonal(axis1=1, axis2=2).sum(axis=1) / np.maximum(drawn.sum(axis=(1, 2)), 1.0)
    counts = tuple(tuple(int(count) for count in row) for row in whole)
    accuracy = share(right.sum(), whole.sum(), hits)
    return Figures(classes, counts, accuracy, macro.recall, macro, averages(True), units)


def _recall(tables: _Tables) -> _Tables:
    rows = tables.sum(axis=2)
    return _ratio(tables.diagonal(axis1=1, axis2=2), rows, math.nan)


def _precision(tables: _Tables) -> _Tables:
    columns = tables.sum(axis=1)
    return _ratio(tables.diagonal(axis1=1, axis2=2), columns, 0.0)


def _f1(tables: _Tables) -> _Tables:
    both = tables.sum(axis=1) + tables.sum(axis=2)
    return _ratio(2 * tables.diagonal(axis1=1, axis2=2), both, math.nan)


def _mean_of_present(values: _Tables, tables: NDArray[Any]) -> _Tables:
    present = tables.sum(axis=2) > 0
    count = present.sum(axis=1)
    return _ratio(np.where(present, values, 0.0).sum(axis=1), count.astype(float), math.nan)


def _ratio(above: _Tables, below: _Tables, otherwise: float) -> _Tables:
    return np.asarray(np.divide(above, below, out=np.full_like(below, otherwise), where=below > 0))


def _closed_f1(right: int, either: int) -> Estimate:
    """F1 of `right` cells that are both of the class and called so, among `either`; NaN for none.

    F1 = 2 J / (1 + J), J = right / either, and J is a share of a count: its Wilson interval, carried over (Hand et al.,
    *Machine Learning* 110:451, 2021, on F* = J).
    """
    if not either:
        return NOTHING
    share = wilson(right, either)
    return Estimate(*(2 * j / (1 + j) for j in (share.rate, share.low, share.high)))


def _combined(closed: Sequence[Estimate], weights: NDArray[np.float64]) -> tuple[float, float, float]:
    """Weighted mean of independent figures, its interval from theirs (MOVER: Zou and Donner, *Stat. Med.* 27, 2008)."""
    parts = [(weight, one) for weight, one in zip(weights.tolist(), closed, strict=True) if weight > 0]
    value = sum(weight * one.value for weight, one in parts)
    below = math.sqrt(sum((weight * (one.value - one.low)) ** 2 for weight, one in parts))
    above = math.sqrt(sum((weight * (one.high - one.value)) ** 2 for weight, one in parts))
    return value, max(0.0, value - below), min(1.0, value + above)


def _as_estimate(rate: Rate) -> Estimate:
    return Estimate(rate.rate, rate.low, rate.high)


def _average_json(average: Average) -> dict[str, Any]:
    return {
        "precision": average.precision.to_json(),
        "recall": average.recall.to_json(),
        "f1": average.f1.to_json(),
    }
