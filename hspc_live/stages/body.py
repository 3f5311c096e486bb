"""Which bodies a still field holds: at coarse scale, by their own contrast, touching ones parted.

In flow an outline is drawn against the noise of a film's background. In a still field of cells at high magnification
the light that a cell throws around it (fringes, the halo of a globe) stands far above the noise too, and cells of one
field differ in contrast several times. What tells a cell from its surroundings is its own contrast. So a region is
looked at under a rising bar: where it falls apart each piece goes on by itself, until the bar is a share of what the
piece itself reaches. Gain, offset and the scale of grey values cancel. Where exactly the edge lies is `rim`'s matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np

from hspc_live.core.crop import Light
from hspc_live.core.values import Modality
from hspc_live.stages.discs import filled, fits
from hspc_live.stages.foreground import Mask, Outline, contours, square
from hspc_live.stages.lobes import Lobes
from hspc_live.stages.piece import Lengths, Piece, own_level, weighted_median
from hspc_live.stages.shape import healed

SHARE = 0.25  # of an object's level (`piece.own_level`): what shows less is not of it
RISING = 1.5  # by how much the bar is raised at a time
SHOWN = 1 / 3  # share of what an outline encloses that shows something; a fringe around nothing is no body
FULL = 0.8  # the same where the outline is bent, and may run around a void among cells
CROWD = 3.0  # area of a piece, in those of the image's cells, that gaps are bridged no more
FAINT = 0.36  # of the usual cell's contrast in the same image: remains, ghosts, dust
LOPSIDED = 0.35  # in DIC: only darker or only brighter than the field, so no whole phase object in focus
TOUCHING = 0.45  # the same of a part of a clump, whose neighbours' light falls on it
HALF = 0.6  # the same of part of a clump that is half a cell: flanks of a smooth one reach 0.8
BLACK = 0.45  # share of the light that is missing all through what is no living cell (unstained, it hardly absorbs)
COMPACT = 0.04  # hull deformation of two flanks that may be one cell
ROUND = 0.92  # `Finder._roundness` that is good enough
ROUNDER = 0.11, 0.03  # by how much better discs have to fill a piece of `FEW` than one does, and of `MANY`
FEW, MANY = (
    2.4,
    3.2,
)  # area, in that of the image's cells; halves of an oval or a bean gain less, a compact clump is round
BEST = 0.98  # that discs fill of touching cells
SPARING = 0.015  # of a piece's roundness, for each cell more: of two ways about as good, that with fewer
ALIKE = 0.03  # the same, for a cell e times larger or smaller than the image's: of two ways, that with usual cells
AT_MOST = 4  # cells that a piece is parted into where the usual size is not known; else what there is room for
MORE = 1.3  # area, in that of the image's cells, from which a piece is parted by a second way, too
LONG, THIN = 2.0, 0.55  # of a fibre: length in usual diameters, half its width in usual radii
SMOOTH = 0.97  # solidity above which an outline has no bite worth filling
PARTING = 0.3  # of a piece's level: its necks are looked for in what shows more
WEDGE = 0.8  # area between two round cells that a disc closes, in that of its square: about half at most


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """One body: its outline (n, 1, 2) in coarse pixels; root mean square of the light in it, its level, and the
    illumination there, about 1.

    `no_cell`: it is so much only brighter or only darker than the field that it is no whole phase object. DIC shows the
    slope of the light path, and what goes up on one flank of a cell comes down on the other, whatever its form. What
    absorbs, or lies on another surface far from focus, has one side only; in brightfield it is black. `dark` is how far
    it is dark all through, -1 to 1. `faint`: it shows less than `FAINT` of what the picture's usual body does.
    """

    outline: Outline
    rms: float
    no_cell: bool
    level: float
    lamp: float
    dark: float = 0.0
    faint: bool = False


class Finder:
    """Finds the bodies of one picture: `light` around 0 at coarse scale, its `amplitude`, `strength` by `strength_of`.

    What has no higher level than `least` is no body. `lamp` tells the illumination at (x, y), about 1: what is lit less
    shows less; `lit` is its mean in counts.
    """

    def __init__(
        self,
        light: Light,
        amplitude: Light,
        strength: Light,
        least: float,
        lamp: Callable[[int, int], float],
        lit: float,
        lengths: Lengths,
        modality: Modality,
    ) -> None:
        self._light = light
        self._amplitude = amplitude
        self._least = least
        self._lamp = lamp
        self._lit = lit
        self._strength = strength
        self._lengths = lengths
        self._modality = modality

    def pieces(self, region: Outline, where: Mask, bar: float) -> list[Piece]:
        """What one region of `where` (0/1) falls into, each piece a body or touching ones; all in it shows `bar`."""
        return self._resolved(Piece.of(region, where), bar)

    def bodies(self, pieces: Iterable[Piece]) -> list[Body]:
        """The bodies that the pieces of a whole picture are made of, touching ones parted; the faint ones last."""
        pieces = self._rejoined(list(pieces))
        bent = [piece.bent for piece in pieces]
        levels = [own_level(piece.mask, self._strength[piece.here]) for piece in pieces]
        even = [level / self._lamp_at(piece) for level, piece in zip(levels, pieces, strict=True)]
        areas = [cv2.contourArea(piece.outline) for piece in pieces]
        single = [i for i, piece in enumerate(pieces) if not bent[i] and not self._is_black(piece)]
        usual = weighted_median([areas[i] for i in single], [areas[i] * levels[i] for i in single])
        # rings of dust and shadows far from focus are wide, many, and no bodies
        weights = [
            0.0 if self._is_black(piece) else area * shown
            for piece, area, shown in zip(pieces, areas, even, strict=True)
        ]
        faint = FAINT * weighted_median(even, weights)
        found: list[Piece] = []
        pale: list[Piece] = []
        for piece, several, level, shown in zip(pieces, bent, levels, even, strict=True):
            if shown < faint:
                if not self._is_shadow(piece):
                    pale.append(self._healed(piece))
                continue
            inner = [piece]
            if several and piece.area > CROWD * usual > 0:  # bridging may have joined neighbours
                inner = self._above(piece, SHARE * level, self._lengths.open) or inner
            for one in inner:
                parts = self._parted(one, usual) if one.bent and not _is_thin(one, usual) else []
                found += parts or [self._healed(one)]
        if any(piece.touching for piece in found):  # the two flanks of a cell may have been taken for touching ones
            found = self._rejoined(found)
        return [self._weigh(one) for one in found] + [replace(self._weigh(one), faint=True) for one in pale]

    def _resolved(self, piece: Piece, bar: float) -> list[Piece]:
        if piece.area < self._lengths.smallest_px:
            return []
        level = own_level(piece.mask, self._strength[piece.here])
        if level < self._least * self._lamp_at(piece):
            return []
        wanted = SHARE * level
        # one step at a time where there may be several: a faint one next to a bright one is gone at the latter's bar
        above = min(wanted, max(RISING * bar, wanted / 4)) if piece.bent else wanted
        while above > 1.1 * bar:
            inner = self._rejoined(self._above(piece, above), piece)
            # only flanks of what is no flank itself: the bar was too high, the object is broken up
            if any(not self._is_flank(one) for one in inner) or (inner and self._is_flank(piece)):
                return [smaller for one in inner for smaller in self._resolved(one, above)]
            above = math.sqrt(above * bar)
        if piece.area >= SHOWN * cv2.contourArea(piece.outline):
            return [piece]
        # a ring or a net around nothing: no body, but it may be made of some
        return [smaller for one in self._above(piece, RISING * bar) for smaller in self._resolved(one, RISING * bar)]

    def _above(self, piece: Piece, bar: float, bridge: Mask | None = None) -> list[Piece]:
        """What of a piece lies above `bar`, gaps bridged, holes filled and spikes taken off."""
        clear = (self._strength[piece.here] > bar).view(np.uint8) & piece.mask
        margin = self._lengths.bridge_px
        wide = cv2.copyMakeBorder(clear, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=(0,))
        closed = cast(
            "Mask", cv2.morphologyEx(wide, cv2.MORPH_CLOSE, self._lengths.bridge if bridge is None else bridge)
        )
        for outline in self._large(closed):
            whole = Piece.of(outline)
            shown = cv2.countNonZero(whole.mask & closed[whole.here])
            if shown >= FULL * whole.area or (shown >= SHOWN * whole.area and not whole.bent):
                closed[whole.here] |= whole.mask
        opened = cast("Mask", cv2.morphologyEx(closed, cv2.MORPH_OPEN, self._lengths.open))
        opened = np.ascontiguousarray(opened[margin:-margin, margin:-margin])
        return [Piece.of(outline, opened, (piece.x, piece.y)) for outline in self._large(opened)]

    def _rejoined(self, pieces: list[Piece], whole: Piece | None = None) -> list[Piece]:
        """The pieces, the bright and the dark flank of one cell joined: what of `whole` lies in the hull of both."""
        if self._modality is Modality.BRIGHTFIELD or len(pieces) < 2:
            return pieces
        sides = [self._side(piece) for piece in pieces]
        pairs: list[tuple[float, int, int, Outline]] = []
        bright_ones = [(i, pieces[i]) for i, side in enumerate(sides) if side > LOPSIDED]
        dark_ones = [(i, pieces[i]) for i, side in enumerate(sides) if side < -LOPSIDED]
        for i, bright in bright_ones:
            for j, dark in dark_ones:
                if _near(bright, dark):
                    hull = cast("Outline", cv2.convexHull(np.concatenate((bright.outline, dark.outline))))
                    area, perimeter = cv2.contourArea(hull), cv2.arcLength(hull, True)
                    round_enough = 1.0 - 2.0 * math.sqrt(math.pi * area) / perimeter < COMPACT
                    if round_enough and cv2.contourArea(bright.outline) + cv2.contourArea(dark.outline) > SHOWN * area:
                        pairs.append((area, i, j, hull))
        if not pairs:
            return pieces
        joined: dict[int, Piece] = {}
        gone: set[int] = set()
        for _, i, j, hull in sorted(pairs, key=lambda pair: pair[0]):
            if not gone & {i, j}:
                both = Piece.of(hull)
                if whole is not None:
                    both = Piece(both.x, both.y, both.mask & whole.cut(both), hull)
                if abs(self._side(both)) < LOPSIDED:
                    gone |= {i, j}
                    joined[i] = both
        return [joined.get(i, piece) for i, piece in enumerate(pieces) if i in joined or i not in gone]

    def _large(self, mask: Mask) -> list[Outline]:
        return [one for one in contours(mask, every_pixel=False) if cv2.contourArea(one) >= self._lengths.smallest_px]

    def _parted(self, piece: Piece, usual: float) -> list[Piece]:
        """The touching cells that a piece is made of; none if it is one cell, or would fall into crumbs.

        `usual` is the area of the image's cells, 0 where it is not known.
        """
        whole = self._filled(piece.mask)
        # bridging fills necks; without it a cell with a wide open bay falls apart
        best = self._parts(piece, whole, whole, usual)
        if piece.area > MORE * usual:
            if self._roundness(best, whole, usual) < ROUND:
                bar = PARTING * own_level(piece.mask, self._strength[piece.here])
                above = (self._strength[piece.here] > bar).view(np.uint8) & piece.mask
                clear = self._filled(cast("Mask", cv2.morphologyEx(above, cv2.MORPH_CLOSE, square(3))))
                others = [self._parts(piece, clear, whole, usual)] if clear.any() else []
                best = self._roundest((best, *others, *self._in_discs(piece, whole, usual)), whole, usual)
        if len(best) > 1:  # of a clump a part may be one again
            best = [smaller for part in best for smaller in self._divided(part, usual)]
        return [replace(self._healed(part), touching=True) for part in best] if len(best) > 1 else []

    def _divided(self, part: Piece, usual: float) -> list[Piece]:
        """A part of a clump, or what it falls into if that is still much more like cells."""
        if part.area < MORE * usual or not part.bent:
            return [part]
        best = self._roundest(([part], *self._in_discs(part, part.mask, usual)), part.mask, usual)
        return [part] if len(best) == 1 else [smaller for one in best for smaller in self._divided(one, usual)]

    def _roundest(self, ways: Iterable[list[Piece]], whole: Mask, usual: float) -> list[Piece]:
        return max(ways, key=lambda parts: self._roundness(parts, whole, usual))

    def _in_discs(self, piece: Piece, whole: Mask, usual: float) -> Iterator[list[Piece]]:
        """What a piece falls into if it is filled with two discs, three and so on, where these fill it much better."""
        alone = filled(whole) / max(cv2.countNonZero(whole), 1)
        most = math.ceil(piece.area / usual) + 1 if usual else AT_MOST
        more = float(np.interp(piece.area / usual, (FEW, MANY), ROUNDER)) if usual else ROUNDER[0]
        if alone + more > BEST:
            return
        for discs in fits(whole, most):
            if discs.fit > alone + more:
                outlines = [self._large(part) for part in discs.parts(whole)]
                corner = (piece.x, piece.y)
                yield [self._part_of(some, corner) for some in outlines if some]

    def _parts(self, piece: Piece, mask: Mask, whole: Mask, usual: float) -> list[Piece]:
        lobes = Lobes.of(mask, whole)
        lobes.join(usual)
        if self._modality is Modality.DIC and len(lobes.roots) > 1:
            self._join_flanks(lobes, piece)
        lines = [self._large(lobes.mask(i)) for i in lobes.roots]
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
            if abs(self._side(part)) < HALF:
                score += filled(part.mask) / total
            if usual:
                score -= ALIKE * part.area / total * abs(math.log(part.area / usual))
        return score

    def _join_flanks(self, lobes: Lobes, piece: Piece) -> None:
        """Join lobes that are the bright and the dark flank of one cell, once for each."""
        masks = {i: lobes.mask(i) for i in lobes.roots}
        sides = {i: self._side(replace(piece, mask=mask)) for i, mask in masks.items()}
        bright, dark = (
            [i for i, side in sides.items() if side > LOPSIDED],
            [i for i, side in sides.items() if side < -LOPSIDED],
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
        _, labels, boxes, _ = cv2.connectedComponentsWithStats(filled - wide, connectivity=4)
        bays = boxes[:, cv2.CC_STAT_AREA] > WEDGE * margin**2
        bays[labels[filled > closed]] = True
        bays[0] = False
        wide = wide | bays[labels].view(np.uint8)
        return np.ascontiguousarray(wide[margin:-margin, margin:-margin])

    def _healed(self, piece: Piece) -> Piece:
        """One cell with its bites filled: where its outline runs along the shear axis, a smooth cell shows none.

        A disc as wide as this would fill the neck between two cells; here they are parted already.
        """
        if cv2.contourArea(piece.outline) > SMOOTH * cv2.contourArea(cv2.convexHull(piece.outline)):
            return Piece.of(piece.outline)
        outline = max(contours(healed(piece.mask, self._lengths.heal_px), every_pixel=False), key=cv2.contourArea)
        return Piece.of(outline, None, (piece.x, piece.y))

    def _is_flank(self, piece: Piece) -> bool:
        """In DIC half a cell is only bright or only dark."""
        return abs(self._side(piece)) > (TOUCHING if piece.touching else LOPSIDED)

    def _is_black(self, piece: Piece) -> bool:
        """In brightfield: it lets so little light through that it is no living cell, which bends light."""
        if self._modality is Modality.DIC:
            return False
        seen = cv2.mean(self._light[piece.here], mask=piece.mask)[0]
        level = own_level(piece.mask, self._strength[piece.here])  # of its middle, not of what its edge is blurred into
        return min(level, -2 * seen) > BLACK * self._lamp_at(piece) * self._lit

    def _is_shadow(self, piece: Piece) -> bool:
        """Only dark, and round: dust on another surface, far from focus. The dark flank of a pale cell is no disc."""
        return self._side(piece) < -HALF and filled(piece.mask) > ROUND * piece.area

    def _side(self, piece: Piece) -> float:
        """In DIC, brighter or darker than the field: 1 (all of it) to -1; 0 in brightfield."""
        if self._modality is Modality.BRIGHTFIELD:
            return 0.0
        mean, sd = cv2.meanStdDev(self._amplitude[piece.here], mask=piece.mask)
        return float(mean[0, 0]) / max(math.hypot(mean[0, 0], sd[0, 0]), 1e-9)

    def _weigh(self, piece: Piece) -> Body:
        mean, sd = (float(a[0, 0]) for a in cv2.meanStdDev(self._light[piece.here], mask=piece.mask))
        level = own_level(piece.mask, self._strength[piece.here])
        no_cell = self._is_flank(piece) or self._is_black(piece)
        rms = math.hypot(mean, sd)
        return Body(piece.outline, rms, no_cell, level, self._lamp_at(piece), dark=-mean / max(rms, 1e-9))

    def _lamp_at(self, piece: Piece) -> float:
        height, width = piece.mask.shape
        return self._lamp(piece.x + width // 2, piece.y + height // 2)


def _is_thin(piece: Piece, usual: float) -> bool:
    """Whether a piece is a fibre: nowhere as thick as half a usual cell, and much longer."""
    radius = math.sqrt(usual / math.pi)
    (_, size, _) = cv2.minAreaRect(piece.outline)
    if not max(size) > LONG * 2 * radius > 0:
        return False
    padded = cv2.copyMakeBorder(piece.mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0,))
    return float(cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_3).max()) < THIN * radius


def _near(a: Piece, b: Piece) -> bool:
    """Whether two pieces may fill a good part of what lies about both."""
    right, low = max(a.x + a.mask.shape[1], b.x + b.mask.shape[1]), max(a.y + a.mask.shape[0], b.y + b.mask.shape[0])
    box = (right - min(a.x, b.x)) * (low - min(a.y, b.y))
    return bool(box * np.pi / 4 * SHOWN < a.mask.size + b.mask.size)
