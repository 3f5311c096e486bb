"""Ring features do not hang on how a cell lies, nor on which way it was shifted."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from hspc_models.network import symmetry
from hspc_models.radial import radial_features, shifted


def test_turned_and_mirrored_cells_look_the_same_to_it(discs):
    images = discs(4, 1).images
    plain = radial_features(images)
    assert plain.shape == (4, 64) and np.isfinite(plain).all()
    for which in range(1, 8):
        turned = symmetry(torch.from_numpy(images.astype(np.int32)), which).numpy().astype(np.uint16)
        np.testing.assert_allclose(radial_features(turned), plain, atol=1e-6)


def test_a_flat_crop_has_features_too():
    assert np.isfinite(radial_features(np.full((2, 40, 40), 7, np.uint8))).all()


def test_shifted_crops_are_whole_pixels_away_and_the_middle_one_is_as_it_was(discs):
    images = discs(2, 1).images
    moved = [one.numpy().astype(np.uint16) for one in shifted(torch.from_numpy(images).float())]
    assert len(moved) == 25 and all(one.shape == images.shape for one in moved)
    np.testing.assert_array_equal(moved[12], images)
    inner = {one[:, 10:30, 10:30].tobytes() for one in moved}
    wanted = {images[:, 10 + a : 30 + a, 10 + b : 30 + b].tobytes() for a in range(-2, 3) for b in range(-2, 3)}
    assert inner == wanted


@given(st.integers(16, 70))
def test_crops_of_any_size_have_finite_features(edge):
    images = np.random.default_rng(edge).integers(0, 255, (2, edge, edge)).astype(np.uint8)
    assert np.isfinite(radial_features(images)).all()
    assert all(one.shape == images.shape for one in shifted(torch.from_numpy(images).float()))
