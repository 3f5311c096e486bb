"""The tutor sees cells whichever way they lie, and doubts labels that their looks contradict."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hspc_models.dataset import LabelledCrops
from hspc_models.network import symmetry
from hspc_models.radial import radial_features, radial_predictions, tutor_scores


def discs(n: int, seed: int) -> LabelledCrops:
    """Small and large bright discs in turn, with noise."""
    rng = np.random.default_rng(seed)
    axis = np.arange(40) - 19.5
    labels = np.arange(n) % 2
    radius = np.where(labels == 0, 8, 13) + rng.normal(0, 0.5, n)
    inside = np.hypot(axis[:, None], axis[None, :])[None] < radius[:, None, None]
    images = 1000 + 300 * inside + rng.normal(0, 30, (n, 40, 40))
    return LabelledCrops(images.astype(np.uint16), labels, ("small", "large"), np.arange(n), 0.5, "discs")


def test_turned_and_mirrored_cells_look_the_same_to_it():
    images = discs(4, 1).images
    plain = radial_features(images)
    assert plain.shape == (4, 38) and np.isfinite(plain).all()
    for which in range(1, 8):
        turned = symmetry(torch.from_numpy(images.astype(np.int32)), which).numpy().astype(np.uint16)
        np.testing.assert_allclose(radial_features(turned), plain, atol=1e-6)


def test_a_flat_crop_has_features_too():
    assert np.isfinite(radial_features(np.full((2, 40, 40), 7, np.uint8))).all()


def test_it_tells_sizes_apart():
    found = radial_predictions(discs(40, 1), discs(20, 2))
    assert (found == discs(20, 2).labels).all()


def test_a_label_that_the_looks_contradict_is_doubted():
    crops = discs(60, 1)
    crops.labels[:3] = 1 - crops.labels[:3]
    scores = tutor_scores(crops, seed=1)
    assert scores.shape == (60, 2) and scores.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    own = scores[np.arange(60), crops.labels]
    assert own[:3].max() < 0.3 and np.median(own[3:]) > 0.7
