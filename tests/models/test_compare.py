"""Two models on the same cells, one model on two data sets: the tests the paper uses, checked against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hspc_models.compare import (
    compare_groups,
    compare_models,
    compare_shares,
    group_rates,
    mcnemar,
    share_difference,
)


def two_models(seed: int, n: int, first: float, second: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    wrong = (labels + 1) % 3
    return labels, *(np.where(rng.random(n) < rate, labels, wrong) for rate in (first, second))


def test_the_better_model_is_found():
    found = compare_models(*two_models(1, 800, 0.7, 0.8), 3)
    assert found.difference.low > 0 and found.p < 0.01
    assert found.second - found.first == pytest.approx(found.difference.value)
    assert found.only_second > found.only_first and found.test == "McNemar, exact"


def test_equal_models_are_seldom_called_different():
    below = held = 0
    for seed in range(100):
        found = compare_models(*two_models(seed, 150, 0.75, 0.75), 3, draws=200)
        below += found.p < 0.05
        held += found.difference.low <= 0 <= found.difference.high
    assert below <= 10 and held >= 88


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_of_the_disagreements(first, second):
    p = mcnemar(first, second)
    assert 0 < p <= 1 and p == mcnemar(second, first)
    n = first + second
    if n:
        assert p == pytest.approx(min(1.0, 2 * stats.binom.cdf(min(first, second), n, 0.5)))


def test_groups_are_swapped_whole():
    # the second model is better in one mouse of eight only, by many cells
    labels = np.zeros(800, int)
    mice = np.repeat(np.arange(8), 100)
    first = np.where(np.arange(800) % 100 < 50, 0, 1)
    second = np.where((mice == 0) | (np.arange(800) % 100 < 50), 0, 1)
    alone, together = compare_models(labels, first, second, 2), compare_models(labels, first, second, 2, mice)
    assert alone.p < 1e-9 and together.p == 1.0
    assert together.difference.low <= 0 < alone.difference.low
    better = np.where(np.arange(800) % 100 < 60, 0, 1)
    assert compare_models(labels, first, better, 2, mice).p == pytest.approx(2 / 2**8)
    assert compare_models(labels, first, better, 2, np.repeat(np.arange(20), 40)).p < 0.05


def test_a_model_is_as_good_as_itself():
    labels, said, _ = two_models(2, 100, 0.7, 0.7)
    found = compare_models(labels, said, said, 3, np.arange(100) % 4)
    assert (found.p, found.difference.value, found.difference.low) == (1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="not the same cells"):
        compare_models(labels, said, said[:-1], 3)


def test_difference_of_shares_against_published_values():
    # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10: 56/70 against 48/80
    found = share_difference((48, 80), (56, 70))
    assert (found.low, found.high) == (pytest.approx(0.0524, abs=2e-4), pytest.approx(0.3339, abs=2e-4))


@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_difference_of_shares_turns_round(n, m, data):
    a, b = (data.draw(st.integers(0, n)), n), (data.draw(st.integers(0, m)), m)
    there, back = share_difference(a, b), share_difference(b, a)
    assert -1 <= there.low <= there.value <= there.high <= 1
    assert (back.low, back.high) == (pytest.approx(-there.high), pytest.approx(-there.low))


def test_shares_of_several_data_sets():
    first, second, third = compare_shares({"a": (60, 100), "b": (62, 100), "c": (90, 100)})
    assert (first.first, first.second, first.stars) == ("a", "b", "n.s.")
    assert second.stars == third.stars == "***" and second.p < second.p_holm
    assert second.p == pytest.approx(stats.fisher_exact([[60, 40], [90, 10]]).pvalue)


def test_mice_are_compared_as_the_paper_does():
    young, aged, mixed = [0.71, 0.75, 0.77, 0.73], [0.79, 0.82, 0.80, 0.84, 0.81], [0.74, 0.78, 0.76]
    found = compare_groups({"young": young, "aged": aged, "mixed": mixed})
    expected = stats.ttest_ind(aged, young)
    assert found.tests[0].p == pytest.approx(expected.pvalue) and found.tests[0].stars == "**"
    assert found.tests[0].difference.value == pytest.approx(np.mean(aged) - np.mean(young))
    assert found.tests[0].difference.low < np.mean(aged) - np.mean(young) < found.tests[0].difference.high
    assert found.anova == pytest.approx(tuple(stats.f_oneway(young, aged, mixed)))
    assert found.data_sets[0].sem == pytest.approx(stats.sem(young))
    assert found.to_json()["data_sets"][1]["n"] == 5


def test_one_mouse_is_described_and_not_tested():
    found = compare_groups({"young": [0.7], "aged": [0.8, 0.9], "flat": [0.5, 0.5]})
    assert found.anova is None and found.tests == ()
    assert found.data_sets[0].sem is None and found.data_sets[2].sem == 0
    assert "young: one group" in found.remarks[0] and "flat: no spread" in found.remarks[1]
    with pytest.raises(ValueError, match="empty: no group"):
        compare_groups({"empty": []})


def test_rates_per_group():
    assert group_rates(np.array([True, False, True, True]), ["m2", "m1", "m2", "m1"]) == (0.5, 1.0)
