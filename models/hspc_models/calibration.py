"""Do scores mean what they say? Reliability curve, calibration error with its interval, temperature. Pure functions.

Bins hold equally many cells (Nguyen and O'Connor, EMNLP 2015): of equal-width bins most are empty where a network is
sure of itself, and a handful of cells decides the figure. Cells of equal confidence are never parted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from hspc_models.card import Rate
from hspc_models.metrics import Floats, Labels, softmax, wilson
from hspc_models.resample import DRAWS, NOTHING, SEED, Estimate, bootstrap, members_of, percentiles

BINS = 15
CHANCE_DRAWS = 200


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Cells of like confidence: its mean, and the share of hits with Wilson's 95 % interval."""

    confidence: float
    hits: Rate

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"confidence": self.confidence, "hits": self.hits.model_dump()}


def reliability(scores: Floats, labels: Labels, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """The reliability curve of the best class's score, from scores (n, classes); at most `bins` points, rising."""
    confidence, hit = _confidence(scores, labels)
    which = _equal_mass(confidence, bins)
    return tuple(
        ReliabilityBin(float(confidence[inside].mean()), wilson(int(hit[inside].sum()), int(inside.sum())))
        for inside in (which == index for index in np.unique(which))
    )


def calibration_error(scores: Floats, labels: Labels, bins: int = BINS) -> float:
    """Expected calibration error: mean gap of confidence and hit rate (Guo et al. 2017); NaN for no cell.

    It is never 0 in a sample, even of a perfect model: see `chance_error`.
    """
    return _gap(*_confidence(scores, labels), bins)


def calibration_errors_by_class(scores: Floats, labels: Labels, bins: int = BINS) -> tuple[float, ...]:
    """The same for the score of each class against the share of cells that are of it (Kull et al., NeurIPS 2019)."""
    return tuple(_gap(scores[:, column], labels == column, bins) for column in range(scores.shape[1]))


def calibration_estimate(
    scores: Floats,
    labels: Labels,
    groups: ArrayLike | None = None,
    *,
    bins: int = BINS,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Estimate:
    """`calibration_error` with its 95 % interval, by a bootstrap over groups (n,), or over cells.

    Chance adds to the error, and a resample adds it once more, so the lower percentile may lie above the truth: the
    lower end is that of the *basic* interval (Davison and Hinkley 1997, section 5.2), or 0 where perfect scores would
    show as large an error in 2.5 % of samples or more. The upper end is the larger of the two intervals'.
    """
    confidence, hit = _confidence(scores, labels)
    if not len(hit):
        return NOTHING
    value = _gap(confidence, hit, bins)
    members = members_of(groups, len(hit))
    drawn = bootstrap(lambda rows: _gap(confidence[rows], hit[rows], bins), members, draws, seed)
    low, high = percentiles(drawn, int(members.max()) + 1)
    if math.isnan(low):
        return Estimate(value, 0.0, 1.0)
    by_chance = value <= float(np.quantile(_chance(confidence, bins, CHANCE_DRAWS, seed), 0.975))
    least = 0.0 if by_chance else min(max(0.0, 2 * value - high), value)
    return Estimate(value, least, min(1.0, max(2 * value - low, high, value)))


def chance_error(scores: Floats, bins: int = BINS, draws: int = CHANCE_DRAWS, seed: int = SEED) -> float:
    """The mean calibration error that as many cells show if the scores are perfect.

    Hits are drawn from the scores themselves (consistency resampling: Bröcker and Smith, *Weather and Forecasting*
    22:651, 2007).
    """
    return float(_chance(np.asarray(scores, np.float64).max(axis=1), bins, draws, seed).mean())


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """The temperature that makes the labels likeliest (Guo et al. 2017), between 0.05 and 20."""

    def loss(log_temperature: float) -> float:
        scores = softmax(logits, math.exp(log_temperature))
        return float(-np.log(np.maximum(scores[np.arange(len(labels)), labels], 1e-12)).mean())

    found = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20.0)), method="bounded")
    return math.exp(float(found.x))


def _confidence(scores: Floats, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    return np.asarray(scores, np.float64).max(axis=1, initial=0.0), np.asarray(scores.argmax(axis=1) == labels)


def _chance(confidence: NDArray[np.float64], bins: int, draws: int, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return np.array([_gap(confidence, rng.random(len(confidence)) < confidence, bins) for _ in range(draws)])


def _equal_mass(values: NDArray[np.float64], bins: int) -> NDArray[np.intp]:
    """The bin of each value (n,): as many in each as ties allow."""
    ordered = np.sort(values)
    cuts = np.unique(ordered[np.arange(1, bins) * len(values) // bins])
    return np.asarray(np.searchsorted(cuts, values, side="right"))


def _gap(confidence: Floats, hit: NDArray[np.bool_], bins: int) -> float:
    if not len(hit):
        return math.nan
    which = _equal_mass(np.asarray(confidence, np.float64), bins)
    gaps = np.abs(np.bincount(which, confidence) - np.bincount(which, hit))
    return float(gaps.sum() / len(hit))
