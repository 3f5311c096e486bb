"""Masks side by side on a sheet: each comes back as itself, and what is done to the sheet is done to each by itself."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.stages.foreground import contours
from hspc_live.stages.sheet import sheets

DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
GAP = 7  # as far as closing by it reaches, from both sides


def closed_by_itself(mask):
    padded = cv2.copyMakeBorder(mask, GAP, GAP, GAP, GAP, cv2.BORDER_CONSTANT, value=(0,))
    return cv2.morphologyEx(padded, cv2.MORPH_CLOSE, DISC)[GAP:-GAP, GAP:-GAP]


@settings(deadline=None, max_examples=40)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=8),
    seed=st.integers(0, 2**16),
    share=st.floats(0.05, 0.95),
)
def test_closing_a_sheet_closes_each_mask_by_itself(shapes, seed, share):
    rng = np.random.default_rng(seed)
    masks = [(rng.random(shape) < share).astype(np.uint8) for shape in shapes]
    seen = []
    for sheet in sheets(masks, GAP):
        closed = cv2.morphologyEx(sheet.mask, cv2.MORPH_CLOSE, DISC)
        for number, left in zip(sheet.numbers, sheet.left, strict=True):
            height, width = masks[number].shape
            part = closed[GAP : GAP + height, left : left + width]
            np.testing.assert_array_equal(part, closed_by_itself(masks[number]))
            seen.append(number)
            closed[GAP : GAP + height, left : left + width] = 0
        assert not closed.any()  # nothing was bridged between them
    assert sorted(seen) == list(range(len(masks)))


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 30)), min_size=1, max_size=9))
def test_every_outline_is_told_whose_it_is(sizes):
    masks = [np.ones(size, np.uint8) for size in sizes]
    found = {}
    for sheet in sheets(masks, 2):
        for outline in contours(sheet.mask, every_pixel=False):
            number, corner = sheet.owner(outline)
            assert number not in found
            found[number] = cv2.boundingRect(outline - np.array(corner, np.int32))
    assert found == {i: (0, 0, width, height) for i, (height, width) in enumerate(sizes)}
