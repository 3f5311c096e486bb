"""Figures with their intervals: what an estimate is, and the bootstrap over cells or over groups of cells.

Cells of one mouse or experiment resemble each other, so where groups are known whole groups are drawn (Davison and
Hinkley, *Bootstrap Methods and their Application*, 1997, section 3.8). Of few groups percentiles are too narrow: they
are taken further out, as Hesterberg has it (*The American Statistician* 69:371, 2015, "expanded percentile interval"),
and reach at least as far as his t interval with the bootstrap's standard error. In simulation that still falls a
little short: 91 to 95 of 100 intervals of 5 to 20 groups held the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

DRAWS = 1000
SEED = 20_240_609
CONFIDENCE = 0.95
FEW_UNITS = 30


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with the ends of its 95 % interval; NaN throughout where nothing can be said."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Plain data; what is NaN becomes None, for JSON knows no NaN."""
        plain = {"value": self.value, "low": self.low, "high": self.high}
        return {name: None if math.isnan(number) else number for name, number in plain.items()}

    def widened(self, low: float, high: float) -> Estimate:
        """The same figure with an interval that reaches to `low` and `high` at least."""
        if math.isnan(self.low):
            return Estimate(self.value, low, high)
        return Estimate(self.value, min(self.low, low), max(self.high, high))


NOTHING = Estimate(math.nan, math.nan, math.nan)


def members_of(groups: ArrayLike | None, n: int) -> NDArray[np.intp]:
    """Which unit (0 …) each of n cells belongs to: its group, or itself where there are none.

    Of a single group nothing is known about others: its cells are the units, and what is found holds for that group.
    Raises ValueError where groups are not as many as cells.
    """
    if groups is None:
        return np.arange(n)
    if len(np.asarray(groups)) != n:
        raise ValueError(f"{len(np.asarray(groups))} groups for {n} cells")
    names, members = np.unique(groups, return_inverse=True)
    return np.arange(n) if len(names) == 1 else np.asarray(members)


def group_tables(
    rows: NDArray[np.integer], columns: NDArray[np.integer], members: NDArray[np.intp], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Counts (units, *shape) of the cells' (row, column), one table a unit."""
    tables = np.zeros((int(members.max(initial=-1)) + 1, *shape))
    np.add.at(tables, (members, rows, columns), 1.0)
    return tables


def drawn_tables(tables: NDArray[np.float64], draws: int = DRAWS, seed: int = SEED) -> NDArray[np.float64]:
    """Sums (draws, rows, columns) of as many tables (units, rows, columns), drawn with replacement."""
    units, rows, columns = tables.shape
    rng = np.random.default_rng(seed)
    # units with equal tables are one kind: cells by themselves come in rows · columns kinds only
    kinds, counts = np.unique(tables.reshape(units, -1), axis=0, return_counts=True)
    return np.asarray((rng.multinomial(units, counts / units, draws) @ kinds).reshape(draws, rows, columns))


def bootstrap(
    statistic: Callable[[NDArray[np.intp]], float], members: NDArray[np.intp], draws: int = DRAWS, seed: int = SEED
) -> NDArray[np.float64]:
    """The statistic of `draws` resamples (draws,); it is given row numbers, and may answer NaN."""
    rng = np.random.default_rng(seed)
    units = int(members.max(initial=-1)) + 1
    order = np.argsort(members, kind="stable")
    ends = np.cumsum(np.bincount(members, minlength=units))
    rows = np.split(order, ends[:-1]) if units else []
    found = np.empty(draws)
    for draw in range(draws):
        chosen = rng.integers(0, units, units)
        found[draw] = statistic(order[chosen] if units == len(members) else np.concatenate([rows[i] for i in chosen]))
    return found


def percentiles(drawn: NDArray[np.float64], units: int) -> tuple[float, float]:
    """Ends of the 95 % interval of draws from so many units; NaN of fewer than two.

    They may lie outside what the figure can be: callers know what that is.
    """
    good = drawn[np.isfinite(drawn)]
    if not len(good) or units < 2:
        return math.nan, math.nan
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, units - 1)) * math.sqrt(units / (units - 1))
    outside = float(stats.norm.sf(reach))
    low, high = float(np.quantile(good, outside)), float(np.quantile(good, 1 - outside))
    if units < FEW_UNITS:
        middle, half = float(good.mean()), reach * float(good.std())
        low, high = min(low, middle - half), max(high, middle + half)
    return low, high


def estimate(value: float, drawn: NDArray[np.float64], units: int, least: float = 0.0, most: float = 1.0) -> Estimate:
    """A figure that lies in [least, most] with its interval, which always holds the figure itself."""
    low, high = percentiles(drawn, units)
    if math.isnan(low) or math.isnan(value):
        return Estimate(value, math.nan, math.nan)
    return Estimate(value, max(least, min(low, value)), min(most, max(high, value)))
