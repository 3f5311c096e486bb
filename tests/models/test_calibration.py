"""Calibration error, its interval, and the temperature that mends it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_models.calibration import (
    calibration_error,
    calibration_errors_by_class,
    calibration_estimate,
    chance_error,
    fit_temperature,
    reliability,
)
from hspc_models.metrics import softmax


def world(seed: int, n: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a network whose logits are right but for their scale, and labels drawn from the right ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 3))
    labels = (rng.random((n, 1)) > softmax(logits).cumsum(axis=1)).sum(axis=1)
    return softmax(logits, temperature), np.minimum(labels, 2)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_temperature_is_found_again(true):
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (20_000, 3))
    chances = softmax(logits, true)
    labels = (rng.random((len(logits), 1)) > chances.cumsum(axis=1)).sum(axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(true, rel=0.05)
    assert calibration_error(chances, labels) < 0.02


def test_overconfidence_is_seen():
    scores = np.tile([0.99, 0.01], (100, 1))
    assert calibration_error(scores, np.repeat([0, 1], 50)) == pytest.approx(0.49)


def test_bins_hold_equally_many_cells_and_never_part_equal_ones():
    scores, labels = world(2, 1500, 1.0)
    curve = reliability(scores, labels)
    assert [point.hits.n for point in curve] == [100] * 15
    assert [point.confidence for point in curve] == sorted(point.confidence for point in curve)
    tied = np.repeat([[0.6, 0.4], [0.9, 0.1]], (70, 30), axis=0)
    assert [point.hits.n for point in reliability(tied, np.zeros(100, int))] == [70, 30]


def test_error_is_the_mean_gap_of_the_curve():
    scores, labels = world(3, 700, 0.5)
    curve = reliability(scores, labels)
    gap = sum(point.hits.n * abs(point.hits.rate - point.confidence) for point in curve) / 700
    assert calibration_error(scores, labels) == pytest.approx(gap)


@given(st.integers(0, 1000), st.integers(1, 50), st.floats(0.2, 4))
def test_interval_holds_the_error(seed, n, temperature):
    scores, labels = world(seed, n, temperature)
    found = calibration_estimate(scores, labels, np.arange(n) % 4, draws=20)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert all(0 <= error <= 1 for error in calibration_errors_by_class(scores, labels))


def test_intervals_hold_the_truth_of_sure_and_of_perfect_networks():
    for temperature, floor in ((0.5, 43), (1.0, 46)):
        scores, labels = world(4, 200_000, temperature)
        truth = calibration_error(scores, labels, bins=60) if temperature != 1.0 else 0.0
        held = 0
        for seed in range(50):
            found = calibration_estimate(*world(100 + seed, 600, temperature), draws=80, seed=seed)
            held += found.low <= truth <= found.high
        assert held >= floor


def test_what_chance_alone_makes_is_told():
    found = [calibration_error(*world(seed, 600, 1.0)) for seed in range(40)]
    assert np.mean(found) == pytest.approx(chance_error(world(5, 600, 1.0)[0]), rel=0.1)
    sure, labels = world(5, 600, 0.4)
    assert calibration_error(sure, labels) > 3 * chance_error(sure)
    assert calibration_estimate(sure, labels).low > chance_error(sure)


def test_one_class_may_be_off_where_the_best_score_is_not():
    scores = np.tile([0.5, 0.3, 0.2], (1000, 1))
    labels = np.repeat([0, 1, 2], (500, 200, 300))
    assert calibration_errors_by_class(scores, labels) == pytest.approx((0.0, 0.1, 0.1))


def test_no_cell_no_error():
    assert np.isnan(calibration_error(np.empty((0, 3)), np.empty(0, int)))
    assert np.isnan(calibration_estimate(np.empty((0, 3)), np.empty(0, int)).value)
