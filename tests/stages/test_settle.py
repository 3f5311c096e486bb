"""An exposure waits until the picture stands still, and never longer than its deadline."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.settings.chamber import SettleSettings
from hspc_live.stages.settle import Settle, SettleLook, Shift, judge, picture_shift

SETTINGS = SettleSettings(max_shift_um=0.2, max_encoder_um=0.3, still_looks=2, min_response=0.3, deadline_s=1.0)
MS = 1_000_000


def looks(*shifts, response=0.9, every_ms=50, encoder=None):
    first = SettleLook(0, None, encoder[0] if encoder else None)
    rest = [
        SettleLook(
            (i + 1) * every_ms * MS,
            None if shift is None else Shift(*shift, response),
            encoder[i + 1] if encoder else None,
        )
        for i, shift in enumerate(shifts)
    ]
    return [first, *rest]


def verdict(*args, **kwargs):
    return judge(looks(*args, **kwargs), SETTINGS, 0)


def test_still_pictures_settle_and_moving_ones_wait():
    assert verdict((0.01, 0.0), (0.0, 0.02)).settle is Settle.SETTLED
    assert verdict((3.0, 0.0), (0.5, 0.0)).settle is Settle.WAIT
    assert verdict((0.0, 0.0)).settle is Settle.WAIT, "one still pair is not two"
    assert judge([], SETTINGS, 0).settle is Settle.WAIT
    assert verdict((0.01, 0.0), (3.0, 0.0), (0.01, 0.0)).settle is Settle.WAIT, "not in a row"


def test_slow_drift_does_not_pass_for_rest():
    assert verdict((0.15, 0.0), (0.15, 0.0)).settle is Settle.WAIT
    assert verdict((0.15, 0.0), (-0.15, 0.0)).settle is Settle.SETTLED


def test_a_standing_encoder_does_not_excuse_a_moving_picture():
    still = [(5.0, 5.0)] * 3
    assert verdict((1.0, 0.0), (1.0, 0.0), encoder=still).settle is Settle.WAIT
    assert verdict((0.0, 0.0), (0.0, 0.0), encoder=[(0, 0), (0, 0), (9, 0)]).settle is Settle.WAIT


def test_an_empty_field_is_judged_by_the_encoder_or_given_up_as_blind():
    still = [(5.0, 5.0)] * 3
    assert verdict((9.0, 9.0), (7.0, -9.0), response=0.05, encoder=still).settle is Settle.SETTLED
    blind = verdict((9.0, 9.0), (7.0, -9.0), response=0.05, every_ms=600)
    assert (blind.settle, blind.reason, blind.moved_um) == (Settle.GIVE_UP, "blind", None)


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 1)), max_size=12),
    st.integers(1, 300),
)
def test_it_ends_by_the_deadline_and_never_settles_on_a_moving_picture(shifts, every_ms):
    history = [SettleLook(0)]
    for number, shift in enumerate(shifts, 1):
        history.append(SettleLook(number * every_ms * MS, Shift(*shift)))
        found = judge(history, SETTINGS, 0)
        if number * every_ms >= 1000:
            assert found.settle is not Settle.WAIT
        if found.settle is Settle.SETTLED:
            assert all(math.hypot(dx, dy) <= 0.2 and r >= 0.3 for dx, dy, r in shifts[number - 2 : number])


def test_nan_is_never_still():
    assert verdict((math.nan, 0.0), (math.nan, 0.0)).settle is Settle.WAIT
    assert verdict((0.0, 0.0), (0.0, 0.0), response=math.nan).settle is Settle.WAIT


def scene(shift_px, cells=12, seed=1, noise=2.0, dust=False, size=256):
    """Shaded discs on an even field, moved by `shift_px`; dust stays where it is."""
    rng = np.random.default_rng(seed)
    places, canvas = rng.uniform(30, size - 30, (cells, 2)), np.full((size, size), 110.0)
    y, x = np.mgrid[:size, :size]
    for cx, cy in places + shift_px:
        inside = np.clip(16 - np.hypot(x - cx, y - cy), 0, 1)
        canvas += inside * 30 * ((x - cx) + (y - cy)) / 16
    canvas = cv2.GaussianBlur(canvas, (0, 0), 1.0)
    if dust:
        canvas *= 0.9 + 0.2 * x / size
        for dx, dy in np.random.default_rng(9).uniform(0, size, (10, 2)):
            canvas -= 45 * np.exp(-((x - dx) ** 2 + (y - dy) ** 2) / 30)
    noisy = canvas + np.random.default_rng(abs(hash((shift_px, seed)))).normal(0, noise, canvas.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.0, -0.6), (6.3, 2.5), (-14.0, 9.0)])
def test_the_shift_of_a_picture_is_found_to_a_fraction_of_a_pixel(shift):
    found = picture_shift(scene((0.0, 0.0)), scene(shift), 0.25)
    assert (found.dx_um / 0.25, found.dy_um / 0.25) == pytest.approx(shift, abs=0.4)
    assert found.response > 0.5


def test_dust_on_the_camera_does_not_hide_that_the_sample_moves():
    background = scene((0.0, 0.0), cells=0, noise=0.0, dust=True)
    before, after = (scene(shift, cells=3, dust=True) for shift in ((0.0, 0.0), (8.0, 0.0)))
    found = picture_shift(before, after, 1.0, background)
    assert (found.dx_um, found.dy_um) == pytest.approx((8.0, 0.0), abs=1.0)


def test_an_empty_field_gives_no_shift_to_believe():
    assert picture_shift(scene((0.0, 0.0), cells=0), scene((1.0, 0.0), cells=0), 0.25).response < 0.3
    flat = np.full((64, 64), 7, np.uint8)
    assert picture_shift(flat, flat, 0.25) == Shift(0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="shapes"):
        picture_shift(flat, flat[1:], 0.25)
