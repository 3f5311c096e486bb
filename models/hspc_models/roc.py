"""Receiver operating characteristic of one class against the rest, and the area under it with its interval. Pure.

The area is the chance that a cell of the class scores higher than one of another class (ties count half). Its variance
is that of DeLong et al. (*Biometrics* 44:837, 1988); where cells come in groups, Obuchowski's for clustered data
(*Biometrics* 53:567, 1997), which is the same when every cell is a group of its own. The interval is set on the logit
scale, so it stays within (0, 1). At 0 and 1 there is no variance to be seen: Newcombe's method 5 (*Statistics in
Medicine* 25:559, 2006) takes over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from hspc_models.metrics import Floats, Labels
from hspc_models.resample import CONFIDENCE, NOTHING, Estimate, members_of


@dataclass(frozen=True, slots=True, eq=False)
class Roc:
    """Curve (m,) from (0, 0) to (1, 1), thresholds falling from +inf: `score >= threshold` is called positive."""

    false_positive: NDArray[np.float64]
    true_positive: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    positives: int
    negatives: int
    area: Estimate

    def to_json(self) -> dict[str, Any]:
        """Plain data without the curve."""
        return {"positives": self.positives, "negatives": self.negatives, "auc": self.area.to_json()}


def one_against_rest(scores: Floats, labels: Labels, column: int, groups: ArrayLike | None = None) -> Roc:
    """The curve of class `column` from scores (n, classes) and labels (n,)."""
    return roc(scores[:, column], labels == column, groups)


def roc(score: Floats, positive: NDArray[np.bool_], groups: ArrayLike | None = None) -> Roc:
    """The curve of a score (n,) for what is `positive` (n,); the area is NaN where one side has no cell.

    Points between which nothing bends are left in: every distinct score has one.
    """
    order = np.argsort(-score, kind="stable")
    falling = np.asarray(score, np.float64)[order]
    last = np.flatnonzero(np.append(np.diff(falling) != 0, True)) if len(order) else np.empty(0, int)
    hits, misses = np.cumsum(positive[order]), np.cumsum(~positive[order])
    m, n = int(positive.sum()), int((~positive).sum())
    return Roc(
        np.append(0.0, misses[last] / max(n, 1)),
        np.append(0.0, hits[last] / max(m, 1)),
        np.append(np.inf, falling[last]),
        m,
        n,
        area_under(score, positive, groups),
    )


def area_under(score: Floats, positive: NDArray[np.bool_], groups: ArrayLike | None = None) -> Estimate:
    """Area under the curve with its 95 % interval; arguments as `roc` has them."""
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n:
        return NOTHING
    ranks = stats.rankdata(score)
    # the share of the other side that a cell beats: DeLong's structural components, by mid-ranks (Sun and Xu 2014)
    beaten = np.empty(len(ranks))
    beaten[positive] = (ranks[positive] - stats.rankdata(score[positive])) / n
    beaten[~positive] = 1.0 - (ranks[~positive] - stats.rankdata(score[~positive])) / m
    area = float(beaten[positive].mean())
    members = members_of(groups, len(ranks))
    variance, units = _variance(beaten - area, positive, members)
    if not variance or not 0.0 < area < 1.0:
        return _boundary(area, m, n)
    t = float(stats.t.ppf((1 + CONFIDENCE) / 2, max(units - 1, 1)))
    centre, half = math.log(area / (1 - area)), t * math.sqrt(variance) / (area * (1 - area))
    return Estimate(area, _logistic(centre - half), _logistic(centre + half))


def _variance(excess: NDArray[np.float64], positive: NDArray[np.bool_], members: NDArray[np.intp]) -> tuple[float, int]:
    """Obuchowski's variance of the area, and the number of groups it rests on."""
    m, n, units = int(positive.sum()), int((~positive).sum()), int(members.max()) + 1
    ours = np.bincount(members[positive], excess[positive], units)
    theirs = np.bincount(members[~positive], excess[~positive], units)
    with_ours, with_theirs = len(np.unique(members[positive])), len(np.unique(members[~positive]))

    def scaled(groups: int) -> float:
        return groups / (groups - 1) if groups > 1 else 1.0

    total = scaled(with_ours) * float(ours @ ours) / m**2 + scaled(with_theirs) * float(theirs @ theirs) / n**2
    total += 2 * scaled(units) * float(ours @ theirs) / (m * n)
    return max(total, 0.0), units


def _boundary(area: float, m: int, n: int) -> Estimate:
    """Newcombe's method 5: the areas that differ from this one by less than 1.96 of *their* standard errors."""
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    mean = (m + n) / 2 - 1

    def outside(other: float) -> float:
        spread = other * (1 - other) * (1 + mean * ((1 - other) / (2 - other) + other / (1 + other))) / (m * n)
        return (area - other) ** 2 - z * z * spread

    tiny = 1e-12
    low = optimize.brentq(outside, tiny, area - tiny) if area > tiny and outside(tiny) > 0 else 0.0
    high = optimize.brentq(outside, area + tiny, 1 - tiny) if area < 1 - tiny and outside(1 - tiny) > 0 else 1.0
    return Estimate(area, float(low), float(high))


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x > -700.0 else 0.0
