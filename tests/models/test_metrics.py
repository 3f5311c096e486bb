"""Figures are what their definitions say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_models.metrics import (
    balanced_accuracy,
    calibration_error,
    confusion,
    fit_temperature,
    softmax,
    wilson,
)


def test_confusion_and_balanced_accuracy():
    table = confusion(np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 0]), 3)
    assert table.tolist() == [[3, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert balanced_accuracy(table) == pytest.approx((0.75 + 0.5) / 2)  # the absent class does not count


def test_wilson_against_published_values():
    rate = wilson(81, 263)  # Newcombe 1998, Statistics in Medicine 17:857, table I
    assert (rate.low, rate.high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert wilson(0, 20).high == pytest.approx(0.1611, abs=1e-4)


@given(st.integers(0, 5000), st.data())
def test_wilson_holds_its_rate(n, data):
    hits = data.draw(st.integers(0, n))
    rate = wilson(hits, n)
    assert 0 <= rate.low <= rate.rate <= rate.high <= 1


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
