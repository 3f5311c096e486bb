"""PCA planes and the numbers beside them: mixed is mixed, clustered is clustered, rare classes count as much."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hspc_models.pca import clustered, plane

NAMES = ("a", "b", "c")


def test_clusters_are_told_from_a_mixture():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 240)
    mixed = rng.normal(size=(240, 20))
    apart = mixed + 6 * np.eye(20)[labels]
    before, after = (plane(values, labels, NAMES, None) for values in (mixed, apart))
    assert before.in_plane.neighbours.low < 1 / 3 < before.in_plane.neighbours.high
    assert after.in_plane.neighbours.value > 0.95 and after.in_full.neighbours.value > 0.95
    assert after.in_plane.silhouette > 0.5 > 0.1 > before.in_plane.silhouette
    assert after.places.shape == (240, 2) and 0 < sum(after.explained) <= 1


def test_chance_is_chance():
    """Ties, of which ten votes for three classes have many, favour nobody's own class."""
    rng = np.random.default_rng(3)
    found = [clustered(rng.normal(size=(150, 5)), rng.integers(0, 3, 150), NAMES, None) for _ in range(12)]
    assert np.mean([one.neighbours.value for one in found]) == pytest.approx(1 / 3, abs=0.04)


def test_a_large_class_does_not_win_where_all_are_mixed():
    rng = np.random.default_rng(2)
    labels = (rng.random(600) < 0.1).astype(np.int64)
    found = clustered(rng.normal(size=(600, 3)), labels, ("most", "few"), None)
    assert found.neighbours.value == pytest.approx(0.5, abs=0.08)


def test_nothing_is_said_of_too_few():
    one_class = clustered(np.eye(20), np.zeros(20, np.int64), NAMES, None)
    few = clustered(np.eye(4), np.array([0, 1, 0, 1]), NAMES, None)
    assert math.isnan(one_class.neighbours.value) and math.isnan(few.silhouette)
    assert one_class.to_json()["silhouette"] is None
