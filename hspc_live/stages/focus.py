"""How sharp a picture is, and which height of the focus drive makes it sharpest; pure, no device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hspc_live.core.errors import HspcError
from hspc_live.core.values import Pixels

Floats = NDArray[np.float64]

LEAST_HEIGHTS = 5
CLEAR = 10.0
"""A curve that rises by less than so many times its noise is flat."""
DOWN = 0.5
"""To this share of its rise the curve must come down on both sides of the top, or the top is not inside the sweep."""
RIVAL = 0.8
"""Another top this high, as a share of the rise and with a valley between, may be the right one as well."""


class FocusError(HspcError):
    """The sweep does not tell the focus; the message says what to change."""

    exit_code = 6


@dataclass(frozen=True, slots=True)
class FocusCurve:
    """A sweep and its top: `z_um` is the height of best focus, `sharpness` (n,) the means at `heights_um` (n,).

    `noise` is the standard deviation of one of these means, `rise` the top over the lowest of them.
    """

    z_um: float
    heights_um: tuple[float, ...]
    sharpness: tuple[float, ...]
    noise: float
    rise: float


def sharpness(pixels: Pixels) -> float:
    """Vollath's F4 of a picture (h, w), over the square of its mean light: dimensionless, larger is sharper.

    F4 is the autocorrelation at one pixel less that at two (D. Vollath, *Automatic focusing by correlative methods*,
    Journal of Microscopy 147, 1987), here the mean along rows and columns. Noise of single pixels cancels in it, which
    is why it did best on dim cells (Santos et al., *Evaluation of autofocus functions in molecular cytogenetic
    analysis*, Journal of Microscopy 188, 1997). Pictures of less than 3 × 3 pixels, or without light, give 0.
    """
    light = np.asarray(pixels, np.float32)
    mean = float(light.mean()) if light.size else 0.0
    if min(light.shape) < 3 or not mean > 0:
        return 0.0
    light = light - np.float32(mean)
    rows = _mean_product(light[:, :-2], light[:, 1:-1]) - _mean_product(light[:, :-2], light[:, 2:])
    columns = _mean_product(light[:-2], light[1:-1]) - _mean_product(light[:-2], light[2:])
    return (rows + columns) / 2 / mean**2


def best_focus(heights_um: ArrayLike, values: ArrayLike) -> FocusCurve:
    """The top of a sweep: `values` (n, k), the sharpness of k ≥ 2 pictures at each of n evenly spaced, rising heights.

    A parabola through the highest mean and its two neighbours. Raises FocusError for a curve that is flat against the
    noise of its repeats, whose top is not inside the sweep, or that has a second top about as high; ValueError for
    shapes that are none.
    """
    heights, looks = np.asarray(heights_um, np.float64), np.asarray(values, np.float64)
    if looks.ndim != 2 or len(looks) != len(heights) or len(heights) < LEAST_HEIGHTS or looks.shape[1] < 2:
        raise ValueError(f"a sweep has {LEAST_HEIGHTS} heights or more, and two pictures at each")
    if not (np.isfinite(looks).all() and np.isfinite(heights).all()):
        raise FocusError("the sharpness of some pictures is no number: look at the camera")
    mean = looks.mean(axis=1)
    noise = math.sqrt(float(looks.var(axis=1, ddof=1).mean()) / looks.shape[1])
    top, low = int(mean.argmax()), float(mean.min())
    rise = float(mean[top]) - low
    told = f"swept from {heights[0]:g} to {heights[-1]:g} µm"
    if not rise > CLEAR * noise or rise <= 0:
        raise FocusError(
            f"the picture is nowhere sharper than elsewhere ({told}): go to where there are cells, switch the light "
            "on, and sweep over a wider range"
        )
    half = low + DOWN * rise
    if not (mean[:top] < half).any() or not (mean[top + 1 :] < half).any():
        raise FocusError(
            f"the picture is sharpest at {heights[top]:g} µm, near the end of the sweep or with no fall beyond "
            f"({told}): go there and sweep again, over a wider range if need be"
        )
    if (rival := _rival(mean, top, low, rise)) is not None:
        below, above = heights[sorted((top, rival))].tolist()
        raise FocusError(
            f"two heights are about equally sharp, {below:g} and {above:g} µm: dirt on another face of the glass, or "
            "in brightfield the two sides of focus; sweep over a narrower range around the right one"
        )
    left, middle, right = mean[top - 1 : top + 2].tolist()
    step = (heights[top + 1] - heights[top - 1]) / 2
    shift = 0.5 * (left - right) / (left - 2 * middle + right)  # the middle one is the highest: a bend downwards
    return FocusCurve(float(heights[top] + shift * step), tuple(heights.tolist()), tuple(mean.tolist()), noise, rise)


def _mean_product(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.einsum("ij,ij->", a, b, dtype=np.float64)) / a.size


def _rival(mean: Floats, top: int, low: float, rise: float) -> int | None:
    """The highest place beyond a valley on either side of the top, if it is about as high."""
    best: int | None = None
    for side in (range(top - 1, -1, -1), range(top + 1, len(mean))):
        valley = False
        for place in side:
            valley = valley or mean[place] < low + DOWN * rise
            if valley and mean[place] >= low + RIVAL * rise and (best is None or mean[place] > mean[best]):
                best = place
    return best
