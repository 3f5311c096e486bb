"""A learning curve's shape: mean and spread at each size, an inverse power law, and what it says of twice the data.

Balanced accuracy is fitted as a + b · n^-c with b ≤ 0, a ≤ 1 and c within `EXPONENTS` (Cortes et al., *NIPS* 6, 1994;
for classifiers of medical data Figueroa et al., *BMC Medical Informatics and Decision Making* 12:8, 2012). For a given
c the other two are linear, so c alone is searched for. Intervals come from a bootstrap of whole repeats, for their
sizes are nested, and of the judged cells (or groups), for all repeats are judged on the same ones; means of few repeats
vary too little when redrawn, by √((R − 1) / R), and are spread by that. Such a curve says what more cells *of the same
kind* would give. Curves need not be power laws (Viering and Loog, *IEEE TPAMI* 45:7799, 2023), so a reader is told when
the data do not determine one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import minimize_scalar

from hspc_models.resample import CONFIDENCE, SEED, Estimate, members_of

EXPONENTS: Final = (0.1, 2.0)
FEWEST_SIZES: Final = 4
"""A law with three parameters passes through any three points."""

_GRID: Final = np.geomspace(*EXPONENTS, 40)
_DRAWS: Final = 1000
_STEPS: Final = 40

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Point:
    """One size: balanced accuracies of its trainings, their mean with its 95 % interval over repeats (Student's t)."""

    fraction: float
    crops: float
    values: tuple[float, ...]
    mean: Estimate

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "fraction": self.fraction,
            "crops": self.crops,
            "values": list(self.values),
            "repeats": len(self.values),
            "mean": self.mean.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Law:
    """accuracy = a + b · (n / scale)^-c, where `scale` is the largest size measured."""

    a: float
    b: float
    c: float
    scale: float

    def at(self, n: float) -> float:
        """The law's accuracy for n crops."""
        return self.a + self.b * float((n / self.scale) ** -self.c)


@dataclass(frozen=True, slots=True, eq=False)
class Extrapolation:
    """The law with its 95 % band along `sizes`, from the least size to twice the largest.

    `gain` is what doubling the largest size adds; `rise` what the measured sizes added from first to last, each with
    its interval. `tells` says whether sizes gained anything certain, and `gain` is surer than that; `remarks` why not.
    """

    law: Law
    sizes: Floats
    low: Floats
    high: Floats
    at_all: Estimate
    at_twice: Estimate
    gain: Estimate
    rise: Estimate
    tells: bool
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "law": "a + b * (n / scale) ** -c",
            "a": self.law.a,
            "b": self.law.b,
            "c": self.law.c,
            "scale": self.law.scale,
            "at_all": self.at_all.to_json(),
            "at_twice": self.at_twice.to_json() | {"crops": 2 * self.law.scale},
            "gain_by_doubling": self.gain.to_json(),
            "rise_measured": self.rise.to_json(),
            "tells": self.tells,
            "remarks": list(self.remarks),
            "band": {
                "crops": self.sizes.tolist(),
                "value": [self.law.at(n) for n in self.sizes.tolist()],
                "low": self.low.tolist(),
                "high": self.high.tolist(),
            },
        }


def measured_point(fraction: float, crops: float, values: list[float]) -> Point:
    """The mean of the repeats; of a single one there is no interval."""
    found = np.asarray(values, np.float64)
    mean = float(found.mean())
    if len(found) < 2:
        return Point(fraction, crops, tuple(values), Estimate(mean, math.nan, math.nan))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(found) - 1)) * float(found.std(ddof=1)) / math.sqrt(len(found))
    return Point(fraction, crops, tuple(values), Estimate(mean, max(0.0, mean - reach), min(1.0, mean + reach)))


def accuracies(hits: NDArray[np.bool_], labels: NDArray[np.int64]) -> Floats:
    """Balanced accuracies (…) of hits (…, n) on cells with labels (n,)."""
    return np.asarray(_weighted(hits, labels, np.ones((1, len(labels))))[0])


