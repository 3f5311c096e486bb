"""Discs in a mask: as many as there are cells, each where one is; an oval is not two."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.stages.discs import filled, fits


def bridged(*circles, shape=(90, 120), gap_px=7):
    """A mask of discs (x, y, radius) with gaps and holes closed, as the finder's bridging leaves them."""
    mask = np.zeros(shape, np.uint8)
    for x, y, radius in circles:
        cv2.circle(mask, (round(x), round(y)), round(radius), 1, cv2.FILLED)
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (gap_px, gap_px)))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(closed, outlines, -1, 1, cv2.FILLED)


def places_of(parts):
    return [tuple(np.argwhere(part)[:, ::-1].mean(axis=0)) for part in parts]


@pytest.mark.parametrize(
    "cells",
    [
        [(40, 40, 10), (58, 40, 10)],
        [(40, 40, 12), (58, 44, 8)],
        [(40, 40, 10), (59, 40, 10), (49, 56, 10)],
        [(40, 40, 10), (59, 40, 10), (50, 57, 10), (68, 56, 10)],
        [(30, 40, 9), (47, 40, 9), (64, 44, 9), (80, 50, 9)],
    ],
)
def test_the_right_number_of_discs_fits_best_and_each_lies_on_a_cell(cells):
    mask = bridged(*cells)
    tried = list(fits(mask, len(cells) + 2))
    best = max(tried, key=lambda discs: discs.fit - 0.015 * len(discs.x))
    assert len(best.x) == len(cells)
    parts = best.parts(mask)
    assert np.array_equal(sum(parts), mask)
    for x, y, radius in cells:
        assert min(math.dist((x, y), place) for place in places_of(parts)) < 0.3 * radius


@given(axis=st.floats(1.0, 1.7), angle=st.floats(0, math.pi), radius=st.floats(9, 16))
@settings(max_examples=40, deadline=None)
def test_an_oval_gains_little_by_two_discs_and_a_pair_much(axis, angle, radius):
    ys, xs = np.indices((100, 100)) - 50.0
    along, across = xs * math.cos(angle) + ys * math.sin(angle), ys * math.cos(angle) - xs * math.sin(angle)
    oval = ((along / axis) ** 2 + across**2 <= radius**2).astype(np.uint8)
    assert next(fits(oval, 2)).fit - filled(oval) / oval.sum() < 0.11
    off = 0.95 * radius
    pair = ((np.abs(along) - off) ** 2 + across**2 <= radius**2).astype(np.uint8)
    assert next(fits(pair, 2)).fit - filled(pair) / pair.sum() > 0.11


def test_a_disc_is_filled_by_its_disc_and_nothing_by_none():
    disc = bridged((50, 40, 15))
    assert filled(disc) > 0.97 * disc.sum()
    assert filled(np.zeros((5, 5), np.uint8)) == 0
