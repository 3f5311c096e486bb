"""What a round cell looks like by distance from its middle: light, texture and edges in rings.

In brightfield most of what tells stages of a cell apart is its size and how grainy it is at which depth. Statistics
over rings hold that, and no turn or mirror changes them. `tutor` learns from them.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.crop import normalise
from hspc_live.core.values import Pixels

_RINGS = 10
_BAND_RINGS, _BAND_REACH = 6, 0.9
_WIDTHS = (0.7, 1.4, 2.8)
"""Standard deviations of the Gaussians whose differences part fine from coarse grain, in pixels of a crop of 40."""
_EDGE_WIDTH, _EDGE_REACH = 1.0, 0.95
_FLOOR, _EDGE_FLOOR = 1e-3, 1e-2
_AT_ONCE = 4096

Features = NDArray[np.float64]
_Rings = NDArray[np.float64]


def radial_features(images: Pixels) -> Features:
    """Features (n, 64) of crops (n, S, S): what each ring holds, after normalisation.

    Mean and spread of the light in ten rings; the spread, in six, of three bands of grain and of what is finer than
    these; mean and spread of the steepness in ten. A flat crop has features too.
    """
    parts = [_features(images[start : start + _AT_ONCE]) for start in range(0, len(images), _AT_ONCE)]
    return np.concatenate(parts) if parts else np.empty((0, 64))


def shifted(images: Pixels, positions: int) -> list[Pixels]:
    """The crops (n, S, S) moved by whole pixels, up to a twentieth of the edge each way; the edge is mirrored.

    The first is the crops as they are. `positions` is 1, 9 or 25: three or five places each way.
    """
    edge = images.shape[1]
    most = max(1, round(edge / 20))
    steps = {1: [0], 9: [-most, 0, most], 25: [-most, -(most / 2), 0, most / 2, most]}[positions]
    moves = [(round(down), round(across)) for down in steps for across in steps]
    moves.sort(key=lambda move: abs(move[0]) + abs(move[1]))
    padded = np.pad(images, ((0, 0), (most, most), (most, most)), mode="reflect")
    return [
        cast("Pixels", padded[:, most + down : most + down + edge, most + across : most + across + edge])
        for down, across in moves
    ]


def _features(images: Pixels) -> Features:
    whole = np.asarray(normalise(images.astype(np.float64)))
    edge = images.shape[1]
    columns = [*_mean_and_spread(whole, _rings(edge, _RINGS, 1.0))]
    inner = _rings(edge, _BAND_RINGS, _BAND_REACH)
    fine = whole
    for width in _WIDTHS:
        sd = width * edge / 40
        smooth = _blurred(whole, sd)
        if fine is whole:
            columns.append(_mean_and_spread(whole - smooth, inner)[1])
            fine = smooth
        columns.append(_mean_and_spread(smooth - _blurred(whole, 2 * sd), inner)[1])
    smooth = _blurred(whole, _EDGE_WIDTH * edge / 40)
    steep = np.zeros_like(whole)
    steep[:, 1:-1, 1:-1] = np.hypot(
        smooth[:, 1:-1, 2:] - smooth[:, 1:-1, :-2], smooth[:, 2:, 1:-1] - smooth[:, :-2, 1:-1]
    )
    mean, spread = _mean_and_spread(steep, _rings(edge, _RINGS, _EDGE_REACH))
    return np.concatenate((*columns, np.log(mean + _EDGE_FLOOR), spread), axis=1)


def _rings(edge: int, n: int, reach: float) -> _Rings:
    """Weights (edge · edge, n) whose products with a picture are means over rings of equal width, out to `reach`."""
    axis = np.arange(edge) - (edge - 1) / 2
    radius = np.hypot(axis[:, None], axis[None, :]).ravel() / (edge / 2)
    ends = np.linspace(0, reach, n + 1)
    inside = ((radius[:, None] >= ends[:-1]) & (radius[:, None] < ends[1:])).astype(np.float64)
    return cast("_Rings", inside / np.maximum(inside.sum(axis=0), 1))


def _mean_and_spread(pictures: Features, rings: _Rings) -> tuple[Features, Features]:
    """Mean, and logarithm of the standard deviation, of pictures (n, S, S) in each ring; (n, rings) each."""
    flat = pictures.reshape(len(pictures), -1)
    mean = flat @ rings
    variance = np.maximum((flat * flat) @ rings - mean * mean, 0)
    return mean, np.log(np.sqrt(variance) + _FLOOR)


def _blurred(pictures: Features, sd: float) -> Features:
    """Pictures (n, S, S) under a Gaussian: a product with a small matrix from either side, all of them at once."""
    edge = pictures.shape[1]
    matrix = cv2.GaussianBlur(np.eye(edge), (1, 2 * round(4 * sd) + 1), sigmaX=0, sigmaY=sd)
    return cast("Features", matrix @ pictures @ matrix.T)
