"""Camera pixels become stage positions: the calibration finds the camera, and says how sure a place is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.stages.affine import Affine, AffineError, apply, centred, invert, nominal

cameras = st.builds(
    lambda scale, angle, mirror, shear, x, y: np.array(
        [
            [scale * np.cos(angle) * mirror, -scale * np.sin(angle) + shear * scale, x],
            [scale * np.sin(angle) * mirror, scale * np.cos(angle), y],
        ]
    ),
    st.floats(0.1, 1.0),
    st.floats(-np.pi, np.pi),
    st.sampled_from([1.0, -1.0]),
    st.floats(-0.05, 0.05),
    st.floats(-500, 500),
    st.floats(-500, 500),
)


@given(cameras)
@settings(max_examples=40, deadline=None)
def test_inverting_undoes_a_camera(matrix):
    pixels = np.array([[0.0, 0.0], [2047.0, 3.0], [12.5, 1500.0]])
    camera = Affine(matrix, np.zeros((6, 6)))
    places = apply(camera, pixels).xy
    assert places == pytest.approx(pixels @ matrix[:, :2].T + matrix[:, 2])
    assert np.allclose(invert(camera, places).xy, pixels, atol=1e-3)
    assert camera.mirrored == (np.linalg.det(matrix[:, :2]) < 0)


def test_errors_of_centroid_and_stage_add_up():
    exact = nominal(0.5, 100, 100)
    place = apply(exact, [[0.0, 0.0]], centroid_sd_px=0.6, repeatability_um=0.4)
    assert place.sd == pytest.approx([0.5])  # 0.3 µm and 0.4 µm
    assert apply(exact, [[49.5, 49.5]]).xy == pytest.approx(np.zeros((1, 2)))
    assert invert(exact, [[0.0, 0.0]], position_sd_um=0.5).sd == pytest.approx([1.0])


def test_a_doubtful_scale_matters_far_from_the_middle_only():
    doubtful = nominal(0.25, 2001, 2001, scale_sd=0.01)
    places = apply(doubtful, [[1000.0, 1000.0], [2000.0, 1000.0]])
    assert places.sd == pytest.approx([0.0, 2.5], abs=1e-6)


def test_a_flat_affine_cannot_be_inverted():
    with pytest.raises(AffineError, match="inverted"):
        invert(Affine(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]), np.zeros((6, 6))), [[0.0, 0.0]])


@given(cameras)
@settings(max_examples=30, deadline=None)
def test_a_centred_camera_puts_the_middle_of_the_frame_at_the_stage(matrix):
    camera = centred(Affine(matrix, np.diag([1e-8, 1e-8, 1.0, 1e-8, 1e-8, 1.0])), 2048, 1024)
    middle, corner = apply(camera, [[1023.5, 511.5]]), apply(camera, [[0.0, 0.0]])
    assert middle.xy == pytest.approx(np.zeros((1, 2)), abs=1e-9)
    assert middle.sd == pytest.approx([0.0], abs=1e-5)
    assert corner.sd == pytest.approx([1e-4 * np.hypot(1023.5, 511.5)], rel=1e-3)
    assert corner.xy[0] == pytest.approx(matrix[:, :2] @ (-1023.5, -511.5))


@pytest.mark.parametrize(("points", "words"), [([0, 1, 2], "shape"), ([[0.0, np.nan]], "NaN")])
def test_what_is_no_place_is_refused(points, words):
    with pytest.raises(AffineError, match=words):
        apply(nominal(0.25, 100, 100), points)
