"""Where a sweep's curve has its top, and which curves tell nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.stages.focus import FocusError, best_focus, sharpness

HEIGHTS = np.arange(-8.0, 8.5, 1.0)


def hill(top: float, height: float = 1.0, wide: float = 2.0) -> np.ndarray:
    return height / (1 + ((HEIGHTS - top) / wide) ** 2)


def twice(curve: np.ndarray, noise: float = 1e-3) -> np.ndarray:
    return curve[:, None] + noise * np.random.default_rng(1).standard_normal((len(curve), 2))


@given(st.floats(-5.0, 5.0), st.floats(0.1, 1e3), st.floats(-1.0, 1.0))
def test_the_top_is_found_between_the_steps(top: float, height: float, floor: float) -> None:
    found = best_focus(HEIGHTS, twice(hill(top, height) + floor, 1e-3 * height))
    assert found.z_um == pytest.approx(top, abs=0.15) and found.rise > 0


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        (np.ones(17), "nowhere sharper"),
        (np.random.default_rng(3).normal(0, 1e-3, 17), "nowhere sharper"),
        (hill(-8.0), "near the end"),
        (hill(7.9), "near the end"),
        (HEIGHTS / 8, "near the end"),
        (hill(-5.0, 1.0, 1.0) + hill(4.0, 0.95, 1.0), "two heights are about equally sharp, -5 and 4"),
    ],
    ids=["level", "noise", "at the lower end", "at the upper end", "a slope", "two tops"],
)
def test_a_curve_that_tells_nothing_is_refused(curve: np.ndarray, message: str) -> None:
    with pytest.raises(FocusError, match=message):
        best_focus(HEIGHTS, twice(curve))


def test_a_small_second_top_does_not_matter() -> None:
    assert best_focus(HEIGHTS, twice(hill(-4.0, 1.0, 1.0) + hill(5.0, 0.5, 1.0))).z_um == pytest.approx(-4.0, abs=0.15)


def test_what_is_no_number_is_refused() -> None:
    curve = twice(hill(0.0))
    curve[3, 0] = np.nan
    with pytest.raises(FocusError, match="no number"):
        best_focus(HEIGHTS, curve)
    with pytest.raises(ValueError, match="two pictures at each"):
        best_focus(HEIGHTS, hill(0.0)[:, None])


def test_noise_and_brightness_do_not_pass_for_sharpness() -> None:
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:256, :256]
    fine, coarse = 100 + 30 * np.sin(x / 1.5) * np.sin(y / 1.5), 100 + 30 * np.sin(x / 6) * np.sin(y / 6)
    assert sharpness(fine) > 2 * sharpness(coarse) > 0
    assert sharpness(coarse + rng.normal(0, 5, coarse.shape)) == pytest.approx(sharpness(coarse), rel=0.1)
    assert sharpness(3 * coarse) == pytest.approx(sharpness(coarse), rel=1e-3)
    assert sharpness(np.zeros((64, 64), np.uint16)) == 0.0 == sharpness(np.ones((2, 9), np.uint8))
