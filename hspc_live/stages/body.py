"""Outlines of large, crisp cells in a still image, one region of it at a time.

In flow an outline is drawn against the noise of a film's background. In a still field of cells at high magnification
the light that a cell throws around it (fringes, the halo of a globe) stands far above the noise too, and cells of one
field differ in contrast several times. What tells a cell from its surroundings is its own contrast: its texture and
flanks fill it, and fall off at its edge. So the edge is drawn where what is shown falls below a share of what the
object itself reaches. Gain, offset and the scale of grey values cancel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np

from hspc_live.core.crop import Light
from hspc_live.core.values import Modality
from hspc_live.stages.foreground import BRIDGE_UM, HALO_UM, SMOOTHING_UM, Mask, Outline, contours, square
from hspc_live.stages.segment import SUSPECT
from hspc_live.stages.shape import healed
from hspc_live.stages.split import part, peaks

# Where the edge lies, as a share of the object's level (`_level`): about half of its root mean square, as for any
# blurred step. A smooth cell shows little between its flanks: where its outline breaks up, a lower edge is tried.
EDGES = (0.35, 0.26, 0.2)
WHOLE = 0.9  # share of an object's core that an unbroken outline holds
CORE_UM = 1.5  # so far inside the region where anything shows an object is sure to have begun
NECK = 0.85  # shallower than in flow (`split.NECK`): settled cells press against each other, and are not round
LOPSIDED = 0.5  # in DIC: only darker or only brighter than the field, so no whole phase object in focus
BLEB = 0.65  # inscribed radius, in that of the largest lobe: what is smaller is no cell of its own
BENT = 0.9  # solidity below which an object may be touching cells
SMOOTH = 0.94  # solidity above which an outline has no bite worth filling
HEAL_UM = 5.0  # bites up to this wide are filled
OPEN_UM = 1.75  # what is thinner than this (spikes, fringes) is no part of a cell


@dataclass(frozen=True, slots=True, eq=False)
class Lengths:
    """The lengths of this module in camera pixels: as odd widths, discs, and an area."""

    smooth_px: int
    halo_px: int
    bridge: Mask
    open: Mask
    core: Mask
    heal_px: int
    smallest_px: float

    @staticmethod
    def of(um_per_px: float, min_diameter_um: float) -> Lengths:
        """The lengths for `um_per_px`; bodies smaller than `min_diameter_um` are not looked for."""

        def odd(um: float) -> int:
            return 2 * max(0, round((um / um_per_px - 1) / 2)) + 1

        return Lengths(
            smooth_px=odd(SMOOTHING_UM),
            halo_px=odd(2 * HALO_UM),
            bridge=_disc(max(3, odd(BRIDGE_UM[Modality.DIC]))),
            open=_disc(odd(OPEN_UM)),
            core=square(odd(2 * CORE_UM)),
            heal_px=odd(HEAL_UM),
            smallest_px=np.pi / 4 * (min_diameter_um / um_per_px) ** 2,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """One body in a region: its mask (0/1, the region's size), and root mean square and mean of the light in it."""

    mask: Mask
    rms: float
    mean: float

    @property
    def lopsided(self) -> float:
        """How far the body is only brighter or only darker than the field: 0 (as much of both) to 1.

        DIC shows the slope of the light path, and what goes up on one flank of a cell comes down on the other, so a
        phase object is near 0 whatever its form. What absorbs, or lies on another surface far from focus, is near 1.
        """
        return abs(self.mean) / self.rms if self.rms > 0 else 1.0


def bodies(light: Light, grey: float, where: Mask, floor: float, lengths: Lengths, modality: Modality) -> list[Body]:
    """The bodies in one region, touching ones parted.

    `light` (height, width) is the region's light around `grey`, in counts, `where` (0/1, same shape) the part of it to
    look in; what shows less than `floor` counts is no body.
    """
    width = lengths.smooth_px
    smooth = cast("Light", cv2.blur(light, (width, width), borderType=cv2.BORDER_REPLICATE))
    smooth -= np.float32(grey)
    strength = _strength(smooth, lengths, modality)
    found = _outlined(where, smooth, strength, floor, lengths, modality)
    if len(found) > 1:  # each at its own level, not at the brightest one's
        again = [_outlined(mask, smooth, strength, floor, lengths, modality) for mask in found]
        found = [inner[0] if len(inner) == 1 else mask for mask, inner in zip(found, again, strict=True)]
    return [_weigh(_whole(mask, lengths), smooth) for mask in found]


def _strength(smooth: Light, lengths: Lengths, modality: Modality) -> Light:
    """How much of an object each pixel shows, ≥ 0.

    DIC: bright and dark alike. Brightfield: a cell is dark with a bright fringe that is not its own, so what is bright
    counts only where it reaches half of the strongest signal within `foreground.HALO_UM`.
    """
    strength = np.abs(smooth)
    if modality is Modality.DIC:
        return strength
    near = cv2.dilate(strength, square(lengths.halo_px))
    bright = cv2.compare(cv2.add(smooth, smooth), near, cv2.CMP_GE)
    return cast("Light", cv2.max(cv2.bitwise_and(strength, strength, mask=bright), -smooth))


def _outlined(
    where: Mask, smooth: Light, strength: Light, floor: float, lengths: Lengths, modality: Modality
) -> list[Mask]:
    """The bodies that an edge at their common level leaves of `where`, touching ones parted."""
    level = _level(where, strength)
    mask = _unbroken(where, strength, [max(floor, share * level) for share in EDGES], lengths)
    outlines = contours(mask, every_pixel=False)
    kept: list[Mask] = []
    for outline in outlines:
        if cv2.contourArea(outline) < lengths.smallest_px:
            continue
        one = mask
        if len(outlines) > 1:
            one = np.zeros_like(mask)
            cv2.drawContours(one, [outline], -1, 1, cv2.FILLED)
        parts = _parted(one, lengths) if _may_be_several(outline) else []
        # a part of a cell shows one flank only
        if modality is Modality.DIC and any(_weigh(mask, smooth).lopsided > LOPSIDED for mask in parts):
            parts = []
        kept += parts or [one]
    return kept


def _parted(mask: Mask, lengths: Lengths) -> list[Mask]:
    """The touching cells that `mask` is made of, without blebs; none if it is one cell, or would fall into crumbs."""
    cells = peaks(mask, NECK)
    cells = cells[cells[:, 2] >= BLEB * cells[0, 2]]
    parts = part(mask, cells) if len(cells) > 1 else []
    return parts if all(cv2.countNonZero(one) >= lengths.smallest_px for one in parts) else []


def _unbroken(where: Mask, strength: Light, edges: list[float], lengths: Lengths) -> Mask:
    """What the highest of `edges` encloses that does not break the object up.

    If all do, there are two cases. In a wide faint region (a ring of dust, a fringe) lies one compact object: the first
    edge is right. Or a smooth cell shows two flanks and nothing between: then it is the region itself.
    """
    core = cast("Mask", cv2.erode(where, lengths.core))
    wanted = WHOLE * cv2.countNonZero(core)
    inside = cast("Light", cv2.bitwise_and(strength, strength, mask=where))
    masks = []
    for edge in edges:
        masks.append(_closed(inside, edge, lengths))
        if cv2.countNonZero(masks[-1] & core) >= wanted:
            return masks[-1]
    first = masks[0]
    if _compact(first, lengths):
        return first
    region = healed(where, lengths.heal_px)
    return region if _compact(region, lengths) else first


def _whole(mask: Mask, lengths: Lengths) -> Mask:
    """One cell's `mask` with its bites filled: where its outline runs along the shear axis, a smooth cell shows none.

    A disc as wide as this would fill the neck between two cells; here they are parted already.
    """
    outline = max(contours(mask, every_pixel=False), key=cv2.contourArea)
    if cv2.contourArea(outline) > SMOOTH * cv2.contourArea(cv2.convexHull(outline)):
        return mask
    return healed(mask, lengths.heal_px)


def _compact(mask: Mask, lengths: Lengths) -> bool:
    largest = max(contours(mask, every_pixel=False), key=cv2.contourArea, default=None)
    return largest is not None and cv2.contourArea(largest) >= lengths.smallest_px and not _may_be_several(largest)


def _may_be_several(outline: Outline) -> bool:
    """Whether an outline is bent or long enough to be that of touching cells."""
    hull = cv2.convexHull(outline)
    area, perimeter = cv2.contourArea(hull), cv2.arcLength(hull, True)
    return 1.0 - 2.0 * math.sqrt(math.pi * area) / perimeter > SUSPECT or cv2.contourArea(outline) < BENT * area


def _level(where: Mask, strength: Light) -> float:
    """The mean of `strength` inside `where`, each pixel weighted by itself: faint surroundings hardly pull it down."""
    mean, sd = (float(v[0, 0]) for v in cv2.meanStdDev(strength, mask=where))
    return (mean * mean + sd * sd) / mean if mean > 0 else 0.0


def _closed(strength: Light, level: float, lengths: Lengths) -> Mask:
    """What lies above `level` with its gaps bridged, its holes filled and its spikes taken off."""
    clear = (strength > level).view(np.uint8)
    closed = cast("Mask", cv2.morphologyEx(clear, cv2.MORPH_CLOSE, lengths.bridge))
    cv2.drawContours(closed, contours(closed, every_pixel=False), -1, 1, cv2.FILLED)
    return cast("Mask", cv2.morphologyEx(closed, cv2.MORPH_OPEN, lengths.open))


def _weigh(mask: Mask, smooth: Light) -> Body:
    mean, sd = (float(v[0, 0]) for v in cv2.meanStdDev(smooth, mask=mask))
    return Body(mask, (mean * mean + sd * sd) ** 0.5, mean)


def _disc(width_px: int) -> Mask:
    return cast("Mask", cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width_px, width_px)))
