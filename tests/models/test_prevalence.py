"""Shares and purities of another population than the one that calibrated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.core.errors import SettingsError
from hspc_models.metrics import softmax
from hspc_models.prevalence import (
    class_weights,
    corrected_shares,
    purity_in,
    reweighted_scores,
    shares_from_scores,
)

TABLE = np.array([[140, 40, 20], [30, 140, 30], [10, 40, 150]])
RATES = TABLE / 200


def test_confusion_is_taken_out_of_the_shares():
    truth = np.array([0.05, 0.25, 0.7])
    predicted = np.round(100_000 * truth @ RATES).astype(int)
    found = corrected_shares(predicted, TABLE)
    assert [share.value for share in found.shares] == pytest.approx(truth, abs=0.001)
    assert [share.value for share in found.shares] == pytest.approx(np.linalg.solve(RATES.T, truth @ RATES), abs=1e-3)
    assert found.raw[0].rate > 0.1  # uncorrected, the rare class is half others' mistakes
    assert found.condition < 4


@given(st.lists(st.integers(0, 500), min_size=3, max_size=3).filter(any), st.integers(0, 99))
def test_shares_are_shares(predicted, seed):
    found = corrected_shares(np.array(predicted), TABLE, draws=20, seed=seed)
    assert sum(share.value for share in found.shares) == pytest.approx(1)
    for share in found.shares:
        assert 0 <= share.low <= share.value <= share.high <= 1


def test_intervals_hold_the_true_shares():
    rng, truth, held = np.random.default_rng(1), np.array([0.1, 0.3, 0.6]), np.zeros(3)
    for seed in range(60):
        table = np.stack([rng.multinomial(150, row) for row in RATES])
        found = corrected_shares(rng.multinomial(800, truth @ RATES), table, draws=100, seed=seed)
        held += [share.low <= true <= share.high for share, true in zip(found.shares, truth, strict=True)]
    assert (held >= 53).all()


def test_abstention_and_strangers_have_their_place():
    # three kinds, the last a stranger; columns: two classes and abstention
    table = np.array([[80, 5, 15], [5, 85, 10], [10, 10, 80]])
    truth = np.array([0.3, 0.5, 0.2])
    found = corrected_shares(np.round(10_000 * truth @ (table / 100)).astype(int), table)
    assert [share.value for share in found.shares] == pytest.approx(truth, abs=0.002)


def test_classes_that_look_alike_have_wide_intervals():
    alike = np.array([[60, 40], [55, 45]])
    found = corrected_shares(np.array([570, 430]), alike)
    assert found.shares[0].high - found.shares[0].low > 0.9
    assert found.condition > 10


def test_nothing_is_corrected_with_nothing():
    with pytest.raises(SettingsError, match="every kind needs labelled cells"):
        corrected_shares(np.array([5, 5]), np.array([[3, 1], [0, 0]]))
    with pytest.raises(SettingsError, match="must be predicted"):
        corrected_shares(np.array([0, 0]), np.array([[3, 1], [1, 3]]))


def test_scores_are_bayes_in_the_declared_population():
    rng = np.random.default_rng(2)
    declared = np.array([0.05, 0.15, 0.8])
    labels = rng.choice(3, 20_000, p=declared)
    evidence = 1.5 * np.eye(3)[labels] + rng.normal(size=(len(labels), 3))
    even = softmax(1.5 * evidence)
    right = softmax(1.5 * evidence + np.log(declared))
    assert reweighted_scores(even, np.full(3, 1 / 3), declared) == pytest.approx(right)
    assert shares_from_scores(even, np.full(3, 1 / 3)) == pytest.approx(declared, abs=0.02)


@given(st.integers(0, 1000))
def test_reweighting_keeps_rows_shares_and_comes_back(seed):
    rng = np.random.default_rng(seed)
    scores = softmax(rng.normal(size=(5, 3)))
    before, after = rng.dirichlet(np.ones(3)) + 0.01, rng.dirichlet(np.ones(3)) + 0.01
    moved = reweighted_scores(scores, before, after)
    assert moved.sum(axis=1) == pytest.approx(np.ones(5))
    assert reweighted_scores(moved, after, before) == pytest.approx(scores)


def test_a_row_that_nothing_declared_explains_stays():
    scores = np.array([[1.0, 0.0], [0.4, 0.6]])
    found = reweighted_scores(scores, np.array([0.5, 0.5]), np.array([0.0, 1.0]))
    assert found.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_purity_in_a_declared_population():
    labels = np.repeat([0, 1, 2], 2000)
    taken = np.arange(6000) % 2000 < 2000 * np.array([0.6, 0.05, 0.01])[labels]
    declared = np.array([0.05, 0.25, 0.7])
    mix = declared * [0.6, 0.05, 0.01]
    found = purity_in(labels, taken, 0, declared)
    assert found.value == pytest.approx(mix[0] / mix.sum())
    assert found.low < mix[0] / mix.sum() < found.high
    assert found.value < (labels[taken] == 0).mean() - 0.2
    assert purity_in(labels, np.zeros(6000, bool), 0, declared).to_json() == {"value": None, "low": 0.0, "high": 1.0}


def test_weights_make_calibration_cells_the_declared_population():
    labels = np.array([0, 0, 0, 1])
    weights = class_weights(labels, np.array([0.5, 0.5]))
    assert weights is not None
    assert np.bincount(labels, weights[labels]) / 4 == pytest.approx([0.5, 0.5])
    assert class_weights(labels, None) is None
