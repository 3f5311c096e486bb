"""From scores to promises: the score threshold whose sorted cells are pure enough, with stated confidence.

What is sorted is {cells whose best class is c and whose score for c is at least t}; its purity is the share of class c
in it. `make_promise` returns a t of which P(purity(t) >= wanted) >= confidence holds over the draw of the calibration
cells, although t was chosen by looking at them: *Learn then Test* with fixed-sequence testing (Angelopoulos et al.,
arXiv:2110.01052, 2021). Thresholds are tested from high to low, all at one level, and the first that fails ends it.
One threshold's test is exact (Clopper and Pearson, *Biometrika* 26:404, 1934): of n cells above it k are of another
class, and P(Binomial(n, 1 - wanted) <= k) says how likely so few would be if it were impure.

Where to begin is settled by other cells (`start_threshold`), for at the top are too few to prove anything. From there
on the thresholds are the calibration cells' own scores at ranks that no label has a say in: the sizes n at which the
test allows one miss more. Nothing is assumed of the scores' distribution but this: as the threshold falls from the
start, purity falls through what is wanted once and does not rise above it again. Then the first threshold tested that
is impure has, given the number n of cells above the crossing, at least Binomial(n, 1 - wanted) misses, whatever came
before: it seldom passes, and nothing below it counts unless it does. A tenth of the error level is left unused, for
purities that do rise again.

A declared population mixed otherwise than the calibration cells asks for weights, and then misses of several classes
count differently: class c's share has the limit of Clopper and Pearson, the weighted misses the gamma limit of Fay and
Feuer (*Statistics in Medicine* 16:791, 1997), not proven but never seen to fall short. Cells of one group (a mouse, an
experiment) are not independent: with groups a threshold must in addition pass a one-sided t test over groups (residuals
of the ratio estimator, Cochran, *Sampling Techniques*, 1977, section 6.3), which is approximate, and the promise says
so. Nothing here can know of kinds of cells that calibration never saw.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hspc_live.core.errors import SettingsError
from hspc_models.card import Rate
from hspc_models.metrics import Floats, Labels, wilson
from hspc_models.prevalence import class_weights

SEED = 20_240_608
STEPS = 50  # thresholds tested where misses are weighted, at equal shares of the cells of that best class
DESIGN_SHARE = 0.1
"""Of the calibration cells, where no start is given: they settle the start and are not tested."""

FEWEST_GROUPS = 3
_USED_LEVEL = 0.9
_MISS_LEVEL = 0.9  # of the error level, in a declared population: the misses' limit is much the wider one
_SLOPE_PRIOR_SD, _OFFSET_PRIOR_SD, _CURVE_CELLS = 0.5, 1.0, 100.0
_MOST_CELLS, _LOOKED_AT = 10_000_000, 60


@dataclass(frozen=True, slots=True)
class Promise:
    """What may be promised of a class, or why nothing may.

    `threshold` is the least score for which purity >= `wanted` holds with `confidence`; None: no promise. `seen` is
    the share of the class among the tested cells above it (as they come, not weighted), `kept` the share of the class
    that is sorted, both with Wilson's 95 % interval; only `wanted` is guaranteed. `tested` counts the cells that the
    promise rests on, `cells_needed` estimates how many calibration cells would do (None: no number would).
    """

    column: int
    wanted: float
    confidence: float
    threshold: float | None
    seen: Rate | None
    kept: Rate | None
    tested: int
    cells_needed: int | None
    why: str
    method: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        plain = asdict(self)
        return plain | {key: rate.model_dump() for key in ("seen", "kept") if (rate := plain[key]) is not None}


def sorted_at(scores: Floats, column: int, threshold: float) -> NDArray[np.bool_]:
    """Which cells (n,) of scores (n, classes) a score gate on class `column` with `top` sorts."""
    own = scores[:, column]
    return np.asarray((own == scores.max(axis=1)) & (own >= threshold))


def start_threshold(
    scores: Floats, labels: Labels, column: int, wanted: float, prevalence: Floats | None = None
) -> float | None:
    """Where `make_promise` shall begin, from scores (n, classes) and labels (n,) of *other* cells than it tests.

    There these cells expect the surest success: asin√purity exceeds asin√wanted by most standard errors. Of few cells
    purity is a logistic curve's of the score's logit (Platt 1999), held near the score by a prior; of many their own.
    With the validation cells no calibration cell is spent on it. A bad start costs yield, or the promise, and never
    its truth. None where no cell has that best class.
    """
    own, purity, weights = _purity_curve(scores, labels, column, prevalence)
    if not len(own):
        return None
    lead = (np.arcsin(np.sqrt(purity)) - math.asin(math.sqrt(wanted))) * np.sqrt(_effective(weights))
    return float(own[int(np.argmax(lead))])


def make_promise(
    scores: Floats,
    labels: Labels,
    column: int,
    wanted: float,
    confidence: float = 0.95,
    *,
    prevalence: Floats | None = None,
    groups: NDArray[Any] | None = None,
    start: float | None = None,
    floor: float = 0.0,
    seed: int = SEED,
) -> Promise:
    """The lowest threshold for class `column` that a purity of `wanted` can be promised for, or none.

    `scores` (n, classes) and `labels` (n,) are of calibration cells that neither training nor temperature saw, one row
    a cell; a label of `classes` or more is a kind that the model does not know, always a miss. `prevalence` (kinds,)
    declares the population's shares, `groups` (n,) what is not independent. Without a `start` of other cells a random
    share of these settles it. `floor` is a score below which cells are abstained on anyway: no threshold
    is lower. Raises SettingsError for shares or rates that are none.
    """
    if not 0.0 < wanted < 1.0 or not 0.0 < confidence < 1.0:
        raise SettingsError(f"promise: purity {wanted:g} and confidence {confidence:g} must lie between 0 and 1")
    weights = class_weights(labels, prevalence)
    used = np.ones(len(labels), bool)
    if start is None:
        apart = np.random.default_rng(seed).permutation(len(labels))[: math.ceil(DESIGN_SHARE * len(labels))]
        used[apart] = False
        start = start_threshold(scores[apart], labels[apart], column, wanted, prevalence)
    own_groups, level = None if groups is None else groups[used], _USED_LEVEL * (1.0 - confidence)
    test = _Test(scores[used], labels[used], column, wanted, level, weights, own_groups, floor)
    threshold: float | None = None
    for step in test.thresholds(start).tolist():
        if not test.passes(step):
            break
        threshold = step
    seen = kept = needed = None
    why = ""
    if threshold is None:
        needed, why = _what_would_do(scores, labels, column, wanted, confidence, prevalence)
        if groups is not None and len(np.unique(groups[used])) < FEWEST_GROUPS:
            why = f"a promise needs cells of at least {FEWEST_GROUPS} groups"
    else:
        above = sorted_at(scores[used], column, threshold)
        own = labels[used] == column
        seen = wilson(int((above & own).sum()), int(above.sum()))
        kept = wilson(int((above & own).sum()), int(own.sum()))
    method = "Learn then Test, fixed sequence, " + ("binomial" if prevalence is None else "weighted, gamma limit")
    method += "" if groups is None else "; approximate: t test over groups"
    return Promise(column, wanted, confidence, threshold, seen, kept, int(used.sum()), needed, why, method)


class _Test:
    """One threshold's test at level `level`: may purity be taken to be `wanted` or more?"""

    def __init__(
        self,
        scores: Floats,
        labels: Labels,
        column: int,
        wanted: float,
        level: float,
        weights: NDArray[np.float64] | None,
        groups: NDArray[Any] | None,
        floor: float,
    ) -> None:
        self._own = np.where(sorted_at(scores, column, floor), scores[:, column], -1.0)
        self._floor = floor
        self._labels, self._column, self._wanted, self._level = labels, column, wanted, level
        self._weights = weights
        self._members = None if groups is None else np.unique(groups, return_inverse=True)[1]

    def thresholds(self, start: float | None) -> NDArray[np.float64]:
        """What is tested, in this order: (m,) falling, from about `start` to the floor, which sorts all that may be.

        None of it depends on a label.
        """
        falling = -np.sort(-self._own[self._own >= 0.0])
        m = len(falling)
        if start is None or not m:
            return np.empty(0)
        if self._weights is None:
            allowed = stats.binom.ppf(self._level, np.arange(1, m + 1), 1.0 - self._wanted)
            # the quantile is the first count that is too many (or just not), so it steps where one more is allowed
            ranks = np.flatnonzero(np.diff(allowed, prepend=0.0) > 0) + 1
        else:
            ranks = np.unique(np.ceil(np.arange(1, STEPS) * m / STEPS).astype(int))
        first = int(np.searchsorted(ranks, (falling >= start).sum(), side="right")) - 1
        return np.append(np.unique(falling[ranks[max(first, 0) :] - 1])[::-1], self._floor)

    def passes(self, threshold: float) -> bool:
        """Whether the hypothesis "purity at this threshold is below what is wanted" is rejected."""
        above = self._own >= threshold
        if not above.any():
            return False
        sound = self._binomial(above) if self._weights is None else self._weighted(above, self._weights)
        return sound and (self._members is None or self._group_p(above, self._members) <= self._level)

    def _binomial(self, above: NDArray[np.bool_]) -> bool:
        n, misses = int(above.sum()), int((self._labels[above] != self._column).sum())
        return bool(stats.binom.cdf(misses, n, 1.0 - self._wanted) <= self._level)

    def _weighted(self, above: NDArray[np.bool_], weights: NDArray[np.float64]) -> bool:
        """Is the lower limit of wanted cells above what the upper limit of the others may be beside?"""
        kinds = len(weights)
        taken = np.bincount(self._labels[above], minlength=kinds)
        hits, total = int(taken[self._column]), int((self._labels == self._column).sum())
        if not hits:
            return False
        low = float(stats.beta.ppf((1.0 - _MISS_LEVEL) * self._level, hits, total - hits + 1))
        others = np.arange(kinds) != self._column
        high = gamma_limit(taken[others], weights[others], 1.0 - _MISS_LEVEL * self._level)
        return low * total * float(weights[self._column]) * (1.0 - self._wanted) >= high * self._wanted

    def _group_p(self, above: NDArray[np.bool_], members: NDArray[np.intp]) -> float:
        excess = np.where(self._labels != self._column, self._wanted, self._wanted - 1.0) * above
        if self._weights is not None:
            excess = excess * self._weights[self._labels]
        # groups that sort nothing add a zero, no evidence: they must not make the others look surer
        used = np.unique(members[above])
        residuals = np.bincount(members, excess)[used]
        if len(used) < FEWEST_GROUPS or not residuals.std():
            return 1.0
        return float(stats.ttest_1samp(residuals, 0.0, alternative="less").pvalue)


