"""Objects judged by each other's company: what is touching cells that could not be parted, and what is one cell."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hspc_live.core.values import Modality
from hspc_live.stages.company import Found, compare
from hspc_live.stages.foreground import contours
from hspc_live.stages.shape import measure

RADIUS = 20


def thing(axes_px=(RADIUS, RADIUS), turned=0.0, apart=0.0):
    """Two ellipses whose middles lie `apart` px from each other along `turned` degrees; one, if 0."""
    mask = np.zeros((300, 300), np.uint8)
    away = np.array([np.cos(np.radians(turned)), np.sin(np.radians(turned))]) * apart / 2
    for sign in (-1, 1):
        x, y = np.rint(150 + sign * away).astype(int).tolist()
        cv2.ellipse(mask, (x, y), tuple(round(a) for a in axes_px), turned, 0, 360, 1, cv2.FILLED)
    return Found(measure(max(contours(mask), key=cv2.contourArea)), 10.0)


def clump(odd):
    """Whether `odd` is a clump among ten round cells."""
    judged, _ = compare([thing()] * 10 + [odd], (1000, 1000), 1e6, Modality.DIC)
    assert not any(one.clump or one.debris for one in judged[:-1])
    return judged[-1].clump


@pytest.mark.parametrize("turned", [0, 25, 60, 90])
@pytest.mark.parametrize("apart", [1.6, 1.7, 1.8])
def test_two_cells_that_could_not_be_parted_are_a_cluster(turned, apart):  # in radii; nearer, they look like one
    assert clump(thing(turned=turned, apart=apart * RADIUS))


@pytest.mark.parametrize("turned", [0, 25, 60, 90])
@pytest.mark.parametrize("stretched", [1.0, 1.4, 1.7, 2.0])
def test_one_large_cell_is_none_however_long(turned, stretched):
    across = RADIUS * np.sqrt(2 / stretched)  # as large as two cells
    assert not clump(thing((across * stretched, across), turned))
