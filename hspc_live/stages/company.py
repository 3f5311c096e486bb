"""Which objects of one still picture are out of line with the others: debris, clumps, what is too faint.

Nobody says how large and how strong the cells of a picture are, so its objects are judged by each other's company. Each
counts as much as it shows: a few cells are not outvoted by many faint rings of dust, or by dark specks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import cv2
import numpy as np

from hspc_live.core.values import Modality
from hspc_live.stages.body import FAINT
from hspc_live.stages.discs import filled, fits
from hspc_live.stages.piece import weighted_median
from hspc_live.stages.shape import Object

UNRESOLVED = 3.0  # area, in those of the largest cell: a clump that could not be parted
SMALL = 0.2  # area, in those of the usual cell in the same image: under 0.45 of its diameter
SHARD = 0.105  # hull deformation of no settled cell: crystals, shards, fibres; an ellipse of 1 : 2.2 has it
PAIR = 1.6  # area, in that of the usual cell: with a shard's outline, touching cells that could not be parted,
THICK = 0.6  # if the inscribed circle is as large as this, in the usual cell's radius
THREE = 2.5  # area, in that of the usual cell: three or more that could not be parted, if less than `FILLED` of them
FILLED = 0.88  # lies in a disc of their area; a single large cell is rounder
WAIST = 0.01  # from `PAIR` on and no rounder than that: what two discs fill by this more than one ellipse is two cells
SHADE = 0.65  # in brightfield, how far something is dark all through: dust and its shadows, where the picture's cells
BENDING = 0.3  # are no more so than this, as they bend light and absorb little
HALF = 0.5  # area of something pale, in that of the usual cell, that may be a cell
MANY = 0.25  # pale objects, for each cell: too many to pass over in silence


class Doubt(StrEnum):
    """What a person should look at before trusting the cells of a picture."""

    FAINT = "faint"
    DIRTY = "dirty"
    CONTRAST = "contrast"


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """An object; the root mean square of its light, and how far it is dark all through (-1 to 1).

    It is `debris` or a `clump` whatever its size. What is `faint` beside the picture's cells is debris that is told of,
    but spoils no crop; `pale` if that is all that speaks against it.
    """

    item: Object
    rms: float
    dark: float = 0.0
    debris: bool = False
    clump: bool = False
    faint: bool = False
    pale: bool = False


def compare(
    found: list[Found], shape: tuple[int, ...], largest_px: float, modality: Modality
) -> tuple[list[Found], float]:
    """The objects of a picture (`shape`), those marked that are out of line; and the usual cell's contrast, 0 of none.

    `largest_px` is the area of the largest cell that is accepted.
    """
    cells = [f for f in found if not f.debris and not f.faint and not _cut(f.item, shape)]
    weights = [f.rms * f.item.area for f in cells]
    if modality is Modality.BRIGHTFIELD and weighted_median([f.dark for f in cells], weights) < BENDING:
        found = [replace(f, debris=f.debris or f.dark > SHADE) for f in found]
        cells = [f for f in cells if f.dark <= SHADE]
        weights = [f.rms * f.item.area for f in cells]
    if not cells:
        return [replace(f, debris=f.debris or f.faint) for f in found], 0.0
    usual = weighted_median([f.rms for f in cells], weights)
    area = float(np.median([f.item.area for f in cells if f.rms >= FAINT * usual]))
    clump = UNRESOLVED * max(largest_px, area)
    judged = []
    for f in found:
        size, shard = f.item.area / area, f.item.deformation > SHARD
        if f.faint or f.rms < FAINT * usual:
            pale = not f.debris and not shard and size > HALF
            judged.append(replace(f, debris=True, faint=True, pale=pale))
            continue
        thick = shard and _thick(f.item, area)
        oblong = size > PAIR and filled(f.item.mask) < FILLED * f.item.area
        heap = oblong and (size > THREE or _waisted(f.item))
        debris = f.debris or size < SMALL or (shard and not thick)
        clumped = f.item.area > clump or thick or heap
        judged.append(f if (debris, clumped) == (f.debris, f.clump) else replace(f, debris=debris, clump=clumped))
    return judged, usual


def doubts_of(found: list[Found], cells: int, smallest_px: float) -> tuple[Doubt, ...]:
    """What speaks against trusting a picture in which there are so many `cells` among what was found."""
    out = []
    if sum(f.pale for f in found) > MANY * cells:
        out.append(Doubt.FAINT)
    if sum(f.debris and not f.faint and f.item.area >= smallest_px for f in found) > cells:
        out.append(Doubt.DIRTY)
    return tuple(out)


def _thick(item: Object, usual: float) -> bool:
    """Whether an object could hold two cells of area `usual`, and is as thick as most of one: no fibre."""
    if item.area < PAIR * usual:
        return False
    padded = cv2.copyMakeBorder(item.mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0,))
    return float(cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_3).max()) > THICK * math.sqrt(usual / math.pi)


def _waisted(item: Object) -> bool:
    """Whether two discs fill an object better than the ellipse with its area and second moments does."""
    two = next(fits(item.mask, 2), None)
    if two is None:
        return False
    of = cv2.moments(item.mask)
    xx, xy, yy = (of[name] / of["m00"] for name in ("mu20", "mu11", "mu02"))
    spread = xx * yy - xy * xy
    if spread <= 0:
        return False
    rows, columns = (np.arange(n) for n in item.mask.shape)
    x, y = columns - of["m10"] / of["m00"], (rows - of["m01"] / of["m00"])[:, None]
    inside = (yy * x * x - 2 * xy * x * y + xx * y * y) * np.pi <= of["m00"] * math.sqrt(spread)
    return two.fit > cv2.countNonZero(inside.view(np.uint8) & item.mask) / item.area + WAIST


def _cut(item: Object, shape: tuple[int, ...]) -> bool:
    height, width = item.mask.shape
    return item.x0 <= 0 or item.y0 <= 0 or item.x0 + width >= shape[1] or item.y0 + height >= shape[0]