def fit_law(sizes: Floats, values: Floats) -> Law:
    """The law nearest to `values` (k,) at `sizes` (k,), k ≥ 3, by least squares within the bounds."""
    scale = float(sizes.max())
    at = np.asarray(sizes / scale, np.float64)

    def loss(log_c: float) -> float:
        return float(_linear(at, values[None], math.exp(log_c))[2][0])

    start = math.log(float(_GRID[int(np.argmin([loss(math.log(c)) for c in _GRID.tolist()]))]))
    step = math.log(_GRID[1] / _GRID[0])
    ends = (max(start - step, math.log(EXPONENTS[0])), min(start + step, math.log(EXPONENTS[1])))
    found = minimize_scalar(loss, bounds=ends, method="bounded")
    c = math.exp(float(found.x))
    a, b, _ = _linear(at, values[None], c)
    return Law(float(a[0]), float(b[0]), c, scale)


def extrapolate(
    sizes: Floats, hits: NDArray[np.bool_], labels: NDArray[np.int64], groups: ArrayLike | None, seed: int = SEED
) -> Extrapolation | None:
    """The law through the means over repeats, or None of fewer than four sizes.

    `hits` (repeats, sizes, n) says which of the n judged cells each training had right; `groups` (n,) what cells are
    not independent within, or None.
    """
    if len(sizes) < FEWEST_SIZES:
        return None
    repeats = len(hits)
    means = accuracies(hits, labels).mean(axis=0)
    law = fit_law(sizes, means)
    drawn, grouped = _redrawn(hits, labels, groups, np.random.default_rng(seed))
    a, b, c = _laws(sizes, drawn)
    along = np.geomspace(float(sizes.min()), 2 * law.scale, _STEPS)
    curves = a[:, None] + b[:, None] * (along[None] / law.scale) ** -c[:, None]
    at_all, at_twice = a + b, a + b * 2.0**-c
    low, high = np.quantile(curves, (0.025, 0.975), axis=0)
    gain = _estimate(law.at(2 * law.scale) - law.at(law.scale), at_twice - at_all, -1.0)
    rise = _estimate(float(means[-1] - means[0]), drawn[:, -1] - drawn[:, 0], -1.0)
    twice = _estimate(law.at(2 * law.scale), at_twice, 0.0)
    remarks = list(_doubts(rise, gain, repeats, float(((c <= _GRID[0] * 1.001) & (b < 0)).mean())))
    if groups is not None and not grouped:
        remarks.append("groups and classes go together, so intervals are over cells, and say nothing of other groups")
    tells = rise.low > 0 and gain.high - gain.low < rise.value
    return Extrapolation(
        law, along, low, high, _estimate(law.at(law.scale), at_all, 0.0), twice, gain, rise, tells, tuple(remarks)
    )


def _doubts(rise: Estimate, gain: Estimate, repeats: int, at_bound: float) -> list[str]:
    found = []
    wide = gain.high - gain.low
    if rise.low <= 0:
        found.append(
            f"from the least to the largest size nothing certain was gained ({rise.value:+.3f}, {rise.low:+.3f} to "
            f"{rise.high:+.3f}): these sizes do not show whether more cells would help"
        )
    elif wide >= rise.value:
        found.append(
            f"what doubling adds is uncertain by {wide:.3f}, and all measured sizes together gained {rise.value:.3f}: "
            "take more repeats, or more sizes"
        )
    if rise.low > 0 and at_bound > 0.25:
        found.append(
            f"in {at_bound:.0%} of the redrawn curves the exponent lies at its least, {EXPONENTS[0]:g}: they do not "
            "bend yet, so where the curve would end is not known"
        )
    if repeats == 1:
        found.append("one repeat only: what other draws and seeds would change is not in the intervals")
    elif repeats < 3:
        found.append(f"{repeats} repeats only: intervals are rough")
    return found


