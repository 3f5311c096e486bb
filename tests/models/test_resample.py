"""The bootstrap draws what it says, and few groups do not pass for many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hspc_models.resample import Estimate, bootstrap, drawn_tables, estimate, group_tables, members_of


def test_bootstrap_of_a_mean_is_that_of_scipy():
    values = np.random.default_rng(1).exponential(size=80)
    drawn = bootstrap(lambda rows: float(values[rows].mean()), members_of(None, 80), 2000)
    ours = estimate(float(values.mean()), drawn, 80, most=10.0)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", rng=2).confidence_interval
    # ours reaches a little further: expanded for 80 units
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, abs=0.04), pytest.approx(theirs.high, abs=0.04))


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 6))
def test_tables_are_drawn_whole(seed, n, groups):
    rng = np.random.default_rng(seed)
    rows, columns, given = rng.integers(0, 2, n), rng.integers(0, 3, n), rng.integers(0, groups, n)
    members = members_of(given, n)
    tables = group_tables(rows, columns, members, (2, 3))
    assert tables.sum() == n
    drawn = drawn_tables(tables, draws=20, seed=seed)
    assert drawn.shape == (20, 2, 3)
    # every draw is a sum of as many of the units' tables as there are units
    sizes = tables.sum(axis=(1, 2))
    assert len(tables) == (n if len(set(given.tolist())) == 1 else len(set(given.tolist())))
    assert (drawn.sum(axis=(1, 2)) >= len(tables) * sizes.min()).all()
    assert (drawn.sum(axis=(1, 2)) <= len(tables) * sizes.max()).all()


def test_whole_groups_are_drawn():
    members = np.repeat(np.arange(5), 4)
    seen = []
    bootstrap(lambda rows: seen.append(np.bincount(rows, minlength=20)) or 0.0, members, 30)
    for counts in seen:
        assert (counts.reshape(5, 4) == counts.reshape(5, 4)[:, :1]).all()
    assert len({tuple(counts) for counts in seen}) > 10


def test_intervals_of_five_groups_hold_the_truth_more_often_than_percentiles():
    rng = np.random.default_rng(3)
    ours = plain = 0
    for seed in range(300):
        values = rng.normal(0.5, 0.1, 5)
        drawn = bootstrap(lambda rows, values=values: float(values[rows].mean()), np.arange(5), 200, seed)
        found = estimate(float(values.mean()), drawn, 5)
        low, high = np.quantile(drawn, (0.025, 0.975))
        ours += found.low <= 0.5 <= found.high
        plain += low <= 0.5 <= high
    assert ours >= 0.92 * 300 > plain


def test_one_unit_says_nothing_about_others():
    assert members_of([3, 3, 3], 3).tolist() == [0, 1, 2]
    found = estimate(0.7, np.full(50, 0.7), 1)
    assert found.value == 0.7 and np.isnan(found.low) and np.isnan(found.high)
    assert found.to_json() == {"value": 0.7, "low": None, "high": None}
    assert Estimate(0.5, 0.4, 0.6).widened(0.45, 0.8) == Estimate(0.5, 0.4, 0.8)


def test_groups_must_be_as_many_as_cells():
    with pytest.raises(ValueError, match="3 groups for 4 cells"):
        members_of(["a", "b", "c"], 4)
