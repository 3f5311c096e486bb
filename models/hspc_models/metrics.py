"""How good scores are: confusion, consistency rates with intervals, calibration. Pure functions on arrays.

*Consistency rate*, as in the paper: the share of a sorted class that the model puts into that class. Labels from
sorting are not truth, so it is not called accuracy; on the twin, where truth is known, the word stays the same.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from hspc_models.card import Rate

Floats = NDArray[np.floating]
Labels = NDArray[np.integer]


def confusion(labels: Labels, predicted: Labels, classes: int) -> NDArray[np.int64]:
    """Counts (classes, classes): true class (rows) × predicted class (columns)."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (labels, predicted), 1)
    return table


def balanced_accuracy(table: NDArray[np.int64]) -> float:
    """Mean consistency rate of the classes that occur; NaN for an empty table."""
    totals = table.sum(axis=1)
    present = totals > 0
    return float((table.diagonal()[present] / totals[present]).mean()) if present.any() else math.nan


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


def calibration_error(scores: Floats, labels: Labels, bins: int = 15) -> float:
    """Expected calibration error: mean gap of confidence and hit rate over equal score bins (Guo et al. 2017)."""
    confidence = scores.max(axis=1)
    hit = scores.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = 0.0
    for index in np.unique(which):
        inside = which == index
        gap += float(inside.mean()) * abs(float(hit[inside].mean()) - float(confidence[inside].mean()))
    return gap


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """The temperature that makes the labels likeliest (Guo et al. 2017), between 0.05 and 20."""

    def loss(log_temperature: float) -> float:
        scores = softmax(logits, math.exp(log_temperature))
        return float(-np.log(np.maximum(scores[np.arange(len(labels)), labels], 1e-12)).mean())

    found = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20.0)), method="bounded")
    return math.exp(float(found.x))
