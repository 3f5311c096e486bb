"""Shape and sharpness of one object: outline in, measured mask out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import cast

import cv2
import numpy as np

from hspc_live.core.crop import Light
from hspc_live.stages.foreground import Mask, Outline, contours

RIM_UM = 0.75
FINE_UM = 2.5  # detail finer than this makes an object sharp


@dataclass(slots=True, eq=False)
class Object:
    """One object at camera scale. `mask` (h, w) uint8 0/1 covers the box whose upper left pixel is (x0, y0)."""

    mask: Mask
    x0: int
    y0: int
    area: int
    x: float
    y: float
    solidity: float
    deformation: float
    cells: int = 1  # touching cells it is made of, where they were not parted


def pixel_area(outline: Outline) -> float:
    """Pixels inside an outline, itself included (Pick's theorem; a hair one pixel wide counts once and a half)."""
    return cv2.contourArea(outline) + len(outline) / 2 + 1


def fill(outline: Outline) -> Mask:
    """The pixels inside an outline, itself included: uint8 0/1 of the size of its bounding box."""
    x0, y0, width, height = cv2.boundingRect(outline)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [outline], 1, offset=(-x0, -y0))
    return mask


def within(outline: Outline, other: Outline) -> bool:
    """Whether the middle of `outline`'s bounding box lies in the convex hull of `other` (its border included)."""
    x0, y0, width, height = cv2.boundingRect(outline)
    middle = (x0 + (width - 1) / 2, y0 + (height - 1) / 2)
    return cv2.pointPolygonTest(cv2.convexHull(other), middle, False) >= 0


@cache
def disc(reach: int) -> Mask:
    """A structuring element: a disc of radius `reach`."""
    along = np.arange(-reach, reach + 1)
    return (along[:, None] ** 2 + along**2 <= reach**2).astype(np.uint8)


def healed(mask: Mask, width_px: int) -> Mask:
    """`mask` (0/1) with dents and gaps up to `width_px` closed by a disc, and holes filled; of the same size.

    Trimming takes bites out of an outline where it runs along the shear axis; a disc fills them, and leaves the neck
    between two cells open.
    """
    reach = width_px // 2
    margin = reach + 1  # so that closing adds nothing outside the mask's box
    padded = cv2.copyMakeBorder(mask, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=(0,))
    outlines = contours(cast("Mask", cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc(reach))), every_pixel=False)
    closed = np.zeros_like(mask)
    cv2.drawContours(closed, outlines, -1, 1, cv2.FILLED, offset=(-margin, -margin))
    return closed


def measure(outline: Outline) -> Object:
    """The object that fills one outline, (n, 1, 2) of (x, y) in the frame."""
    hull = cast("Outline", cv2.convexHull(outline))
    hull_area = cv2.contourArea(hull)
    solidity = cv2.contourArea(outline) / hull_area if hull_area > 0 else 1.0
    return _object(fill(outline), hull, hull_area, solidity)


def measure_hull(points: Outline) -> Object:
    """The object that is the convex hull of `points`, (n, 1, 2) of (x, y) in the frame; its solidity is 1.

    That is the way for DIC, which shows no edge where the outline runs along the shear axis: the hull of what shows
    something fills in these arcs of a round cell.
    """
    hull = cast("Outline", cv2.convexHull(points))
    x0, y0, width, height = cv2.boundingRect(hull)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, hull - np.array([x0, y0], np.int32), 1)
    return _object(mask, hull, cv2.contourArea(hull), 1.0)


def _object(mask: Mask, hull: Outline, hull_area: float, solidity: float) -> Object:
    x0, y0, _, _ = cv2.boundingRect(hull)
    moments = cv2.moments(mask)
    area = moments["m00"]
    perimeter = cv2.arcLength(hull, True)
    deformation = 1.0 - 2.0 * math.sqrt(math.pi * hull_area) / perimeter if perimeter > 0 else 0.0
    x, y = x0 + moments["m10"] / area, y0 + moments["m01"] / area
    return Object(mask, x0, y0, int(area), x, y, solidity, deformation)


def showing(outline: Outline, signal: Mask) -> Outline:
    """The boundary pixels of what shows something (`signal`, 0/1) inside `outline`; itself if nothing does."""
    x0, y0, width, height = cv2.boundingRect(outline)
    inside = contours(fill(outline) & signal[y0 : y0 + height, x0 : x0 + width])
    return np.concatenate(inside) + np.array([x0, y0], np.int32) if inside else outline


def sharpness(light: Light, box: tuple[int, int, int, int], um_per_px: float, noise_sd: float) -> float:
    """Share of an object's contrast that lies in fine detail, dimensionless, 0 (none) to about 1.

    Variance of what is left after subtracting the mean over a square of 2.5 µm, over the variance of the whole, both
    over `box` (x0, y0, x1, y1, half-open) and 0.75 µm around it, so that the steepness of the outline counts, of the
    frame's light (`core.crop.light_of`), and both less what noise contributes. Gain, offset and size of the object
    cancel.
    """
    height, width = light.shape
    rim = round(RIM_UM / um_per_px)
    x0, y0, x1, y1 = max(0, box[0] - rim), max(0, box[1] - rim), min(width, box[2] + rim), min(height, box[3] + rim)
    seen = light[y0:y1, x0:x1]
    square = 2 * max(1, round((FINE_UM / um_per_px - 1) / 2)) + 1
    rough = cv2.blur(seen, (square, square), borderType=cv2.BORDER_REPLICATE)
    # sums of squares, which OpenCV makes in double precision and without another picture
    mean, rough_mean = cv2.sumElems(seen)[0] / seen.size, cv2.sumElems(rough)[0] / seen.size
    whole = cv2.norm(seen, cv2.NORM_L2SQR) / seen.size - mean**2 - noise_sd**2
    detail = cv2.norm(seen, rough, cv2.NORM_L2SQR) / seen.size - (mean - rough_mean) ** 2
    fine = detail - (1.0 - 1.0 / square**2) * noise_sd**2
    return max(0.0, fine / whole) if whole > 0 else 0.0


def paste(mask: Mask, x: int, y: int, into: Mask) -> None:
    """Write `mask` with its corner at (x, y) of `into`; what falls outside is left out."""
    h, w = mask.shape
    left, top, right, bottom = max(0, x), max(0, y), min(into.shape[1], x + w), min(into.shape[0], y + h)
    if right > left and bottom > top:
        into[top:bottom, left:right] = mask[top - y : bottom - y, left - x : right - x]
