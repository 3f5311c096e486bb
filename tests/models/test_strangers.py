"""Strangers are strange, and few known cells are taken for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import distance

from hspc_live.core.errors import SettingsError
from hspc_models.metrics import softmax
from hspc_models.strangers import (
    energy,
    fit_features,
    mahalanobis,
    score_strangeness,
    shrunk_covariance,
    stranger_limit,
)

reference = pytest.importorskip("sklearn.covariance")


@pytest.mark.parametrize("wrongly", [0.01, 0.05, 0.2])
def test_few_known_cells_are_called_strangers(wrongly):
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(300):
        limit = stranger_limit("max_score", rng.exponential(size=200), wrongly).limit
        assert limit is not None
        shares.append(np.exp(-limit))
    assert np.mean(shares) <= wrongly * 1.1
    assert np.mean(shares) >= wrongly * 0.8


def test_too_few_cells_give_no_limit():
    assert stranger_limit("energy", np.arange(18.0), 0.05).limit is None
    assert stranger_limit("energy", np.arange(19.0), 0.05).limit == 18
    found = stranger_limit("energy", np.arange(5.0), 0.05, np.array([100.0]))
    assert found.found is not None and found.found.rate == 0
    with pytest.raises(SettingsError, match="between 0 and 1"):
        stranger_limit("energy", np.arange(5.0), 5)


def test_strangers_are_found_by_their_features():
    rng = np.random.default_rng(2)
    mixing = rng.normal(size=(40, 40))
    labels = rng.integers(0, 3, 500)
    centres = rng.normal(size=(3, 40)) * 2
    features = (centres[labels] + rng.normal(size=(500, 40))) @ mixing
    space = fit_features(features[:300], labels[:300], 3)
    far = (centres[0] + 1.2 * rng.choice([-1, 1], (200, 40)) + rng.normal(size=(200, 40))) @ mixing
    found = stranger_limit("mahalanobis", mahalanobis(features[300:], space), 0.05, mahalanobis(far, space))
    assert found.area is not None and found.area.low > 0.9
    assert found.found is not None and found.found.rate > 0.6
    plain = found.to_json()
    assert plain["measure"] == "mahalanobis" and plain["found"]["n"] == 200


def test_distance_is_that_of_scipy():
    rng = np.random.default_rng(3)
    features, labels = rng.normal(size=(200, 5)) * [1, 2, 3, 4, 5], rng.integers(0, 2, 200)
    space = fit_features(features, labels, 2)
    covariance, _ = shrunk_covariance(features - space.means[labels])
    inverse = np.linalg.inv(covariance)
    expected = [min(distance.mahalanobis(row, mean, inverse) for mean in space.means) for row in features[:20]]
    assert mahalanobis(features[:20], space) == pytest.approx(expected)


@given(st.integers(2, 60), st.integers(1, 30), st.integers(0, 99))
def test_covariance_is_shrunk_as_by_scikit_learn(n, d, seed):
    values = np.random.default_rng(seed).normal(size=(n, d)) * np.arange(1, d + 1)
    expected, shrinkage = reference.ledoit_wolf(values, assume_centered=True)
    found, by = shrunk_covariance(values)
    assert by == pytest.approx(shrinkage, abs=1e-9)
    assert found == pytest.approx(expected, abs=1e-9 * max(1.0, float(np.abs(expected).max())))


def test_more_features_than_cells_still_measure():
    rng = np.random.default_rng(4)
    space = fit_features(rng.normal(size=(20, 100)), np.arange(20) % 2, 2)
    assert 0 < space.shrinkage <= 1
    assert np.isfinite(mahalanobis(rng.normal(size=(5, 100)), space)).all()


@given(st.floats(-20, 20), st.floats(0.2, 5))
def test_energy_moves_with_the_logits(shift, temperature):
    logits = np.array([[2.0, 0.0, -1.0]])
    assert energy(logits + shift, temperature) == pytest.approx(energy(logits, temperature) - shift)
    assert energy(logits)[0] == pytest.approx(-np.log(np.exp(logits).sum()))
    assert energy(np.zeros((1, 3)), temperature)[0] > energy(np.array([[9.0, 0.0, 0.0]]), temperature)[0]


def test_an_unsure_score_is_strange():
    assert score_strangeness(softmax(np.array([[0.0, 0.0], [5.0, 0.0]]))).tolist() == pytest.approx(
        [0.5, 0.0067], abs=1e-4
    )


def test_what_has_no_spread_or_no_cell_is_refused():
    with pytest.raises(SettingsError, match="do not vary"):
        fit_features(np.ones((6, 3)), np.arange(6) % 2, 2)
    with pytest.raises(SettingsError, match="class 1 has no cell"):
        fit_features(np.eye(3), np.zeros(3, int), 2)
