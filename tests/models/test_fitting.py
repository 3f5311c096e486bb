"""Crops of another size or scale show the same cell afterwards, or are refused."""

from __future__ import annotations

import numpy as np
import pytest

from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import RecordingError
from hspc_models.dataset import LabelledCrops
from hspc_models.fitting import fitted


def discs(edge: int, um_per_px: float, diameter_um: float = 8.0) -> LabelledCrops:
    """Two crops of a bright disc in the middle."""
    axis = (np.arange(edge) - (edge - 1) / 2) * um_per_px
    inside = np.hypot(axis[:, None], axis[None, :]) < diameter_um / 2
    images = np.repeat(np.where(inside, 200, 100)[None], 2, 0).astype(np.uint8)
    return LabelledCrops(images, np.arange(2), ("a", "b"), np.arange(2), um_per_px, "discs.h5")


def diameter_um(crops: LabelledCrops) -> float:
    return float(np.sqrt((crops.images[0] > 150).sum() * 4 / np.pi) * crops.um_per_px)


def test_what_fits_is_left_alone():
    crops = discs(40, 0.5)
    same, said = fitted(crops, CropGeometry(40, 0.5))
    assert said == "" and same.images is crops.images


@pytest.mark.parametrize("edge", [64, 55, 36])
def test_larger_or_smaller_crops_of_the_scale_keep_their_pixels(edge):
    found, said = fitted(discs(edge, 0.5), CropGeometry(40, 0.5))
    assert found.images.shape == (2, 40, 40) and diameter_um(found) == pytest.approx(8.0, rel=0.05)
    assert f"{edge} × {edge} px" in said and ("mirrored" in said) == (edge < 40) and "resampled" not in said
    if edge == 64:
        assert np.array_equal(found.images, discs(64, 0.5).images[:, 12:52, 12:52])


@pytest.mark.parametrize("um_per_px", [0.25, 0.7])
def test_another_scale_is_resampled(um_per_px):
    found, said = fitted(discs(round(24 / um_per_px), um_per_px), CropGeometry(40, 0.5))
    assert found.um_per_px == 0.5 and diameter_um(found) == pytest.approx(8.0, rel=0.05)
    assert "resampled" in said


def test_an_unknown_scale_is_taken_for_the_models():
    found, said = fitted(discs(64, float("nan")), CropGeometry(40, 0.5))
    assert found.um_per_px == 0.5 and "unknown scale" in said


def test_crops_that_show_too_little_are_refused():
    with pytest.raises(RecordingError, match=r"discs\.h5: crops are 24 × 24 px of 0\.5 µm, which shows 60% of the"):
        fitted(discs(24, 0.5), CropGeometry(40, 0.5))
