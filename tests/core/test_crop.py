"""The one crop geometry: where pixels come from, and what cancels."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.core.crop import CropGeometry, cut, fits, mid_grey, normalise

GEOMETRY = CropGeometry(64, 0.25)


def ramp(height, width, dtype=np.uint8):
    ys, xs = np.indices((height, width))
    return (xs + ys).astype(dtype)


def test_at_the_camera_s_scale_a_crop_is_the_pixels_themselves():
    rng = np.random.default_rng(1)
    for dtype in (np.uint8, np.uint16):
        frame = rng.integers(0, np.iinfo(dtype).max, (100, 120), dtype=dtype, endpoint=True)
        crop = cut(frame, None, 51.5, 43.5, 0.25, GEOMETRY)
        assert crop.dtype == dtype
        np.testing.assert_array_equal(crop, frame[12:76, 20:84])


def test_background_goes_and_cells_stay_around_mid_grey():
    background = ramp(100, 120)
    frame = background.copy()
    frame[50, 60] += 30
    crop = cut(frame, background, 60.5, 50.5, 0.25, GEOMETRY)
    assert crop[31, 31] == mid_grey(frame.dtype) + 30
    assert np.count_nonzero(crop != mid_grey(frame.dtype)) == 1


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_values_beyond_the_dtype_are_clipped_not_wrapped(dtype, top):
    dark, bright = np.zeros((80, 80), dtype), np.full((80, 80), top, dtype)
    assert cut(bright, dark, 39.5, 39.5, 0.25, GEOMETRY).min() == top
    assert cut(dark, bright, 39.5, 39.5, 0.25, GEOMETRY).max() == 0


@given(
    um_per_px=st.floats(0.08, 0.6),
    x=st.floats(-0.5, 200.5),
    y=st.floats(-0.5, 150.5),
)
def test_what_fits_reads_no_pixel_from_outside(um_per_px, x, y):
    """A crop that fits is the same whatever surrounds the frame; fits says no wherever that is not so."""
    frame = ramp(150, 200, np.uint16) * 10
    if fits(x, y, frame.shape, um_per_px, GEOMETRY):
        half = GEOMETRY.width_um / um_per_px / 2
        assert x - half >= -0.5 - 1 and x + half <= 200 - 0.5 + 1
        crop = cut(frame, None, x, y, um_per_px, GEOMETRY).astype(float)
        # a plane stays a plane: its value at the middle is that of the cell's place, its slope the ratio of the scales
        ratio = GEOMETRY.um_per_px / um_per_px
        inner = crop[8:-8, 8:-8]
        assert abs(inner.mean() - 10 * (x + y)) < 2.0
        assert np.allclose(np.diff(inner, axis=1).mean(), 10 * ratio, rtol=0.02)


def test_fits_is_exact_at_the_border():
    assert fits(31.5, 31.5, (64, 64), 0.25, GEOMETRY)
    assert not fits(31.4, 31.5, (64, 64), 0.25, GEOMETRY)
    assert not fits(31.5, 31.6, (64, 64), 0.25, GEOMETRY)
    assert not fits(31.5, 31.5, (63, 64), 0.25, GEOMETRY)


def test_a_crop_that_leaves_the_frame_is_mirrored():
    frame = np.random.default_rng(2).integers(0, 255, (80, 80), dtype=np.uint8)
    crop = cut(frame, None, 0.0, 40.5, 0.25, CropGeometry(65, 0.25))
    np.testing.assert_array_equal(crop[:, :32], crop[:, 64:32:-1])
    assert cut(np.full((1, 1), 7, np.uint8), None, 0.0, 0.0, 0.25, GEOMETRY).min() == 7


def test_minification_averages_instead_of_aliasing():
    stripes = np.tile(np.array([0, 200], np.uint8), (240, 120))
    crop = cut(stripes, None, 119.5, 119.5, 0.1, GEOMETRY)
    assert crop.std() < 15 and abs(crop.mean() - 100) < 3


@given(gain=st.floats(0.2, 50), offset=st.floats(-100, 100))
def test_normalise_cancels_gain_and_offset(gain, offset):
    crops = np.random.default_rng(3).normal(120, 20, (2, 16, 16))
    np.testing.assert_allclose(normalise(gain * crops + offset), normalise(crops), atol=2e-3)


def test_normalise_is_one_function_for_numpy_and_torch():
    crops = np.random.default_rng(4).normal(120, 20, (3, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(normalise(torch.from_numpy(crops)).numpy(), normalise(crops), atol=1e-4)
    assert not np.any(normalise(np.full((1, 8, 8), 99.0)))
