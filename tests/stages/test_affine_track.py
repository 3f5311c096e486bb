"""Camera against stage from pictures in a row: slips on the way do no harm, or the measurement is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.core.errors import DeviceError
from hspc_live.processes.chamber_calibrate import LONG, SHORT
from hspc_live.stages.affine import AffineError, AffineFit, Floats
from hspc_live.stages.affine_track import check_steady, fit_track

NOISE_UM = 0.25
STAGE = np.array([(0.0, 0.0), *((20 * x, 20 * y) for x, y in SHORT), *((77 * x, 77 * y) for x, y in LONG)])
MOVES = len(STAGE) - 1
CAMERA = np.array([[0.24, -0.06], [0.07, 0.25]])


def seen(camera: Floats, seed: int, slips: Sequence[int] = (), slip_um: float = 2.0, noise_um: float = 0.0) -> Floats:
    """Where a cell shows in every picture, px, when the stage slips before those numbered `slips`."""
    rng = np.random.default_rng(seed)
    true = STAGE + rng.normal(0, noise_um, STAGE.shape) if noise_um else STAGE.copy()
    for slip in slips:
        turn = rng.uniform(0, 2 * math.pi)
        true[slip:] += slip_um * np.array([math.cos(turn), math.sin(turn)])
    pixels = true @ np.linalg.inv(camera).T
    return np.asarray(pixels - pixels[0])


def in_sd(fitted: AffineFit, camera: Floats) -> float:
    """How far the affine is off, in units of what it states."""
    linear = np.ix_([0, 1, 3, 4], [0, 1, 3, 4])
    off = (fitted.affine.matrix[:, :2] - camera).ravel()
    return math.sqrt(off @ np.linalg.inv(fitted.affine.covariance[linear]) @ off / 4)


@given(
    st.floats(0.1, 1.0),
    st.floats(-math.pi, math.pi),
    st.sampled_from([1.0, -1.0]),
    st.sets(st.integers(1, MOVES), max_size=2),
    st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_any_camera_is_found_whichever_two_moves_slipped(
    scale: float, turn: float, mirror: float, slips: set[int], seed: int
) -> None:
    camera = scale * np.array([[math.cos(turn) * mirror, -math.sin(turn)], [math.sin(turn) * mirror, math.cos(turn)]])
    fitted = fit_track(seen(camera, seed, sorted(slips)), STAGE, noise_um=0.1)
    assert fitted.slips == tuple(sorted(slips))
    assert fitted.affine.matrix[:, :2] == pytest.approx(camera, abs=1e-9)
    assert np.hypot(*fitted.residuals_um.T).max() < 1e-6


@pytest.mark.parametrize("slip_um", [0.5, 1.5, 6.0])
def test_a_slip_at_any_move_leaves_the_error_within_what_is_stated(slip_um: float) -> None:
    """At the full stated noise; the square root of a chi² of 4 parts by 4 is below 1.54 in 95 %."""
    off = [
        in_sd(fit_track(seen(CAMERA, 100 * move + seed, [move], slip_um, NOISE_UM), STAGE, noise_um=NOISE_UM), CAMERA)
        for move in range(1, MOVES + 1)
        for seed in range(4)
    ]
    assert np.mean(np.array(off) < 1.54) >= 0.9  # 95 % of 52, less what chance takes
    assert max(off) < 2.5


def test_without_slips_the_uncertainty_is_that_of_plain_least_squares() -> None:
    plain = NOISE_UM * np.sqrt(np.diag(np.linalg.inv((STAGE - STAGE.mean(axis=0)).T @ (STAGE - STAGE.mean(axis=0)))))
    fits = [fit_track(seen(np.eye(2), seed, noise_um=NOISE_UM), STAGE, noise_um=NOISE_UM) for seed in range(30)]
    assert sum(bool(fitted.slips) for fitted in fits) <= 2
    assert np.median([fitted.affine.scale_sd for fitted in fits]) < 1.1 * math.sqrt(np.mean(plain**2))
    one = fit_track(seen(np.eye(2), 1, [7]), STAGE, noise_um=NOISE_UM)
    assert one.affine.scale_sd < 1.1 * math.sqrt(np.mean(plain**2))  # a slip costs little


def test_a_picture_taken_wrongly_has_no_say() -> None:
    pixels = seen(CAMERA, 3, noise_um=0.1)
    pixels[9] += (30.0, -10.0)
    fitted = fit_track(pixels, STAGE, noise_um=NOISE_UM)
    assert fitted.slips == (9, 10)
    assert in_sd(fitted, CAMERA) < 1.5
    check_steady(fitted, NOISE_UM)


def test_slips_everywhere_are_refused_by_what_to_check() -> None:
    for seed in range(10):
        fitted = fit_track(seen(CAMERA, seed, range(1, MOVES + 1), noise_um=0.05), STAGE, noise_um=NOISE_UM)
        with pytest.raises(DeviceError, match=r"drags on the stage.*clamped.*lose steps"):
            check_steady(fitted, NOISE_UM)


def slipping_always(slip_um: float, seed: int, picture_um: float = 0.05) -> AffineFit:
    """A stage that slips by so much per axis at every move, in pictures that are much better than is stated."""
    rng = np.random.default_rng([seed, round(100 * slip_um)])
    walk = np.cumsum(rng.normal(0, slip_um, STAGE.shape), axis=0)
    pixels = (STAGE + walk + rng.normal(0, picture_um, STAGE.shape)) @ np.linalg.inv(CAMERA).T
    return fit_track(pixels - pixels[0], STAGE, noise_um=NOISE_UM)


def test_a_stage_that_slips_at_every_move_is_refused_or_the_error_is_stated() -> None:
    """Its largest slips must not be taken out one by one until the rest agrees too well."""
    off, refused = list[float](), dict.fromkeys((0.3, 0.5, 0.75, 1.0), 0)
    for slip_um in refused:
        for seed in range(30):
            fitted = slipping_always(slip_um, seed)
            try:
                check_steady(fitted, NOISE_UM)
            except DeviceError as error:
                assert "slipped in" in str(error) or "agree only" in str(error)
                refused[slip_um] += 1
            else:
                off.append(in_sd(fitted, CAMERA))
    assert np.sum(np.array(off) > 1.54) <= 0.05 * 120  # 95 % of a chi² of 4 parts
    assert max(off) < 2.0, "by single slips alone it is off by more than 2.5 times what it states"
    assert refused[0.3] <= 3 and refused[1.0] >= 27, "what is stated truly passes, what is no use does not"


def test_a_small_slip_at_every_move_is_told_from_a_picture_s_error() -> None:
    walks = [slipping_always(0.3, seed) for seed in range(20)]
    assert np.median([fitted.walk_um for fitted in walks]) == pytest.approx(0.3, rel=0.3)
    assert all(fitted.slips == () for fitted in walks if fitted.walk_um)
    steady = [fit_track(seen(CAMERA, seed, noise_um=0.05), STAGE, noise_um=NOISE_UM) for seed in range(20)]
    assert sum(fitted.walk_um > 0 for fitted in steady) <= 2


def test_a_third_of_slipped_moves_is_refused() -> None:
    few = slice(0, 10)  # nine moves: three are a third
    fitted = fit_track(seen(CAMERA, 2, [2, 5, 8])[few], STAGE[few], noise_um=NOISE_UM)
    assert fitted.slips == (2, 5, 8)
    with pytest.raises(DeviceError, match="slipped in 3 of 9 moves"):
        check_steady(fitted, NOISE_UM)


def test_a_stage_worse_than_stated_is_refused_or_stated() -> None:
    pixels = seen(CAMERA, 5, noise_um=0.3)
    stated = fit_track(pixels, STAGE, noise_um=0.25)
    check_steady(stated, 0.25)
    assert stated.noise_um >= 0.25
    with pytest.raises(DeviceError, match=r"raise calibration\.noise_um"):
        check_steady(fit_track(pixels, STAGE, noise_um=0.05), 0.05)


@pytest.mark.parametrize(
    ("pixels", "places", "words"),
    [
        ([[0, 0], [1, 1], [1, 0]], [[0, 0], [1, 1], [1, 0]], "too few"),
        ([[0, 0], [1, 1], [2, 2], [5, 5]], [[0, 0], [1, 0], [0, 1], [1, 1]], "one line"),
        ([[0, 0], [1, 0], [0, 1], [1, 1]], [[0, 0], [1, 1], [2, 2], [5, 5]], "one line"),
        ([[3, 3]] * 4, [[0, 0], [1, 0], [0, 1], [1, 1]], "one line"),
        ([[0, 0], [1, 0], [0, np.nan]], [[0, 0], [1, 0], [0, 1]], "NaN"),
        ([[0, 0], [1, 0], [0, 1]], [[0, 0], [1, 0]], "pairs"),
        ([0, 1, 2], [0, 1, 2], "shape"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_the_mend(
    pixels: list[list[float]], places: list[list[float]], words: str
) -> None:
    with pytest.raises(AffineError, match=words):
        fit_track(pixels, places, noise_um=0.1)
    with pytest.raises(AffineError, match="noise_um"):
        fit_track(STAGE, STAGE, noise_um=0.0)
