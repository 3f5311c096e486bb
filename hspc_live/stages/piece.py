"""Pieces of a still picture at coarse scale, what its pixels show, and the lengths that pieces are judged by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import cv2
import numpy as np

from hspc_live.core.crop import Light
from hspc_live.core.values import Modality
from hspc_live.stages.foreground import BRIDGE_UM, HALO_UM, Mask, Outline, contours, square
from hspc_live.stages.segment import SUSPECT
from hspc_live.stages.shape import disc, paste
from hspc_live.stages.sheet import sheets

SMOOTHING_PX = 0.85  # of the coarse picture, before anything is looked for
BENT = 0.9  # solidity below which an object may be touching cells
HEAL_UM = 5.0  # bites up to this wide are filled
SEAL_UM = 3.5  # mouths of bays up to this wide are closed where touching cells are looked for
SMOOTH = 0.97  # solidity above which an outline has no bite worth filling
OPEN_UM = 1.75  # what is thinner than this (spikes, fringes) is no part of a cell


@dataclass(frozen=True, slots=True, eq=False)
class Lengths:
    """The lengths of this module in pixels of the coarse picture: as odd widths, discs, and an area."""

    halo_px: int
    bridge_px: int
    bridge: Mask
    seal: Mask
    open: Mask
    heal_px: int
    smallest_px: float

    @staticmethod
    @lru_cache(maxsize=8)
    def of(um_per_px: float, min_diameter_um: float) -> Lengths:
        """The lengths for `um_per_px`; bodies smaller than `min_diameter_um` are not looked for."""

        def odd(um: float) -> int:
            return 2 * max(1, round((um / um_per_px - 1) / 2)) + 1

        return Lengths(
            halo_px=odd(2 * HALO_UM),
            bridge_px=odd(BRIDGE_UM[Modality.DIC]),
            bridge=_disc(odd(BRIDGE_UM[Modality.DIC])),
            seal=_disc(odd(SEAL_UM)),
            open=_disc(odd(OPEN_UM)),
            heal_px=odd(HEAL_UM),
            smallest_px=np.pi / 4 * (min_diameter_um / um_per_px) ** 2,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Part of a region: its mask (0/1) with the upper left pixel at (x, y), and its outer line, in coarse pixels.

    `touching`: it was parted from others.
    """

    x: int
    y: int
    mask: Mask
    outline: Outline
    touching: bool = False

    @staticmethod
    def of(
        outline: Outline,
        within: Mask | None = None,
        corner: tuple[int, int] = (0, 0),
        touching: bool = False,
        alone: bool = False,
    ) -> Piece:
        """What lies in `outline`, and of it what `within` holds, if given; both have their origin at `corner`.

        `alone`: nothing else of `within` lies in its box.
        """
        x, y, width, height = cv2.boundingRect(outline)
        if within is not None and alone:
            mask = within[y : y + height, x : x + width].copy()
        else:
            mask = np.zeros((height, width), np.uint8)
            cv2.fillPoly(mask, [outline], 1, offset=(-x, -y))
            if within is not None:
                mask &= within[y : y + height, x : x + width]
        moved = outline + np.array(corner, np.int32) if corner != (0, 0) else outline
        return Piece(x + corner[0], y + corner[1], mask, moved, touching)

    @property
    def here(self) -> tuple[slice, slice]:
        """Its box in the picture."""
        height, width = self.mask.shape
        x, y = self.x, self.y
        return slice(y, y + height), slice(x, x + width)

    def spans_any(self, places: Iterable[tuple[float, float]]) -> bool:
        """Whether some place (x, y) in the picture lies in its box."""
        left, top = self.x, self.y
        right, low = left + self.mask.shape[1], top + self.mask.shape[0]
        return any(left <= x < right and top <= y < low for x, y in places)

    def cut(self, other: Piece) -> Mask:
        """What of its mask lies in another's box, which may reach beyond its own."""
        height, width = other.mask.shape
        out = np.zeros((height, width), np.uint8)
        paste(self.mask, self.x - other.x, self.y - other.y, out)
        return out

    @property
    def area(self) -> int:
        """Pixels that show something."""
        return cv2.countNonZero(self.mask)

    @property
    def bent(self) -> bool:
        """Whether the outline is bent or long enough to be that of touching cells."""
        hull = cv2.convexHull(self.outline)
        area, perimeter = cv2.contourArea(hull), cv2.arcLength(hull, True)
        deformation = 1.0 - 2.0 * math.sqrt(math.pi * area) / perimeter if perimeter > 0 else 0.0
        return deformation > SUSPECT or cv2.contourArea(self.outline) < BENT * area


class Shown:
    """What the pieces of one picture show, each looked at once.

    `strength` is how much of an object each pixel shows, `amplitude` how far it is brighter or darker than the field,
    which tells in DIC; both at coarse scale, made wherever a piece lies.
    """

    def __init__(self, strength: Light, amplitude: Light, modality: Modality) -> None:
        self.strength = strength
        self._amplitude = amplitude
        self._modality = modality
        self._sides: dict[Piece, float] = {}
        self._levels: dict[Piece, float] = {}
        self._bends: dict[Piece, bool] = {}

    def side(self, piece: Piece) -> float:
        """In DIC, brighter or darker than the field: 1 (all of it) to -1; 0 in brightfield."""
        if self._modality is Modality.BRIGHTFIELD:
            return 0.0
        side = self._sides.get(piece)
        if side is None:
            mean, rms = mean_and_rms(self._amplitude[piece.here], piece.mask)
            side = self._sides[piece] = mean / max(rms, 1e-9)
        return side

    def level(self, piece: Piece) -> float:
        """What it shows (`own_level`)."""
        level = self._levels.get(piece)
        if level is None:
            level = self._levels[piece] = own_level(piece.mask, self.strength[piece.here])
        return level

    def bent(self, piece: Piece) -> bool:
        """`Piece.bent`."""
        bent = self._bends.get(piece)
        if bent is None:
            bent = self._bends[piece] = piece.bent
        return bent


