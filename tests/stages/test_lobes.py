"""Parting of touching cells: at their necks, never through a cell, whatever hangs on it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.stages.lobes import Lobes


def discs(*circles, shape=(90, 160)):
    """A mask of discs (x, y, radius)."""
    ys, xs = np.indices(shape)
    return np.any([(xs - x) ** 2 + (ys - y) ** 2 <= r * r for x, y, r in circles], axis=0).astype(np.uint8)


def parted(mask, usual):
    lobes = Lobes.of(mask, mask)
    lobes.join(usual)
    return [lobes.mask(root) for root in lobes.roots]


@given(angle=st.floats(0, math.pi), other=st.floats(0.88, 1.15), overlap=st.floats(0.8, 0.97))
@settings(max_examples=40, deadline=None)
def test_a_touching_pair_is_parted_at_its_neck_in_any_direction(angle, other, overlap):
    r, s = 14.0, 14.0 * other
    x, y = 80 + overlap * (r + s) * math.cos(angle), 70 + overlap * (r + s) * math.sin(angle)
    mask = discs((80, 70, r), (x, y, s), shape=(140, 160))
    parts = parted(mask, math.pi * 14**2)
    assert len(parts) == 2
    assert np.array_equal(sum(parts), mask)
    for part, area in zip(sorted(parts, key=np.sum), sorted((math.pi * r * r, math.pi * s * s)), strict=True):
        assert 0.8 < part.sum() / area < 1.15


def test_a_row_of_four_is_parted_at_its_necks_with_a_dumbbell_among_them():
    # the second is no disc: two halves with a shallow waist, one of which lies beside the third's neck
    row = [(20, 45, 13), (42, 45, 12), (49, 45, 12), (73, 45, 13), (98, 45, 13)]
    parts = parted(discs(*row), math.pi * 13**2)
    assert sorted(round(np.nonzero(part)[1].mean()) for part in parts) == [
        pytest.approx(x, abs=2) for x in (20, 46, 73, 98)
    ]


def test_an_oval_cell_and_one_with_a_bleb_stay_whole():
    ys, xs = np.indices((90, 160))
    oval = (((xs - 80) / 22) ** 2 + ((ys - 45) / 14) ** 2 <= 1).astype(np.uint8)
    assert len(parted(oval, math.pi * 14**2)) == 1
    assert len(parted(discs((60, 45, 14), (75, 45, 6)), math.pi * 14**2)) == 1


def test_a_speck_on_a_stalk_is_cut_off():
    mask = discs((60, 45, 14), (82, 45, 5))
    mask[44:47, 70:82] = 1
    assert len(parted(mask, math.pi * 14**2)) == 2


def test_a_waist_parts_what_is_as_large_as_two_cells_and_no_single_one():
    mask = discs((60, 45, 14), (76, 45, 14))  # passage 0.82 of the radius
    assert len(parted(mask, math.pi * 14**2)) == 2
    assert len(parted(mask, math.pi * 28**2)) == 1
