"""Do the classes differ in size? Means with their standard errors, box plots, analysis of variance, t tests. Pure.

As the paper has it: mean ± SEM, boxes with whiskers of 1.5 × IQR, one-way ANOVA, unpaired two-tailed t tests, stars.
Beside it stands what a reader needs to judge them: how large a difference is, with its interval, and p corrected for
the number of pairs. With thousands of cells even a difference of no account is "significant"; and cells of one animal
are no independent samples, which no test here can know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from hspc_live.core.significance import holm, stars

TTest = Literal["student", "welch"]

WHISKER_IQR = 1.5
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class SizeGroup:
    """One class. `diameters_um` holds the usable values, (n,) sorted; what is None cannot be said of so few.

    Whiskers end at the outermost cells within 1.5 × IQR of the box; cells beyond are `outliers`. `unusable` counts
    values that were no positive, finite number.
    """

    name: str
    diameters_um: NDArray[np.float64]
    unusable: int
    mean_um: float | None
    sd_um: float | None
    sem_um: float | None
    quartiles_um: tuple[float, float, float] | None
    whiskers_um: tuple[float, float] | None
    outliers: int

    @property
    def n(self) -> int:
        """Cells with a usable diameter."""
        return len(self.diameters_um)


@dataclass(frozen=True, slots=True)
class Anova:
    """One-way analysis of variance; `eta_squared` is the share of the variance that lies between the classes."""

    f: float
    df_between: int
    df_within: int
    p: float
    eta_squared: float


@dataclass(frozen=True, slots=True)
class PairTest:
    """Two classes: mean of `first` minus mean of `second` with its interval, t test, Cohen's d.

    `p_holm` is corrected for all pairs (Holm, *Scand. J. Statist.* 6, 1979); `stars` are the paper's, of the plain p.
    """

    first: str
    second: str
    difference_um: float
    interval_um: tuple[float, float]
    t: float
    df: float
    p: float
    p_holm: float
    cohens_d: float
    stars: str


@dataclass(frozen=True, slots=True, eq=False)
class SizeComparison:
    """Everything about the classes' sizes; `remarks` say in words what could not be tested, and why."""

    groups: tuple[SizeGroup, ...]
    anova: Anova | None
    pairs: tuple[PairTest, ...]
    test: TTest
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data, units in the names."""
        anova = self.anova
        return {
            "groups": [
                {
                    "class": group.name,
                    "n": group.n,
                    "unusable": group.unusable,
                    "mean_um": group.mean_um,
                    "sd_um": group.sd_um,
                    "sem_um": group.sem_um,
                    "median_um": group.quartiles_um[1] if group.quartiles_um else None,
                    "quartiles_um": list(group.quartiles_um) if group.quartiles_um else None,
                    "whiskers_um": list(group.whiskers_um) if group.whiskers_um else None,
                    "outliers": group.outliers,
                }
                for group in self.groups
            ],
            "anova": None
            if anova is None
            else {
                "f": anova.f,
                "df_between": anova.df_between,
                "df_within": anova.df_within,
                "p": anova.p,
                "eta_squared": anova.eta_squared,
            },
            "t_test": self.test,
            "pairs": [
                {
                    "first": pair.first,
                    "second": pair.second,
                    "difference_um": pair.difference_um,
                    "interval_um": list(pair.interval_um),
                    "t": pair.t,
                    "df": pair.df,
                    "p": pair.p,
                    "p_holm": pair.p_holm,
                    "cohens_d": pair.cohens_d,
                    "stars": pair.stars,
                }
                for pair in self.pairs
            ],
            "remarks": list(self.remarks),
        }


def compare_sizes(diameters_um: Mapping[str, ArrayLike], test: TTest = "student") -> SizeComparison:
    """Compare the classes in the order given. Values that are no positive, finite number are left out and counted.

    "student" takes equal variances, as the paper does; "welch" does not. Classes of fewer than two cells, or all of
    whose cells measure the same, are described but not tested.
    """
    groups = tuple(describe(name, values) for name, values in diameters_um.items())
    remarks = [
        f"{group.name}: {group.unusable} values left out, as they are no positive, finite diameter"
        for group in groups
        if group.unusable
    ]
    usable = []
    for group in groups:
        if group.n < 2:
            cells = "one cell" if group.n == 1 else "no cell"
            remarks.append(f"{group.name}: {cells}, so it has no spread and is not tested")
        elif not group.sd_um:
            remarks.append(f"{group.name}: all {group.n} cells measure the same, so it is not tested")
        else:
            usable.append(group)
    if len(usable) < 2:
        said = "one class" if len(usable) == 1 else "no class"
        remarks.append(f"{said} with a spread: there is nothing to compare")
        return SizeComparison(groups, None, (), test, tuple(remarks))
    pairs = [_pair(first, second, test) for first, second in combinations(usable, 2)]
    return SizeComparison(groups, _anova(usable), _corrected(pairs), test, tuple(remarks))


def describe(name: str, values: ArrayLike) -> SizeGroup:
    """One class in numbers. Quartiles are linear between values (NumPy's default)."""
    raw = np.asarray(values, np.float64).ravel()
    good = np.sort(raw[np.isfinite(raw) & (raw > 0)])
    unusable = len(raw) - len(good)
    if not len(good):
        return SizeGroup(name, good, unusable, None, None, None, None, None, 0)
    q1, median, q3 = (float(q) for q in np.percentile(good, (25, 50, 75)))
    reach = WHISKER_IQR * (q3 - q1)
    inside = good[(good >= q1 - reach) & (good <= q3 + reach)]
    # between two far-apart values a quartile may have no cell inside: then the whisker is no longer than the box
    whiskers = (min(float(inside[0]), q1), max(float(inside[-1]), q3)) if len(inside) else (q1, q3)
    several = len(good) > 1
    # cells that all measure the same have a spread of 0, not of a rounding error
    sd = (float(good.std(ddof=1)) if good[0] < good[-1] else 0.0) if several else None
    return SizeGroup(
        name,
        good,
        unusable,
        float(good.mean()),
        sd,
        None if sd is None else sd / math.sqrt(len(good)),
        (q1, median, q3),
        whiskers,
        len(good) - len(inside),
    )


def _anova(groups: Sequence[SizeGroup]) -> Anova:
    found = stats.f_oneway(*(group.diameters_um for group in groups))
    everything = np.concatenate([group.diameters_um for group in groups])
    total = float(np.square(everything - everything.mean()).sum())
    within = sum(float(np.square(group.diameters_um - group.diameters_um.mean()).sum()) for group in groups)
    return Anova(
        float(found.statistic), len(groups) - 1, len(everything) - len(groups), float(found.pvalue), 1 - within / total
    )


def _pair(first: SizeGroup, second: SizeGroup, test: TTest) -> PairTest:
    a, b = first.diameters_um, second.diameters_um
    found = stats.ttest_ind(a, b, equal_var=test == "student")
    interval = found.confidence_interval(CONFIDENCE)
    pooled = ((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / (len(a) + len(b) - 2)
    difference = float(a.mean() - b.mean())
    p = float(found.pvalue)
    return PairTest(
        first.name,
        second.name,
        difference,
        (float(interval.low), float(interval.high)),
        float(found.statistic),
        float(found.df),
        p,
        p,
        difference / math.sqrt(float(pooled)),
        stars(p),
    )


def _corrected(pairs: Sequence[PairTest]) -> tuple[PairTest, ...]:
    values = holm([pair.p for pair in pairs])
    return tuple(
        PairTest(p.first, p.second, p.difference_um, p.interval_um, p.t, p.df, p.p, corrected, p.cohens_d, p.stars)
        for p, corrected in zip(pairs, values, strict=True)
    )
