"""Foreground: which pixels of a frame belong to an object, and where its outline lies.

Works on the whole frame with a handful of OpenCV calls, the same for brightfield and DIC: what counts is how far a
pixel is from the background, up or down. The outline of a round phase object in DIC is bright on one side, dark on
the other and grey in between, so an absolute threshold would place it further out on the strong sides than on the
weak ones; here it lies where the signal has risen to half of what it reaches close by (`refine`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.values import Modality, Pixels

SMOOTHING_UM = 0.75  # width of the mean that the threshold is applied to: the resolution of the optics, about
REACH_UM = 0.75  # how far "close by" reaches for the half rise
DEPTH_UM = {Modality.DIC: 1.0, Modality.BRIGHTFIELD: 0.5}  # how much of an object's fringe can be trimmed
HALO_UM = 2.0  # how far a cell's bright fringe reaches in brightfield
BRIDGE_UM = {Modality.DIC: 2.5, Modality.BRIGHTFIELD: 1.5}  # gaps up to this are closed: in DIC an outline has two,
# where it runs along the shear axis
SMALLEST_UM = 0.8  # what is smaller than this across is noise, not an object

WEAK = 0.6  # share of the threshold above which pixels next to those above it belong to the object too
# Where the edge lies, as a share of the signal's ridge beside it. Absorbing matter is a step: blurred, its place is
# at half the height. The light path through a globe goes to zero as sqrt(depth), so its gradient, which DIC shows,
# jumps like 1/sqrt(depth); blurred by a Gaussian that is a parabolic cylinder function, 0.84 of its ridge at the
# edge. A flat cell with steep walls would be a step again; living cells lie between the two, and so does the level.
RISE = {Modality.DIC: 0.67, Modality.BRIGHTFIELD: 0.5}
SPECK_UM = 2.5  # what is smaller than this is all edge: its outline is left as found

Mask = NDArray[np.uint8]
Outline = NDArray[np.int32]
Activity = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scale:
    """The lengths above in whole, odd pixels for one camera scale; `smallest_px` is an area."""

    smooth_px: int
    halo_px: int
    reach_px: int
    depth_px: int
    bridge_px: int
    smallest_px: float
    speck_px: float

    @staticmethod
    def of(um_per_px: float, modality: Modality) -> Scale:
        """The lengths for `um_per_px` and `modality`; none is below 3 px."""

        def odd(um: float) -> int:
            return 2 * max(1, round(um / um_per_px / 2)) + 1

        return Scale(
            smooth_px=2 * max(1, round((SMOOTHING_UM / um_per_px - 1) / 2)) + 1,
            halo_px=odd(2 * HALO_UM),
            reach_px=odd(2 * REACH_UM),
            depth_px=odd(2 * DEPTH_UM[modality]),
            bridge_px=odd(BRIDGE_UM[modality]),
            smallest_px=max(6.0, np.pi / 4 * (SMALLEST_UM / um_per_px) ** 2),
            speck_px=np.pi / 4 * (SPECK_UM / um_per_px) ** 2,
        )


def gain(pixels: Pixels, background: Pixels, noise_sd: float) -> float:
    """Brightness of this frame relative to the background's: light flickers from flash to flash.

    Taken from a sample of about 2,000 pixels, of those near the median difference only, so that cells do not pull.
    """
    step = max(1, round((pixels.size / 2048) ** 0.5))
    frame = pixels[::step, ::step].astype(np.float32)
    still = background[::step, ::step].astype(np.float32)
    rest = (frame - still).ravel()
    distance = np.abs(rest - np.partition(rest, rest.size // 2)[rest.size // 2])
    near = (distance <= 3.0 * noise_sd + 1.0).astype(np.float32)
    below = float(still.ravel() @ near)
    return float(frame.ravel() @ near) / below if below > 0 else 1.0


def activity(pixels: Pixels, background: Pixels, noise_sd: float, scale: Scale, modality: Modality) -> Activity:
    """How much of an object each pixel shows, (height, width) float32 ≥ 0, in standard deviations of the noise.

    DIC: the distance of the smoothed frame from the background, up or down alike. Brightfield: cells are dark with a
    bright fringe around them that is not theirs, so what is brighter than the background counts only where it reaches
    half of the strongest signal within `HALO_UM` (bright debris, the bright core of a cell beyond focus).
    """
    # scaled so that white noise of `noise_sd` counts has a standard deviation of 1 after the mean
    weight = scale.smooth_px / noise_sd
    ratio = gain(pixels, background, noise_sd)
    rest = cv2.addWeighted(pixels, weight, background, -weight * ratio, 0.0, dtype=cv2.CV_32F)
    smooth = cv2.boxFilter(rest, -1, (scale.smooth_px, scale.smooth_px), borderType=cv2.BORDER_REFLECT_101)
    distance = np.abs(smooth)
    if modality is Modality.DIC:
        return cast("Activity", distance)
    halo = cv2.dilate(distance, square(scale.halo_px))
    bright = cv2.compare(cv2.add(smooth, smooth), halo, cv2.CMP_GE)
    return cast("Activity", cv2.max(cv2.bitwise_and(distance, distance, mask=bright), -smooth))


def detect(active: Activity, threshold: float, scale: Scale) -> Mask:
    """Where something is: (height, width) uint8 0/1.

    Pixels above `threshold`, and beside them those above `WEAK` of it, gaps bridged.
    """
    strong = (active > threshold).view(np.uint8)
    beside = cast("Mask", cv2.dilate(strong, square(scale.smooth_px + 2)))
    return cast("Mask", cv2.morphologyEx(beside & signal(active, threshold), cv2.MORPH_CLOSE, square(scale.bridge_px)))


def signal(active: Activity, threshold: float) -> Mask:
    """Pixels that themselves show something, as opposed to those that `detect` bridged: uint8 0/1."""
    return cast("Mask", (active > WEAK * threshold).view(np.uint8))


def trim(active: Activity, filled: Mask, scale: Scale, modality: Modality) -> Mask:
    """`filled` without the fringe where the signal has not yet risen to `RISE` of what it reaches close by."""
    near = cv2.dilate(active, square(scale.reach_px))
    core = cast("Mask", cv2.erode(filled, square(scale.depth_px)))
    return cast("Mask", filled & (core | (active >= np.float32(RISE[modality]) * near)))


@cache
def square(px: int) -> Mask:
    """A structuring element: a square of `px`."""
    return np.ones((px, px), np.uint8)


def contours(mask: Mask, every_pixel: bool = True) -> list[Outline]:
    """Outer outlines of `mask`, each (n, 1, 2) int32 of (x, y): every boundary pixel, or those at the corners."""
    chain = cv2.CHAIN_APPROX_NONE if every_pixel else cv2.CHAIN_APPROX_SIMPLE
    found: Any = cv2.findContours(mask, cv2.RETR_EXTERNAL, chain)[0]
    return list(found)