def _redrawn(
    hits: NDArray[np.bool_], labels: NDArray[np.int64], groups: ArrayLike | None, rng: np.random.Generator
) -> tuple[Floats, bool]:
    """Mean accuracies (draws, sizes) of redrawn repeats and redrawn cells; whether these came in their groups.

    Where groups and classes go together, most draws of groups would lose a class, and say nothing of the accuracy:
    cells are redrawn then.
    """
    repeats = len(hits)
    weights, whole_draws = _weights(labels, groups, rng)
    grouped = groups is not None and float(whole_draws.mean()) >= 0.5
    if groups is not None and not grouped:
        weights, whole_draws = _weights(labels, None, rng)
    by_repeat = _weighted(hits, labels, weights[whole_draws])  # (draws, repeats, sizes)
    whole = np.asarray(by_repeat.mean(axis=1))
    if repeats < 2:
        return whole, grouped
    chosen = rng.integers(0, repeats, (len(by_repeat), repeats))
    means = np.take_along_axis(by_repeat, chosen[:, :, None], axis=1).mean(axis=1)
    return np.asarray(whole + math.sqrt(repeats / (repeats - 1)) * (means - whole)), grouped


def _weights(
    labels: NDArray[np.int64], groups: ArrayLike | None, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.bool_]]:
    """How often each cell is drawn (draws, n), and which draws have every class."""
    members = members_of(groups, len(labels))
    units = int(members.max()) + 1
    weights = rng.multinomial(units, np.full(units, 1 / units), _DRAWS)[:, members].astype(np.float64)
    there = np.stack([weights[:, labels == label].any(axis=1) for label in np.unique(labels)])
    return weights, np.asarray(there.all(axis=0))


def _weighted(hits: NDArray[np.bool_], labels: NDArray[np.int64], weights: Floats) -> Floats:
    """Balanced accuracies (draws, …) of hits (…, n), cells weighted by (draws, n); an empty class is left out."""
    n = len(labels)
    flat = hits.reshape(-1, n).astype(np.float64)
    total, classes = np.zeros((len(weights), len(flat))), np.zeros((len(weights), 1))
    for label in np.unique(labels):
        own = labels == label
        there = weights[:, own].sum(axis=1, keepdims=True)
        total += np.divide(weights[:, own] @ flat[:, own].T, there, out=np.zeros_like(total), where=there > 0)
        classes += there > 0
    return np.asarray((total / np.maximum(classes, 1)).reshape(len(weights), *hits.shape[:-1]))


def _laws(sizes: Floats, values: Floats) -> tuple[Floats, Floats, Floats]:
    """a, b, c (draws,) of the laws nearest to values (draws, k), c on the grid."""
    at = sizes / sizes.max()
    found = [_linear(at, values, c) for c in _GRID.tolist()]
    best = np.argmin([loss for *_, loss in found], axis=0)
    rows = np.arange(len(values))
    a, b = (np.stack([one[part] for one in found])[best, rows] for part in (0, 1))
    return a, b, _GRID[best]


def _linear(at: Floats, values: Floats, c: float) -> tuple[Floats, Floats, Floats]:
    """a, b and the squared loss (draws,) for a given exponent: least squares with a ≤ 1 and b ≤ 0."""
    x = at**-c
    centred = x - x.mean()
    mean = values.mean(axis=1)
    b = np.minimum((values @ centred) / (centred @ centred), 0.0)
    a = mean - b * x.mean()
    over = a > 1
    b = np.where(over, np.minimum((values - 1) @ x / (x @ x), 0.0), b)
    a = np.where(over, 1.0, a)
    return a, b, ((values - a[:, None] - b[:, None] * x) ** 2).sum(axis=1)


def _estimate(value: float, drawn: Floats, least: float) -> Estimate:
    low, high = (float(end) for end in np.quantile(drawn, (0.025, 0.975)))
    return Estimate(value, max(least, min(low, value)), min(1.0, max(high, value)))
