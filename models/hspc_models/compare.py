"""Two models on the same cells, or one model on several data sets: what differs, by how much, and whether by chance.

Models: McNemar's exact test of the cells on which one is right and the other wrong, and a paired bootstrap of the
difference in balanced accuracy. Where cells come in groups McNemar's test would count each cell as news, so the two
models are swapped by whole groups instead. Data sets: difference of two shares by Newcombe's method 10 (*Statistics in
Medicine* 17:873, 1998) and Fisher's exact test; and, as the paper has it, rates per group (mouse, experiment) as mean ±
SEM with unpaired two-tailed t tests, one-way ANOVA and stars.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from hspc_live.core.significance import holm, stars
from hspc_models.metrics import Labels, balanced_accuracy, confusion, wilson
from hspc_models.resample import DRAWS, SEED, Estimate, bootstrap, estimate, members_of

PERMUTATIONS = 4000


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """Second model minus first. `only_first` counts cells that the first alone has right.

    `p` is McNemar's, or of swapping by groups where there are groups; `test` says which.
    """

    n: int
    units: int
    first: float
    second: float
    difference: Estimate
    only_first: int
    only_second: int
    p: float
    test: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"difference": self.difference.to_json()}


@dataclass(frozen=True, slots=True)
class ShareDifference:
    """Share in `second` minus share in `first`, with Newcombe's 95 % interval and Fisher's exact p."""

    first: str
    second: str
    difference: Estimate
    p: float
    p_holm: float
    stars: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"difference": self.difference.to_json()}


@dataclass(frozen=True, slots=True)
class GroupRates:
    """A data set as the paper counts it: every group (mouse, experiment) is one value. SEM is None of one group."""

    name: str
    rates: tuple[float, ...]
    mean: float
    sem: float | None


@dataclass(frozen=True, slots=True)
class GroupTest:
    """Unpaired two-tailed t test (equal variances) of two data sets' rates per group: second minus first."""

    first: str
    second: str
    difference: Estimate
    t: float
    df: float
    p: float
    p_holm: float
    stars: str


@dataclass(frozen=True, slots=True)
class GroupComparison:
    """Rates per group of several data sets; `anova` is (F, p). None and no tests where too few groups have a spread."""

    data_sets: tuple[GroupRates, ...]
    anova: tuple[float, float] | None
    tests: tuple[GroupTest, ...]
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "data_sets": [asdict(one) | {"n": len(one.rates)} for one in self.data_sets],
            "anova": None if self.anova is None else {"f": self.anova[0], "p": self.anova[1]},
            "t_tests": [asdict(test) | {"difference": test.difference.to_json()} for test in self.tests],
            "remarks": list(self.remarks),
        }


