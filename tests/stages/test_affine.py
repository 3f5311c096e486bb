"""Camera pixels become stage positions: the calibration finds the camera, and says how sure a place is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.stages.affine import Affine, AffineError, apply, centred, fit, invert, nominal

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


def pairs(matrix, n, seed, noise_um=0.0):
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(0, 2048, (n, 2))
    return pixels, pixels @ matrix[:, :2].T + matrix[:, 2] + rng.normal(0, noise_um, (n, 2))


@given(cameras, st.integers(3, 30), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_fit_finds_the_camera_and_inverting_undoes_it(matrix, n, seed):
    pixels, places = pairs(matrix, n, seed)
    found = fit(pixels, places, noise_um=0.1)
    assert np.allclose(apply(found.affine, pixels).xy, places, atol=1e-5)
    assert np.allclose(invert(found.affine, places).xy, pixels, atol=1e-3)
    assert found.affine.mirrored == (np.linalg.det(matrix[:, :2]) < 0)
    assert found.report()["residual_max_um"] < 1e-5


@given(st.integers(0, 1000), st.integers(10, 40))
@settings(max_examples=30, deadline=None)
def test_wrong_pairs_have_no_say(seed, n):
    rng = np.random.default_rng(seed)
    matrix = nominal(0.25, 2048, 2048, rotation_deg=3).matrix
    pixels, places = pairs(matrix, n, seed, 0.3)
    wrong = rng.choice(n, n // 4, replace=False)
    turns = rng.uniform(0, 2 * np.pi, len(wrong))
    places[wrong] += 40 * np.column_stack([np.cos(turns), np.sin(turns)])
    found = fit(pixels, places, noise_um=0.3)
    assert not found.inliers[wrong].any()
    assert set(wrong.tolist()) <= set(found.report()["outliers"])
    middle = [[1024.0, 1024.0]]
    assert np.hypot(*(apply(found.affine, middle).xy - apply(Affine(matrix, np.zeros((6, 6))), middle).xy)[0]) < 1


def test_the_stated_uncertainty_is_that_of_repeated_calibrations():
    matrix = nominal(0.25, 1000, 1000, rotation_deg=20).matrix
    corner = np.array([[1900.0, 1500.0]])
    truth = corner @ matrix[:, :2].T + matrix[:, 2]
    errors, stated = [], []
    for seed in range(300):
        place = apply(fit(*pairs(matrix, 12, seed, 0.5), noise_um=0.5).affine, corner)
        errors.append((place.xy - truth)[0])
        stated.append(place.covariance[0])
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.sqrt(np.trace(np.mean(stated, 0)) / 2), rel=0.2)


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


@pytest.mark.parametrize(
    ("pixels", "places", "words"),
    [
        ([[0, 0], [1, 1]], [[0, 0], [1, 1]], "too few"),
        ([[0, 0], [1, 1], [2, 2], [5, 5]], [[0, 0], [1, 0], [0, 1], [1, 1]], "one line"),
        ([[0, 0], [1, 0], [0, 1], [1, 1]], [[0, 0], [1, 1], [2, 2], [5, 5]], "one line"),
        ([[3, 3]] * 4, [[0, 0], [1, 0], [0, 1], [1, 1]], "one line"),
        ([[0, 0], [1, 0], [0, np.nan]], [[0, 0], [1, 0], [0, 1]], "NaN"),
        ([[0, 0], [1, 0], [0, 1]], [[0, 0], [1, 0]], "pairs"),
        ([0, 1, 2], [0, 1, 2], "shape"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_the_mend(pixels, places, words):
    with pytest.raises(AffineError, match=words):
        fit(pixels, places, noise_um=0.1)


def test_pairs_that_agree_on_nothing_are_refused():
    rng = np.random.default_rng(3)
    with pytest.raises(AffineError, match="agree"):
        fit(rng.uniform(0, 2000, (12, 2)), rng.uniform(0, 5000, (12, 2)), noise_um=1e-3)


def test_a_flat_affine_cannot_be_inverted():
    with pytest.raises(AffineError, match="inverted"):
        invert(Affine(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]), np.zeros((6, 6))), [[0.0, 0.0]])


@given(cameras, st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_calibration_from_shifts_puts_the_middle_of_the_frame_at_the_stage(matrix, seed):
    rng = np.random.default_rng(seed)
    shifts = rng.uniform(-600, 600, (12, 2))
    moves = -shifts @ matrix[:, :2].T + rng.normal(0, 0.2, (12, 2))
    camera = centred(fit(shifts, -moves, noise_um=0.2).affine, 2048, 1024)
    middle, corner = apply(camera, [[1023.5, 511.5]]), apply(camera, [[0.0, 0.0]])
    assert middle.xy == pytest.approx(np.zeros((1, 2)), abs=1e-9)
    assert middle.sd == pytest.approx([0.0], abs=1e-5) and corner.sd[0] > 0.05
    truth = matrix[:, :2] @ (-1023.5, -511.5)
    assert np.hypot(*(corner.xy[0] - truth)) < 5 * corner.sd[0]
