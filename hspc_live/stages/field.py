"""Segmentation of a still field of view: one image in, every cell in it out, without a film behind it.

The judging is that of the flow stage (`segment`); what differs is the finding. The empty field and the noise come from
the image itself (`still`), regions that show anything are found at coarse scale, and in each region outlines are drawn
at full scale by the objects' own contrast (`body`). The size range judges what is accepted; what is found does not
depend on it but for the smallest diameter.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.crop import CropGeometry, Light, cut_all
from hspc_live.core.values import OBJECT_DTYPE, FrameResult, Modality, Pixels, Reject
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages.beside import beside
from hspc_live.stages.body import BLACK, FAINT, Finder
from hspc_live.stages.company import Doubt, Found, compare, doubts_of
from hspc_live.stages.exposure import camera_top, frame_alarms
from hspc_live.stages.foreground import Mask, Outline, contours, square
from hspc_live.stages.piece import SMOOTHING_PX, Lengths, Piece, level_of, power_of, weighted_median
from hspc_live.stages.rim import draw
from hspc_live.stages.segment import Segmenter
from hspc_live.stages.shape import RIM_UM, Object, measure
from hspc_live.stages.still import Memory, Still, still_of

SMOOTHED = 0.375  # what `piece.SMOOTHING_PX` leaves of white noise's standard deviation
FAR_BELOW = 0.08  # of the picture's level; an object reaches `FAINT` of it, and ends at `body.SHARE` of what it reaches
FAINTEST = 0.14  # of the picture's level, that a faint object reaches: a swollen dead cell, a ghost
SHARP, NOTHING_SHARP = 0.1, 0.02  # `shape.sharpness` of a picture in focus, and of a shadow in it
FRINGE_UM = 3.0  # around something black in brightfield, what it throws
CENTRED = 3  # coarse pixels: how far the middle of a cell's box mostly is from its own
SPECK_UM = 1.5  # what is smaller across is grain: not listed, and spoils no crop


class Reason(StrEnum):
    """Why something in a still field is no accepted cell. The first three are no whole cells, the rest are."""

    DEBRIS = "debris"
    BORDER = "border"
    CLUSTER = "cluster"
    TOO_LARGE = "too_large"
    NOT_ROUND = "not_round"
    NOT_UNIQUE = "not_unique"
    SATURATED = "saturated"
    BLURRED = "blurred"
    UNCROPPABLE = "uncroppable"


NO_CELL = frozenset({Reason.DEBRIS, Reason.BORDER, Reason.CLUSTER})


@dataclass(frozen=True, slots=True, eq=False)
class FieldResult:
    """What was found in one still image.

    `frame.objects` are all objects, ordered by (x, y); `whole` (n,) says which of them are cells that lie whole in the
    image, accepted or not, `reasons` (n,) why one is not accepted (None: it is). `labels` (height, width) uint16 is 0
    in the background and 1…m in the m whole cells, in row order. `doubts` say why a person should look at the image.
    """

    frame: FrameResult
    whole: NDArray[np.bool_]
    reasons: tuple[Reason | None, ...]
    labels: NDArray[np.uint16]
    doubts: tuple[Doubt, ...] = ()


class FieldSegmenter(Segmenter):
    """Finds, measures and judges the cells of still images of one scale and modality."""

    def __init__(self, settings: SegmentSettings, um_per_px: float, modality: Modality, geometry: CropGeometry) -> None:
        super().__init__(settings, um_per_px, modality, geometry)
        self._memory = Memory()

    def field(self, pixels: Pixels, index: int = 0, captured_ns: int = 0) -> FieldResult:
        """The cells of one image, (height, width) uint8 or uint16.

        An image that is black, flat or mostly saturated yields an alarm and no objects.
        """
        began = time.perf_counter_ns()
        low, high, *_ = cv2.minMaxLoc(pixels)
        top = camera_top(int(high), pixels.dtype)
        alarms = frame_alarms(pixels, int(low), int(high), top)
        labels = np.zeros(pixels.shape, np.uint16)
        rows: list[tuple[Any, ...]] = []
        reasons: list[Reason | None] = []
        centres: list[tuple[float, float]] = []
        crops = np.empty((0, self._geometry.size_px, self._geometry.size_px), pixels.dtype)
        over_cap = 0
        found: list[Found] = []
        if not alarms:
            still = still_of(pixels, self._um, self._memory)
            found, everything, over_cap = self._find_still(still)
            noise = still.noise_sd * still.step  # of one camera pixel
            judged = [(self._judge(f.item, pixels, still.light, everything, noise, low, high, top), f) for f in found]
            if self._modality is Modality.BRIGHTFIELD:
                judged = _without_ghosts(judged)
            judged.sort(key=lambda pair: pair[0][:2])
            count = 0
            for row, thing in judged:
                reason = self._reason(row, thing)
                rows.append((*row[:-1], int(_reject_of(reason))))
                reasons.append(reason)
                if reason not in NO_CELL:
                    count += 1
                    _stamp(labels, thing.item, count)
                if reason is None:
                    centres.append((thing.item.x, thing.item.y))
            self._show_crops(still, centres)
            crops = cut_all(still.light, centres, self._um, self._geometry, pixels.dtype)
        frame = FrameResult(
            index=index,
            captured_ns=captured_ns,
            objects=np.array(rows, dtype=OBJECT_DTYPE),
            crops=crops,
            windows=np.empty((0, 0, 0), pixels.dtype),
            masks=np.empty((0, 0, 0), np.uint8),
            background=0,
            over_cap=over_cap,
            alarms=alarms,
            segment_ns=time.perf_counter_ns() - began,
        )
        whole = np.array([reason not in NO_CELL for reason in reasons], bool)
        smallest_px = np.pi / 4 * (self._settings.min_diameter_um / self._um) ** 2
        return FieldResult(frame, whole, tuple(reasons), labels, doubts_of(found, int(whole.sum()), smallest_px))

    # ---- finding -----------------------------------------------------------------------------------------------------

    def _find_still(self, still: Still) -> tuple[list[Found], Mask, int]:
        """The objects, a mask 0/1 of everything found, and how many beyond the cap were left unmeasured."""
        lengths = Lengths.of(self._um * still.step, self._settings.min_diameter_um)
        light, power = (self._memory.of(name, still.coarse.shape) for name in ("smooth", "power"))
        cv2.GaussianBlur(still.coarse, (3, 3), SMOOTHING_PX, light, borderType=cv2.BORDER_REPLICATE)
        power_of(still.coarse, lengths, self._modality, power)
        floor = self._settings.noise_factor * SMOOTHED * still.noise_sd
        # what stays far below what the picture's objects show is none of them, and need not be looked through
        every_second = self._without_black(power[::2, ::2], light, still)
        shown = level_of(every_second, still.noise_sd, floor)
        bar = max(floor, FAR_BELOW * shown)
        shows = cast("Mask", (power > np.float32(bar**2 + still.noise_sd**2)).view(np.uint8))
        shows = cast("Mask", cv2.morphologyEx(shows, cv2.MORPH_CLOSE, square(lengths.bridge_px)))
        # largest first: cells must not lose their place under the cap to specks
        regions = sorted(contours(shows, every_pixel=False), key=cv2.contourArea, reverse=True)
        least = FAINTEST * shown
        finder = Finder(still, light, power, least, lengths, self._modality, self._memory)
        pieces: list[Piece] = []
        held: list[tuple[Piece, float]] = []
        rest: list[Outline] = []
        large = [outline for outline in regions if cv2.contourArea(outline) >= lengths.smallest_px]
        wholes = [Piece.of(outline, shows) for outline in large]
        for outline, region, inside in zip(large, wholes, finder.pieces(wholes, bar), strict=True):
            pieces += inside
            if inside:
                held.append((region, max(finder.shown.level(piece) for piece in inside)))
            else:
                rest.append(outline)
        rest += regions[len(large) :]
        bodies = finder.bodies(pieces)
        bodies.sort(key=lambda body: (not body.faint, cv2.contourArea(body.outline)), reverse=True)
        over_cap = max(0, len(bodies) - self._settings.max_objects)
        beyond = bodies[self._settings.max_objects :]
        bodies = bodies[: self._settings.max_objects]
        outlines = draw(still, bodies, floor, self._um, self._modality, self._crop_px(still) + CENTRED)
        found = [
            Found(
                measure(outline),
                body.rms / body.lamp,
                dark=body.dark,
                debris=body.no_cell,
                faint=body.faint,
            )
            for body, outline in zip(bodies, outlines, strict=True)
        ]
        largest_px = np.pi / 4 * (self._settings.max_diameter_um / self._um) ** 2
        found, usual = compare(found, still.light.shape, largest_px, self._modality)
        everything = np.zeros(still.light.shape, np.uint8)
        for thing in found:
            if not thing.faint:
                item = thing.item
                height, width = item.mask.shape
                everything[item.y0 : item.y0 + height, item.x0 : item.x0 + width] |= item.mask
        for body in beyond:
            cv2.fillPoly(everything, [_scaled(body.outline, still)], 1)
        cells = [(f.item.x / still.step, f.item.y / still.step) for f in found if not (f.debris or f.faint)]
        for region, level in held:
            if not region.spans_any(cells):
                continue
            rest += beside(region, finder.shown.strength, level, everything, still.step, self._um * still.step)
        for outline in rest:
            x, y, width, height = cv2.boundingRect(outline)
            if max(width, height) * still.step * self._um < SPECK_UM:
                continue
            low, high, *_ = cv2.minMaxLoc(still.coarse[y : y + height, x : x + width])
            faint = max(high, -low) < FAINT * usual
            if faint and cv2.contourArea(outline) < lengths.smallest_px:
                continue
            rim = int(RIM_UM / self._um / still.step) + 2  # from which its sharpness is told
            still.shown(x - rim, y - rim, x + width + rim, y + height + rim)
            fine = _scaled(outline, still)
            if not faint:
                cv2.fillPoly(everything, [fine], 1)
            found.append(Found(measure(fine), 0.0, debris=True, faint=faint))
        return found, everything, over_cap

    def _without_black(self, power: Light, light: Light, still: Still) -> Light:
        """In brightfield `power` (of every second row and column) without black dust and its fringe.

        Beside it pale cells would count as nothing.
        """
        if self._modality is Modality.DIC:
            return power
        black = (light < -BLACK * still.field).astype(np.uint8)
        if not black.any():
            return power
        wide = 2 * round(FRINGE_UM / self._um / still.step) + 1
        return np.where(cv2.dilate(black, square(wide))[::2, ::2] > 0, np.float32(0), power)

    def _show_crops(self, still: Still, centres: list[tuple[float, float]]) -> None:
        """Make the light that the crops around `centres` are cut from."""
        half = self._crop_px(still)
        for x, y in centres:
            column, row = int(x) // still.step, int(y) // still.step
            still.shown(column - half, row - half, column + half + 1, row + half + 1)

    def _crop_px(self, still: Still) -> int:
        """How far a crop reaches from its middle, in coarse pixels."""
        return int(self._geometry.width_um / self._um / 2 / still.step) + 2

    # ---- judging -----------------------------------------------------------------------------------------------------

    def _reason(self, row: tuple[Any, ...], thing: Found) -> Reason | None:
        """Why an object is not accepted, None if it is; `row` as `_judge` made it."""
        reject = Reject(row[-1])
        if reject is Reject.BORDER:
            return Reason.BORDER
        if thing.debris:
            return Reason.DEBRIS
        if thing.clump:
            return Reason.CLUSTER
        if reject is Reject.CLUSTER:
            return Reason.TOO_LARGE if row[3] > self._settings.max_diameter_um else Reason.NOT_ROUND
        return None if reject is Reject.ACCEPTED else Reason[reject.name]


def _without_ghosts(judged: list[tuple[tuple[Any, ...], Found]]) -> list[tuple[tuple[Any, ...], Found]]:
    """Rows and objects; in company of sharp ones what has nothing sharp at all is debris, on another surface."""
    sharp = (OBJECT_DTYPE.names or ()).index("sharpness")
    cells = [(row[sharp], thing.rms * thing.item.area) for row, thing in judged if not thing.debris]
    if weighted_median([one for one, _ in cells], [weight for _, weight in cells]) < SHARP:
        return judged
    return [(row, replace(thing, debris=True) if row[sharp] < NOTHING_SHARP else thing) for row, thing in judged]


def _reject_of(reason: Reason | None) -> Reject:
    if reason is None:
        return Reject.ACCEPTED
    return Reject.CLUSTER if reason in (Reason.TOO_LARGE, Reason.NOT_ROUND) else Reject[reason.name]


def _stamp(into: NDArray[Any], item: Object, value: int) -> None:
    height, width = item.mask.shape
    np.copyto(into[item.y0 : item.y0 + height, item.x0 : item.x0 + width], value, where=item.mask.view(bool))


def _scaled(outline: Outline, still: Still) -> Outline:
    """An outline of coarse pixels in those of the camera; what lies at the picture's border stays there."""
    step = still.step
    fine = outline * np.int32(step) + np.int32(step // 2)
    x, y, width, height = cv2.boundingRect(outline)
    if min(x, y) > 0 and x + width < still.coarse.shape[1] and y + height < still.coarse.shape[0]:  # most often
        return cast("Outline", fine)
    height, width = still.light.shape
    last = np.array([width - 1, height - 1], np.int32)
    fine = np.minimum(fine, last)
    at_end = outline == np.array([still.coarse.shape[1] - 1, still.coarse.shape[0] - 1], np.int32)
    return cast("Outline", np.where(outline == 0, np.int32(0), np.where(at_end, last, fine)))
