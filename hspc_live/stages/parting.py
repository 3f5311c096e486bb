"""Parting of a piece of a still picture into the touching cells that it is made of.

Two ways are tried and held against each other: at the necks (`lobes`), and by the discs that fill the piece best
(`discs`), which still tell cells apart where bridging has closed the necks and the holes between them. What counts
is how well the parts look like cells: round, of the usual size, with both flanks, and few.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import cast

import cv2
import numpy as np

from hspc_live.core.values import Modality
from hspc_live.stages.discs import filled, fits
from hspc_live.stages.foreground import Mask, Outline, contours, square
from hspc_live.stages.lobes import Lobes
from hspc_live.stages.piece import Lengths, Piece, Shown, large

MORE = 1.3  # area, in that of the image's cells, from which a piece is parted by other ways, too
LESS = 0.8  # the same, of what is as far from a disc as `BENT_ALONE`: small touching cells, if discs fill `CLEAR`
BENT_ALONE, CLEAR = 0.8, 0.93  # (two squares, as a shard may be taken for, are filled to 0.91)
PARTING = 0.3  # of a piece's level: its necks are looked for in what shows more
WEDGE = 0.8  # area between two round cells that a disc closes, in that of its square: about half at most
ROUND = 0.92  # `Parter._roundness` that is good enough
ROUNDER = 0.11, 0.03  # by how much better discs have to fill a piece of `FEW` than one does, and of `MANY`
FEW, MANY = 2.4, 3.2  # area, in that of the image's cells; halves of an oval gain less, and a compact clump is round
BEST = 0.97  # that discs fill of touching cells; of overlapping circles no more where one disc fills most of them
SPARING = 0.015  # of a piece's roundness, for each cell more: of two ways about as good, that with fewer
ALIKE = 0.03  # the same, for a cell e times larger or smaller than the image's: of two ways, that with usual cells
AT_MOST = 4  # cells that a piece is parted into where the usual size is not known; else what there is room for
MOST = 12  # discs that a piece is filled with at a time
HALF = 0.6  # how far half a cell is only bright or only dark: flanks of a smooth one reach 0.8
LONG, THIN = 2.0, 0.55  # of a fibre: length in usual diameters, half its width in usual radii


class Parter:
    """Parts the pieces of one picture by what they show and by their form.

    `lopsided` tells how far a cell by itself may be only bright or only dark (`piece.Shown.side`).
    """

    def __init__(
        self,
        shown: Shown,
        lopsided: float,
        lengths: Lengths,
        modality: Modality,
    ) -> None:
        self._shown = shown
        self._lopsided = lopsided
        self._lengths = lengths
        self._modality = modality
        self._in_disc: dict[Piece, int] = {}
        self._apart: dict[Piece, tuple[Mask, Lobes]] = {}

    def parted(self, piece: Piece, usual: float) -> list[Piece]:
        """The touching cells that a piece is made of; none if it is one cell, or would fall into crumbs.

        `usual` is the area of the image's cells, 0 where it is not known.
        """
        # bridging fills necks; without it a cell with a wide open bay falls apart
        whole, lobes = self._whole(piece)
        self._join(lobes, piece, usual)
        area = piece.area
        alone = _roundness_alone(whole) if area > LESS * usual else 1.0
        large_or_bent = area > LESS * usual and (area > MORE * usual or alone < BENT_ALONE)
        if len(lobes.roots) == 1 and not large_or_bent:  # most often
            return []
        best = self._parts(piece, lobes)
        if large_or_bent:
            if self._roundness(best, whole, usual) < ROUND:
                bar = PARTING * self._shown.level(piece)
                above = (self._shown.strength[piece.here] > bar).view(np.uint8) & piece.mask
                clear = self._filled(cast("Mask", cv2.morphologyEx(above, cv2.MORPH_CLOSE, square(3))))
                others = []
                if clear.any():
                    others.append(self._parts(piece, self._join(Lobes.of(clear, whole), piece, usual)))
                if len(best) == 1:  # from one to several only if that is much better, as for discs
                    bar = alone + _much(piece, usual)
                    others = [parts for parts in others if self._roundness(parts, whole, 0.0) > bar]
                best = self._roundest((best, *others, *self._in_discs(piece, whole, alone, usual)), whole, usual)
        if len(best) > 1:  # of a clump a part may be one again
            best = [smaller for part in best for smaller in self._divided(part, usual)]
        return [replace(part, touching=True) for part in best] if len(best) > 1 else []

    def at_necks(self, piece: Piece) -> list[Piece]:
        """What a piece falls into at its necks, whatever the usual size; itself if it has none."""
        _, lobes = self._whole(piece)
        return self._parts(piece, self._join(lobes, piece, 0.0))

    def _divided(self, part: Piece, usual: float) -> list[Piece]:
        """A part of a clump, or what it falls into if that is still much more like cells."""
        if part.area < MORE * usual or not part.bent:
            return [part]
        in_discs = self._in_discs(part, part.mask, _roundness_alone(part.mask), usual)
        best = self._roundest(([part], *in_discs), part.mask, usual)
        return [part] if len(best) == 1 else [smaller for one in best for smaller in self._divided(one, usual)]

    def _roundest(self, ways: Iterable[list[Piece]], whole: Mask, usual: float) -> list[Piece]:
        """The best of some ways, the first of them being what is there already."""
        best: list[Piece] = []
        highest = -math.inf
        for parts in ways:
            score = self._roundness(parts, whole, usual)
            if score > highest:
                best, highest = parts, score
        return best

    def _in_discs(self, piece: Piece, whole: Mask, alone: float, usual: float) -> Iterator[list[Piece]]:
        """What a piece falls into if it is filled with two discs, three and so on, where these fill it much better.

        `alone` is its `_roundness_alone`.
        """
        most = min(math.ceil(piece.area / usual) + 1, MOST) if usual else AT_MOST
        more = _much(piece, usual)
        if alone + more > BEST:
            return
        for discs in fits(whole, most):
            if discs.fit > max(alone + more, 0.0 if piece.area > MORE * usual else CLEAR):
                outlines = [large(part, self._lengths) for part in discs.parts(whole)]
                corner = (piece.x, piece.y)
                yield [self._part_of(some, corner) for some in outlines if some]

    def _whole(self, piece: Piece) -> tuple[Mask, Lobes]:
        """The mask of a piece, filled, and its lobes, not yet joined."""
        found = self._apart.get(piece)
        if found is None:  # it may be asked for the usual size, and then parted
            whole = self._filled(piece.mask)
            found = self._apart[piece] = whole, Lobes.of(whole, whole)
        return found[0], found[1].copy()

    def _join(self, lobes: Lobes, piece: Piece, usual: float) -> Lobes:
        if len(lobes.roots) > 1:
            lobes.join(usual)
        if self._modality is Modality.DIC and len(lobes.roots) > 1:
            self._join_flanks(lobes, piece)
        return lobes

    def _parts(self, piece: Piece, lobes: Lobes) -> list[Piece]:
        lines = [large(lobes.mask(i), self._lengths) for i in lobes.roots]
        corner = (piece.x, piece.y)
        return [self._part_of(some, corner) for some in lines if some]

    def _part_of(self, outlines: list[Outline], corner: tuple[int, int]) -> Piece:
        """The largest of some outlines, as part of a clump."""
        return replace(Piece.of(max(outlines, key=cv2.contourArea), None, corner), touching=True)

    def _roundness(self, parts: list[Piece], whole: Mask, usual: float) -> float:
        """How well parts look like cells, at most 1: what of them lies in discs of their area, less what speaks against
        them: that they are many, or not of the usual size. Nothing of half a cell counts.
        """
        total = max(cv2.countNonZero(whole), 1)
        score = -SPARING * (len(parts) - 1)
        for part in parts:
            if abs(self._shown.side(part)) < HALF:
                inside = self._in_disc.get(part)
                if inside is None:  # a way is held against others more than once
                    inside = self._in_disc[part] = filled(part.mask)
                score += inside / total
            if usual:
                score -= ALIKE * part.area / total * abs(math.log(part.area / usual))
        return score

    def _join_flanks(self, lobes: Lobes, piece: Piece) -> None:
        """Join lobes that are the bright and the dark flank of one cell, once for each."""
        masks = {i: lobes.mask(i) for i in lobes.roots}
        sides = {i: self._shown.side(replace(piece, mask=mask)) for i, mask in masks.items()}
        bright, dark = (
            [i for i, side in sides.items() if side > self._lopsided],
            [i for i, side in sides.items() if side < -self._lopsided],
        )
        for i in bright:
            for j in dark:
                if lobes.meet(i, j):
                    both = max(contours(masks[i] | masks[j], every_pixel=False), key=cv2.contourArea)
                    if not Piece.of(both).bent:
                        lobes.unite(i, j)
                        dark.remove(j)
                        break

    def _filled(self, mask: Mask) -> Mask:
        """A mask with its holes and bays filled; its necks stay as they are.

        A smooth cell shows little within and along the shear axis. What a disc closes is a bay if it holds a hole, or
        is larger than the wedge between two round cells, which ends where the disc no longer fits.
        """
        margin = self._lengths.seal.shape[0]
        wide = cast("Mask", cv2.copyMakeBorder(mask, *4 * (margin,), cv2.BORDER_CONSTANT, value=(0,)))
        cv2.drawContours(wide, contours(wide, every_pixel=False), -1, 1, cv2.FILLED)
        closed = cast("Mask", cv2.morphologyEx(wide, cv2.MORPH_CLOSE, self._lengths.seal))
        filled = np.zeros_like(closed)
        cv2.drawContours(filled, contours(closed, every_pixel=False), -1, 1, cv2.FILLED)
        added = filled - wide
        if cv2.countNonZero(added) <= WEDGE * margin**2 and not cv2.countNonZero(filled - closed):
            return np.ascontiguousarray(wide[margin:-margin, margin:-margin])  # most often
        _, labels, boxes, _ = cv2.connectedComponentsWithStats(added, connectivity=4)
        bays = boxes[:, cv2.CC_STAT_AREA] > WEDGE * margin**2
        bays[labels[filled > closed]] = True
        bays[0] = False
        wide = wide | bays[labels].view(np.uint8)
        return np.ascontiguousarray(wide[margin:-margin, margin:-margin])


def _much(piece: Piece, usual: float) -> float:
    """By how much rounder parts have to be than the whole of a piece."""
    return float(np.interp(piece.area / usual, (FEW, MANY), ROUNDER)) if usual else ROUNDER[0]


def _roundness_alone(mask: Mask) -> float:
    """How much of a mask lies in one disc of its area."""
    return filled(mask) / max(cv2.countNonZero(mask), 1)


def is_thin(piece: Piece, usual: float) -> bool:
    """Whether a piece is a fibre: nowhere as thick as half a usual cell, and much longer."""
    radius = math.sqrt(usual / math.pi)
    (_, size, _) = cv2.minAreaRect(piece.outline)
    if not max(size) > LONG * 2 * radius > 0:
        return False
    padded = cv2.copyMakeBorder(piece.mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0,))
    return float(cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_3).max()) < THIN * radius
