"""Parity: an honest engine passes, and each way of being wrong is found and named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_models.engines.null import ImmediateEngine
from hspc_models.metrics import softmax
from hspc_models.parity import LIMITS, measure

CLASSES = ("a", "b", "c")
CROPS = np.random.default_rng(0).integers(0, 256, (64, 16, 16), dtype=np.uint8)


class Linear(ImmediateEngine):
    """A small classifier in float64; `spoil` may change what it says."""

    precision = "fp32"  # type: ignore[assignment]
    buckets = (1, 4, 16)  # type: ignore[assignment]

    def __init__(self, spoil: Any = None) -> None:
        super().__init__(CLASSES)
        self._weights = np.random.default_rng(1).normal(0, 0.05, (256, 3))
        self._spoil = spoil

    def infer(self, crops):
        flat = crops.reshape(len(crops), -1).astype(np.float64)
        flat = flat - flat.mean(axis=1, keepdims=True)
        flat = flat / flat.std(axis=1, keepdims=True)
        scores = softmax(flat @ self._weights * 2).astype(np.float32)
        return scores if self._spoil is None else self._spoil(scores, crops)


REFERENCE = Linear().infer(CROPS)


def test_an_honest_engine_passes_in_every_bucket():
    found = measure(Linear(), CROPS, REFERENCE)
    assert found.passed and found.top1_agreement == 1.0 and found.nan == 0
    assert set(found.max_dp) == {1, 4, 16} and found.worst_dp < 1e-6
    assert set(found.flips.values()) == {0}


def shuffled(scores, crops):
    return scores[:, ::-1].copy()


def slot(scores, crops):
    scores = scores.copy()
    scores[1:2] = scores[1:2, [1, 2, 0]]
    return scores


def one_bucket(scores, crops):
    return scores[:, [1, 2, 0]] if len(crops) == 4 else scores


def neighbour(scores, crops):
    return 0.9 * scores + 0.1 * scores.mean(axis=0)


def swallows_nan(scores, crops):
    return np.nan_to_num(scores, nan=1 / 3)


def spreads_nan(scores, crops):
    return np.full_like(scores, np.nan) if np.isnan(scores).any() else scores


def sometimes_nan(scores, crops):
    scores = scores.copy()
    scores[-1] = np.nan
    return scores


def depth(scores, crops):
    return scores if crops.dtype == np.uint8 else scores[:, [1, 2, 0]]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (shuffled, "top-1"),
        (slot, "slot"),
        (one_bucket, "slot"),
        (neighbour, "neighbours"),
        (swallows_nan, "NaN"),
        (spreads_nan, "NaN"),
        (sometimes_nan, "NaN"),
        (depth, "depth"),
    ],
)
def test_each_way_of_being_wrong_is_found(spoil, why):
    found = measure(Linear(spoil), CROPS, REFERENCE)
    assert not found.passed and why in "; ".join(found.failures), found.failures


@settings(max_examples=30, deadline=None)
@given(st.floats(0.0, 0.2))
def test_the_largest_difference_is_reported_as_it_is(by):
    """Scores moved towards even ones by a share: |Δp| and flips follow, and the limit decides."""

    def moved(scores, crops):
        return ((1 - by) * scores + by / 3).astype(np.float32)

    found = measure(Linear(moved), CROPS, REFERENCE)
    assert found.worst_dp == pytest.approx(by * float(np.abs(REFERENCE - 1 / 3).max()), abs=1e-5)
    expected = int((((1 - by) * REFERENCE + by / 3 >= 0.5) != (REFERENCE >= 0.5)).any(axis=1).sum())
    assert abs(found.flips[0.5] - expected) <= 1
    assert found.top1_agreement == 1.0 or by == 0.2
    assert (found.worst_dp <= LIMITS["fp32"].max_dp) == ("|Δp|" not in "; ".join(found.failures))
