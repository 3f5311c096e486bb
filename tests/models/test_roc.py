"""Curves and areas are those of scikit-learn; their intervals are DeLong's and hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hspc_models.roc import area_under, one_against_rest, roc

metrics = pytest.importorskip("sklearn.metrics")


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=60))
def test_curve_and_area_are_those_of_scikit_learn(cells):
    score = np.array([value for value, _ in cells], float)
    positive = np.array([truth for _, truth in cells])
    found = roc(score, positive)
    if positive.all() or not positive.any():
        assert np.isnan(found.area.value)
        return
    false, true, thresholds = metrics.roc_curve(positive, score, drop_intermediate=False)
    assert found.false_positive == pytest.approx(false)
    assert found.true_positive == pytest.approx(true)
    assert found.thresholds == pytest.approx(thresholds)
    assert found.area.value == pytest.approx(metrics.roc_auc_score(positive, score))
    assert 0 <= found.area.low <= found.area.value + 1e-9 and found.area.value - 1e-9 <= found.area.high <= 1


def test_variance_is_delongs():
    # computed from the definition: all pairs, structural components, their variances
    rng = np.random.default_rng(5)
    positive = rng.random(90) < 0.4
    score = np.round(rng.normal(size=90) + positive, 1)
    pairs = np.sign(score[positive][:, None] - score[~positive][None, :]) / 2 + 0.5
    area = pairs.mean()
    m, n = pairs.shape
    error = np.sqrt(pairs.mean(axis=1).var(ddof=1) / m + pairs.mean(axis=0).var(ddof=1) / n)
    half = stats.t.ppf(0.975, 89) * error / (area * (1 - area))
    found = area_under(score, positive)
    assert found.low == pytest.approx(1 / (1 + np.exp(half) * (1 - area) / area))
    assert found.high == pytest.approx(1 / (1 + np.exp(-half) * (1 - area) / area))


def test_interval_holds_the_true_area():
    rng = np.random.default_rng(6)
    truth, held = stats.norm.cdf(1.5 / np.sqrt(2)), 0
    for _ in range(300):
        positive = np.arange(60) < 20
        found = area_under(rng.normal(size=60) + 1.5 * positive, positive)
        held += found.low <= truth <= found.high
    assert 0.91 * 300 <= held <= 0.99 * 300


def test_a_perfect_area_of_few_cells_is_not_certain():
    perfect = area_under(np.arange(20.0), np.arange(20) >= 10)
    assert perfect.value == 1 and 0.7 < perfect.low < 0.95 and perfect.high == 1
    more = area_under(np.arange(200.0), np.arange(200) >= 100)
    assert perfect.low < more.low < 1
    assert area_under(-np.arange(20.0), np.arange(20) >= 10).high == pytest.approx(1 - perfect.low)


def test_groups_widen_the_interval():
    rng = np.random.default_rng(7)
    mice = np.repeat(np.arange(8), 40)
    positive = rng.random(320) < 0.5
    score = rng.normal(size=320) + positive * np.repeat(rng.normal(1.2, 0.8, 8), 40)
    alone, together = area_under(score, positive), area_under(score, positive, mice)
    assert together.value == alone.value
    assert together.high - together.low > 1.3 * (alone.high - alone.low)
    every = area_under(score, positive, np.arange(320))
    assert (every.low, every.high) == (pytest.approx(alone.low), pytest.approx(alone.high))


def test_one_against_rest_takes_its_own_column():
    scores = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.6, 0.3], [0.2, 0.1, 0.7]])
    labels = np.array([0, 0, 1, 2])
    assert one_against_rest(scores, labels, 0).to_json()["auc"]["value"] == 1
    assert one_against_rest(scores, labels, 1).to_json()["positives"] == 1
