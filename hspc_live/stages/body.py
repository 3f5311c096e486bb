"""Which bodies a still field holds: at coarse scale, by their own contrast, touching ones parted.

In flow an outline is drawn against the noise of a film's background. In a still field of cells at high magnification
the light that a cell throws around it (fringes, the halo of a globe) stands far above the noise too, and cells of one
field differ in contrast several times. What tells a cell from its surroundings is its own contrast. So a region is
looked at under a rising bar: where it falls apart each piece goes on by itself, until the bar is a share of what the
piece itself reaches. Gain, offset and the scale of grey values cancel. Where exactly the edge lies is `rim`'s matter.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias, cast

import cv2
import numpy as np

from hspc_live.core.crop import Light
from hspc_live.core.values import Modality
from hspc_live.stages.discs import filled
from hspc_live.stages.foreground import Mask, Outline, contours
from hspc_live.stages.parting import HALF, ROUND, Parter, is_thin
from hspc_live.stages.piece import (
    Lengths,
    Piece,
    Shown,
    healed,
    large_with_holes,
    mean_and_rms,
    strength_of,
    weighted_median,
)
from hspc_live.stages.sheet import sheets
from hspc_live.stages.still import Memory, Still

SHARE = 0.25  # of an object's level (`piece.own_level`): what shows less is not of it
RISING = 1.5  # by how much the bar is raised at a time
SHOWN = 1 / 3  # share of what an outline encloses that shows something; a fringe around nothing is no body
FULL = 0.8  # the same where the outline is bent, and may run around a void among cells
CROWD = 3.0  # area of a piece, in those of the image's cells, that gaps are bridged no more
FAINT = 0.36  # of the usual cell's contrast in the same image: remains, ghosts, dust
LOPSIDED = 0.35  # in DIC: only darker or only brighter than the field, so no whole phase object in focus
TOUCHING = 0.45  # the same of a part of a clump, whose neighbours' light falls on it
ALONE = 0.25  # of what a picture shows in cells by themselves: enough to tell the usual size
BLACK = 0.45  # share of the light that is missing all through what is no living cell (unstained, it hardly absorbs)
COMPACT = 0.04  # hull deformation of two flanks that may be one cell

# How a piece is resolved: asks what of a piece lies above a bar, is told that; in the end returns what it falls into.
Steps: TypeAlias = Generator[tuple[Piece, float], list[Piece], list[Piece]]


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
    """Finds the bodies of one picture, `still`: its `light` around 0 at coarse scale, smoothed, and `power_of` that.

    What has no higher level than `least` is no body. Amplitude and strength are made where something is looked for, in
    arrays of `memory`.
    """

    def __init__(
        self,
        still: Still,
        light: Light,
        power: Light,
        least: float,
        lengths: Lengths,
        modality: Modality,
        memory: Memory,
    ) -> None:
        self._still = still
        self._light = light
        self._power = power
        self._amplitude = memory.of("amplitude", light.shape)
        self._least = least
        self._lengths = lengths
        self._modality = modality
        self.shown = Shown(memory.of("strength", light.shape), self._amplitude, modality)
        self._parter = Parter(self.shown, LOPSIDED, lengths, modality)

    def pieces(self, regions: list[Piece], bar: float) -> list[list[Piece]]:
        """What each region falls into, each piece a body or touching ones; all in them shows `bar`."""
        for region in regions:
            self._look_at(region)
        found: list[list[Piece]] = [[] for _ in regions]
        running = [(i, self._resolved(region, bar)) for i, region in enumerate(regions)]
        answers: list[list[Piece] | None] = [None] * len(running)
        while running:  # all of them a step further at a time
            waiting, asked = [], []
            for (i, steps), answer in zip(running, answers, strict=True):
                try:
                    asked.append(next(steps) if answer is None else steps.send(answer))
                    waiting.append((i, steps))
                except StopIteration as end:
                    found[i] = end.value
            running, answers = waiting, [*self._above(asked)]
        return found

    def bodies(self, pieces: Iterable[Piece]) -> list[Body]:
        """The bodies that the pieces of a whole picture are made of, touching ones parted; the faint ones last."""
        pieces = self._rejoined(list(pieces))
        bent = [self.shown.bent(piece) for piece in pieces]
        levels = [self.shown.level(piece) for piece in pieces]
        even = [level / self._lamp_at(piece) for level, piece in zip(levels, pieces, strict=True)]
        areas = [cv2.contourArea(piece.outline) for piece in pieces]
        usual = self._usual(pieces, bent, areas, levels)
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
                    pale.append(piece)
                continue
            inner = [piece]
            if several and piece.area > CROWD * usual > 0:  # bridging may have joined neighbours
                inner = self._above([(piece, SHARE * level)], self._lengths.open)[0] or inner
            for one in inner:
                parts = self._parter.parted(one, usual) if self.shown.bent(one) and not is_thin(one, usual) else []
                found += parts or [one]
        whole = healed(found + pale, self._lengths)
        found, pale = whole[: len(found)], whole[len(found) :]
        if any(piece.touching for piece in found):  # the two flanks of a cell may have been taken for touching ones
            found = self._rejoined(found)
        return [self._weigh(one) for one in found] + [replace(self._weigh(one), faint=True) for one in pale]

    def _usual(self, pieces: list[Piece], bent: list[bool], areas: list[float], levels: list[float]) -> float:
        """The area of the picture's cells: of those by themselves, or where these are few, of all, parted at necks."""
        known = [i for i, piece in enumerate(pieces) if not self._is_black(piece)]
        single = [i for i in known if not bent[i]]
        weights = [areas[i] * levels[i] for i in single]
        sizes = [areas[i] for i in single]
        if sum(weights) < ALONE * sum(areas[i] * levels[i] for i in known):
            for i in set(known) - set(single):
                parts = [float(part.area) for part in self._parter.at_necks(pieces[i])]
                sizes += parts
                weights += [levels[i] * size for size in parts]
        return weighted_median(sizes, weights)

    def _resolved(self, piece: Piece, bar: float) -> Steps:
        if piece.area < self._lengths.smallest_px:
            return []
        level = self.shown.level(piece)
        if level < self._least * self._lamp_at(piece):
            return []
        wanted = SHARE * level
        # one step at a time where there may be several: a faint one next to a bright one is gone at the latter's bar
        above = min(wanted, max(RISING * bar, wanted / 4)) if self.shown.bent(piece) else wanted
        while above > 1.1 * bar:
            inner = self._rejoined((yield piece, above), piece)
            # only flanks of what is no flank itself: the bar was too high, the object is broken up
            if any(not self._is_flank(one) for one in inner) or (inner and self._is_flank(piece)):
                return (yield from self._all_resolved(inner, above))
            above = math.sqrt(above * bar)
        if piece.area >= SHOWN * cv2.contourArea(piece.outline):
            return [piece]
        # a ring or a net around nothing: no body, but it may be made of some
        return (yield from self._all_resolved((yield piece, RISING * bar), RISING * bar))

    def _all_resolved(self, pieces: list[Piece], bar: float) -> Steps:
        found = []
        for piece in pieces:
            found += yield from self._resolved(piece, bar)
        return found

    def _above(self, several: list[tuple[Piece, float]], bridge: Mask | None = None) -> list[list[Piece]]:
        """What of each of some pieces lies above its bar, gaps bridged, holes filled and spikes taken off."""
        shows = [(self.shown.strength[piece.here] > bar).view(np.uint8) & piece.mask for piece, bar in several]
        bridge = self._lengths.bridge if bridge is None else bridge
        found: list[list[Piece]] = [[] for _ in several]
        for sheet in sheets(shows, self._lengths.bridge_px):
            closed = cast("Mask", cv2.morphologyEx(sheet.mask, cv2.MORPH_CLOSE, bridge))
            for outline in large_with_holes(closed, self._lengths):
                whole = Piece.of(outline)
                shown = cv2.countNonZero(whole.mask & closed[whole.here])
                if shown >= FULL * whole.area or (shown >= SHOWN * whole.area and not whole.bent):
                    closed[whole.here] |= whole.mask
            opened = cast("Mask", cv2.morphologyEx(closed, cv2.MORPH_OPEN, self._lengths.open))
            outlines = contours(opened, every_pixel=False)
            owners = [sheet.owner(outline) for outline in outlines]
            number = Counter(i for i, _ in owners)
            for outline, (i, (x, y)) in zip(outlines, owners, strict=True):
                if cv2.contourArea(outline) >= self._lengths.smallest_px:
                    piece, _ = several[i]
                    corner = (piece.x - x, piece.y - y)
                    found[i].append(Piece.of(outline, opened, corner, alone=number[i] == 1))
        return found

    def _rejoined(self, pieces: list[Piece], whole: Piece | None = None) -> list[Piece]:
        """The pieces, the bright and the dark flank of one cell joined: what of `whole` lies in the hull of both."""
        if self._modality is Modality.BRIGHTFIELD or len(pieces) < 2:
            return pieces
        sides = [self.shown.side(piece) for piece in pieces]
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
                else:  # of two regions
                    self._look_at(both)
                if abs(self.shown.side(both)) < LOPSIDED:
                    gone |= {i, j}
                    joined[i] = both
        return [joined.get(i, piece) for i, piece in enumerate(pieces) if i in joined or i not in gone]

    def _look_at(self, piece: Piece) -> None:
        """Make amplitude and strength in the box of a piece."""
        here = piece.here
        strength_of(self._power[here], self._still.noise_sd, self.shown.strength[here])
        if self._modality is Modality.DIC:
            self._still.amplitude(self._light, here, self._amplitude[here])

    def _is_flank(self, piece: Piece) -> bool:
        """In DIC half a cell is only bright or only dark."""
        return abs(self.shown.side(piece)) > (TOUCHING if piece.touching else LOPSIDED)

    def _is_black(self, piece: Piece) -> bool:
        """In brightfield: it lets so little light through that it is no living cell, which bends light."""
        if self._modality is Modality.DIC:
            return False
        seen = cv2.mean(self._light[piece.here], mask=piece.mask)[0]
        level = self.shown.level(piece)  # of its middle, not of what its edge is blurred into
        return min(level, -2 * seen) > BLACK * self._lamp_at(piece) * self._still.mean

    def _is_shadow(self, piece: Piece) -> bool:
        """Only dark, and round: dust on another surface, far from focus. The dark flank of a pale cell is no disc."""
        return self.shown.side(piece) < -HALF and filled(piece.mask) > ROUND * piece.area

    def _weigh(self, piece: Piece) -> Body:
        mean, rms = mean_and_rms(self._light[piece.here], piece.mask)
        level = self.shown.level(piece)
        no_cell = self._is_flank(piece) or self._is_black(piece)
        return Body(piece.outline, rms, no_cell, level, self._lamp_at(piece), dark=-mean / max(rms, 1e-9))

    def _lamp_at(self, piece: Piece) -> float:
        height, width = piece.mask.shape
        return self._still.lamp(piece.x + width // 2, piece.y + height // 2)


def _near(a: Piece, b: Piece) -> bool:
    """Whether two pieces may fill a good part of what lies about both."""
    right, low = max(a.x + a.mask.shape[1], b.x + b.mask.shape[1]), max(a.y + a.mask.shape[0], b.y + b.mask.shape[0])
    box = (right - min(a.x, b.x)) * (low - min(a.y, b.y))
    return bool(box * np.pi / 4 * SHOWN < a.mask.size + b.mask.size)