def healed(pieces: Sequence[Piece], lengths: Lengths) -> list[Piece]:
    """Single cells with their bites filled: where its outline runs along the shear axis, a smooth cell shows none.

    A disc as wide as this would fill the neck between two cells; it is for what is parted already.
    """
    bitten = [
        piece
        for piece in pieces
        if cv2.contourArea(piece.outline) <= SMOOTH * cv2.contourArea(cv2.convexHull(piece.outline))
    ]
    reach = lengths.heal_px // 2
    filled: dict[Piece, tuple[Outline, tuple[int, int]]] = {}
    for sheet in sheets([piece.mask for piece in bitten], 2 * reach + 1):
        closed = cast("Mask", cv2.morphologyEx(sheet.mask, cv2.MORPH_CLOSE, disc(reach)))
        for outline in sorted(contours(closed, every_pixel=False), key=cv2.contourArea, reverse=True):
            i, (x, y) = sheet.owner(outline)
            filled.setdefault(bitten[i], (outline, (bitten[i].x - x, bitten[i].y - y)))  # the largest of each
    return [
        Piece.of(outline, None, corner, piece.touching)
        for piece in pieces
        for outline, corner in (filled.get(piece, (piece.outline, (0, 0))),)
    ]


def large(mask: Mask, lengths: Lengths) -> list[Outline]:
    """The outlines of a mask that enclose as much as the smallest body."""
    return [one for one in contours(mask, every_pixel=False) if cv2.contourArea(one) >= lengths.smallest_px]


def large_with_holes(mask: Mask, lengths: Lengths) -> list[Outline]:
    """Those of `large` that enclose something besides their own pixels."""
    found: Any = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    outlines, tree = found
    if len(outlines) < 2:  # most often
        return []
    holed = [i for i, (_, _, child, parent) in enumerate(tree[0].tolist()) if child >= 0 > parent]
    return [outlines[i] for i in holed if cv2.contourArea(outlines[i]) >= lengths.smallest_px]


def power_of(light: Light, lengths: Lengths, modality: Modality, into: Light) -> Light:
    """How much each pixel of a picture around 0 shows, noise and all: the local mean square; made in `into`.

    DIC: bright and dark alike. Brightfield: a cell is dark with a bright fringe that is not its own, so what is bright
    counts only where it reaches half of the strongest signal within `foreground.HALO_UM`.
    """
    if modality is Modality.BRIGHTFIELD:
        strength = np.abs(light)
        near = cv2.dilate(strength, square(lengths.halo_px))
        bright = cv2.compare(cv2.add(light, light), near, cv2.CMP_GE)
        light = cast("Light", cv2.max(cv2.bitwise_and(strength, strength, mask=bright), -light))
    squared = cv2.multiply(light, light)
    return cast("Light", cv2.GaussianBlur(squared, (3, 3), SMOOTHING_PX, into, borderType=cv2.BORDER_REPLICATE))


def strength_of(power: Light, noise_sd: float, into: Light) -> Light:
    """How much of an object each pixel shows, ≥ 0: the root of `power_of` less the noise's; made in `into`."""
    strength = power - np.float32(noise_sd**2)
    np.maximum(strength, 0, out=strength)
    return cast("Light", np.sqrt(strength, out=into))


def level_of(power: Light, noise_sd: float, floor: float) -> float:
    """The mean of the strength above `floor`, each pixel weighted by itself: what the picture's objects show."""
    shown = power[power > np.float32(floor**2 + noise_sd**2)] - np.float32(noise_sd**2)  # few
    total = float(np.sqrt(shown).sum(dtype=np.float64))
    return float(shown.sum(dtype=np.float64)) / total if total > 0 else 0.0


def own_level(where: Mask, strength: Light) -> float:
    """The mean of `strength` inside `where`, each pixel weighted by itself: faint surroundings hardly pull it down."""
    total = cv2.norm(strength, cv2.NORM_L1, where)
    return cv2.norm(strength, cv2.NORM_L2SQR, where) / total if total > 0 else 0.0


def mean_and_rms(light: Light, where: Mask) -> tuple[float, float]:
    """Mean and root mean square of `light` inside `where` (0/1), 0 of none."""
    area = max(1, cv2.countNonZero(where))
    # quicker than `cv2.meanStdDev` with a mask
    total = cv2.sumElems(cv2.copyTo(light, where))[0]
    return total / area, math.sqrt(cv2.norm(light, cv2.NORM_L2SQR, where) / area)


def weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The value below which half of the weight lies; 0 of none."""
    if not values:
        return 0.0
    order = np.argsort(values)
    share = np.cumsum(np.asarray(weights)[order])
    return float(np.asarray(values)[order][np.searchsorted(share, share[-1] / 2)])


def _disc(width_px: int) -> Mask:
    return cast("Mask", cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width_px, width_px)))