def compare_models(
    labels: Labels,
    first: Labels,
    second: Labels,
    classes: int,
    groups: ArrayLike | None = None,
    *,
    draws: int = DRAWS,
    seed: int = SEED,
) -> ModelComparison:
    """Predictions (n,) of two models for the same cells with labels (n,); groups (n,) or None.

    Raises ValueError where the lengths differ.
    """
    if not len(labels) == len(first) == len(second):
        raise ValueError(f"{len(labels)} labels, {len(first)} and {len(second)} predictions: not the same cells")
    members = members_of(groups, len(labels))
    units = int(members.max(initial=-1)) + 1

    def difference(rows: NDArray[np.intp] | slice) -> float:
        a, b = (balanced_accuracy(confusion(labels[rows], said[rows], classes)) for said in (first, second))
        return b - a

    right, better = first == labels, second == labels
    only_first, only_second = int((right & ~better).sum()), int((better & ~right).sum())
    p, test = mcnemar(only_first, only_second), "McNemar, exact"
    if groups is not None:
        p, test = _swapped(right, better, members, seed), f"swapped by {units} groups"
    return ModelComparison(
        len(labels),
        units,
        balanced_accuracy(confusion(labels, first, classes)),
        balanced_accuracy(confusion(labels, second, classes)),
        estimate(difference(slice(None)), bootstrap(difference, members, draws, seed), units, -1.0),
        only_first,
        only_second,
        p,
        test,
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of McNemar's test (McNemar 1947): of the disagreements either model should win half."""
    disagreements = only_first + only_second
    return float(stats.binomtest(only_first, disagreements).pvalue) if disagreements else 1.0


def compare_shares(data_sets: Mapping[str, tuple[int, int]]) -> tuple[ShareDifference, ...]:
    """Every two data sets, each given as (hits, n); cells are taken to be independent."""
    pairs = list(combinations(data_sets, 2))
    plain = [_fisher(data_sets[first], data_sets[second]) for first, second in pairs]
    return tuple(
        ShareDifference(first, second, share_difference(data_sets[first], data_sets[second]), p, corrected, stars(p))
        for (first, second), p, corrected in zip(pairs, plain, holm(plain), strict=True)
    )


def share_difference(first: tuple[int, int], second: tuple[int, int]) -> Estimate:
    """Share of `second` minus share of `first`, both (hits, n), with Newcombe's hybrid score interval."""
    a, b = wilson(*first), wilson(*second)
    value = b.rate - a.rate
    low = value - math.hypot(b.rate - b.low, a.high - a.rate)
    high = value + math.hypot(b.high - b.rate, a.rate - a.low)
    return Estimate(value, max(low, -1.0), min(high, 1.0))


def group_rates(hit: NDArray[np.bool_], groups: ArrayLike) -> tuple[float, ...]:
    """The share of hits (n,) in every group, in the order of the groups' names."""
    members = members_of(groups, len(hit))
    return tuple((np.bincount(members, hit) / np.bincount(members)).tolist()) if len(hit) else ()


def compare_groups(data_sets: Mapping[str, Sequence[float]]) -> GroupComparison:
    """Data sets by their rates per group, as the paper compares mice: mean ± SEM, ANOVA, t tests, stars.

    A data set of one group, or all of whose groups have one rate, is described and not tested; none may be empty.
    """
    described = tuple(_described(name, rates) for name, rates in data_sets.items())
    tested = [one for one in described if one.sem]
    remarks = tuple(
        f"{one.name}: {'one group' if len(one.rates) == 1 else 'no spread between groups'}, so it is not tested"
        for one in described
        if not one.sem
    )
    if len(tested) < 2:
        return GroupComparison(described, None, (), (*remarks, "fewer than two data sets can be tested"))
    anova = stats.f_oneway(*(one.rates for one in tested))
    pairs = list(combinations(tested, 2))
    found = [stats.ttest_ind(second.rates, first.rates) for first, second in pairs]
    tests = []
    for (first, second), test, corrected in zip(pairs, found, holm([float(t.pvalue) for t in found]), strict=True):
        ends, p = test.confidence_interval(), float(test.pvalue)
        gap = Estimate(second.mean - first.mean, float(ends.low), float(ends.high))
        tests.append(
            GroupTest(first.name, second.name, gap, float(test.statistic), float(test.df), p, corrected, stars(p))
        )
    return GroupComparison(described, (float(anova.statistic), float(anova.pvalue)), tuple(tests), remarks)


def _described(name: str, rates: Sequence[float]) -> GroupRates:
    values = np.asarray(rates, np.float64)
    if not len(values):
        raise ValueError(f"{name}: no group")
    # equal rates have a spread of 0, not of a rounding error
    spread = float(values.std(ddof=1)) if len(values) > 1 and values.min() < values.max() else 0.0
    sem = spread / math.sqrt(len(values)) if len(values) > 1 else None
    return GroupRates(name, tuple(values.tolist()), float(values.mean()), sem)


def _fisher(first: tuple[int, int], second: tuple[int, int]) -> float:
    table = [[first[0], first[1] - first[0]], [second[0], second[1] - second[0]]]
    return float(stats.fisher_exact(table).pvalue)


def _swapped(right: NDArray[np.bool_], better: NDArray[np.bool_], members: NDArray[np.intp], seed: int) -> float:
    """Two-sided p of the models' names being swapped in whole groups; all swaps where they are few."""
    gains = np.bincount(members, better.astype(float) - right.astype(float))
    gains = gains[gains != 0]
    if not len(gains):
        return 1.0
    if len(gains) <= 12:
        signs = 1 - 2 * ((np.arange(2 ** len(gains))[:, None] >> np.arange(len(gains))) & 1)
        return float((np.abs(signs @ gains) >= abs(gains.sum()) - 1e-9).mean())
    signs = np.random.default_rng(seed).choice((-1, 1), (PERMUTATIONS, len(gains)))
    return float((1 + (np.abs(signs @ gains) >= abs(gains.sum()) - 1e-9).sum()) / (PERMUTATIONS + 1))