def gamma_limit(counts: NDArray[np.integer], weights: Floats, confidence: float) -> float:
    """Upper limit of Σ weights · E[counts], counts Poisson or binomial, weights ≥ 0 (Fay and Feuer 1997)."""
    largest = float(weights.max(initial=0.0))
    if not largest:
        return 0.0
    mean = float((weights * counts).sum()) + largest
    spread = float((weights**2 * counts).sum()) + largest**2
    return spread / (2 * mean) * float(stats.chi2.ppf(confidence, 2 * mean**2 / spread))


def _purity_curve(
    scores: Floats, labels: Labels, column: int, prevalence: Floats | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Of the cells with best class `column`, surest first: score, smoothed purity down to it, weight; (m,) each."""
    best = np.flatnonzero(sorted_at(scores, column, 0.0))
    best = best[np.argsort(-scores[best, column], kind="stable")]
    own = np.asarray(scores[best, column], np.float64)
    by_class = class_weights(labels, prevalence)
    weights = np.ones(len(best)) if by_class is None else np.maximum(by_class[labels[best]], 1e-12)
    x, hit = _logit(own), labels[best] == column
    offset, slope = 0.0, 1.0
    precision = np.array([_OFFSET_PRIOR_SD**-2, _SLOPE_PRIOR_SD**-2])
    for _ in range(25):
        p = 1.0 / (1.0 + np.exp(-np.clip(offset + slope * x, -30.0, 30.0)))
        rest, curve = weights * (hit - p), weights * p * (1.0 - p)
        gradient = np.array([rest.sum(), (rest * x).sum()]) - precision * (offset, slope - 1.0)
        cross = (curve * x).sum()
        hessian = np.array([[curve.sum(), cross], [cross, (curve * x * x).sum()]]) + np.diag(precision)
        step = np.clip(np.linalg.solve(hessian, gradient), -1.0, 1.0)
        offset, slope = offset + float(step[0]), slope + float(step[1])
        if np.abs(step).max() < 1e-6:
            break
    p = 1.0 / (1.0 + np.exp(-np.clip(offset + slope * x, -30.0, 30.0)))
    # of many cells their own shares are believed: no curve knows of errors that the network is sure of
    seen, effective = np.cumsum(weights), _effective(weights)
    expected, found = np.cumsum(p * weights) / seen, np.cumsum(hit * weights) / seen
    return own, (_CURVE_CELLS * expected + effective * found) / (_CURVE_CELLS + effective), weights


def _what_would_do(
    scores: Floats, labels: Labels, column: int, wanted: float, confidence: float, prevalence: Floats | None
) -> tuple[int | None, str]:
    """How many calibration cells would probably do (nine times in ten), as the smoothed purity has it; and why."""
    own, purity, weights = _purity_curve(scores, labels, column, prevalence)
    if not len(own):
        return None, "no calibration cell was given this class"
    effective = _effective(weights)
    promising = np.flatnonzero(purity > wanted)
    if not len(promising):
        return None, f"not even the surest cells are pure enough: about {100 * purity[0]:.0f} % at the highest scores"
    few = promising[np.linspace(0, len(promising) - 1, min(len(promising), _LOOKED_AT)).astype(int)]
    purity, effective = purity[few], effective[few]
    times = 1.0
    while times * len(labels) < _MOST_CELLS:
        n = np.maximum((times * effective).astype(int), 1)
        most = stats.binom.ppf(_USED_LEVEL * (1.0 - confidence), n, 1.0 - wanted) - 1
        if (stats.binom.cdf(most, n, 1.0 - purity) >= 0.9).any():
            needed = math.ceil(times * len(labels) / (1.0 - DESIGN_SHARE))
            return needed, f"too few calibration cells: {len(labels)}, and about {needed} would do"
        times *= 1.2
    return None, "the best purity is so near to what is wanted that no number of cells would show it"


def _effective(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many equal cells the first 1, 2 … weighted ones are worth (Kish, *Survey Sampling*, 1965)."""
    return np.asarray(np.cumsum(weights) ** 2 / np.cumsum(weights**2))


def _logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(scores, 1e-12, 1.0 - 1e-12)
    return np.asarray(np.log(inside / (1.0 - inside)))
