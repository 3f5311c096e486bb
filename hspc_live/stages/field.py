"""Segmentation of a still field of view: one image in, every cell in it out, without a film behind it.

The judging is that of the flow stage (`segment`); what differs is the finding. The empty field and the noise come from
the image itself (`still`), regions that show anything are found at coarse scale, and in each region outlines are drawn
at full scale by the objects' own contrast (`body`). The size range judges what is accepted; what is found does not
depend on it but for the smallest diameter.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.crop import CropGeometry, Light, cut_all
from hspc_live.core.values import OBJECT_DTYPE, FrameResult, Modality, Pixels, Reject
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages.body import FAINT, Finder
from hspc_live.stages.discs import filled
from hspc_live.stages.exposure import camera_top, frame_alarms
from hspc_live.stages.foreground import Mask, Outline, contours, square
from hspc_live.stages.piece import SMOOTHING_PX, Lengths, Piece, level_of, strength_of, weighted_median
from hspc_live.stages.rim import draw
from hspc_live.stages.segment import Segmenter
from hspc_live.stages.shape import RIM_UM, Object, measure
from hspc_live.stages.still import Memory, Still, still_of

UNRESOLVED = 3.0  # area, in those of the largest cell: a clump that could not be parted
SMALL = 0.2  # area, in those of the usual cell in the same image: under 0.45 of its diameter
SHARD = 0.105  # hull deformation of no settled cell: crystals, shards, fibres; an ellipse of 1 : 2.2 has it
PAIR = 1.6  # area, in that of the usual cell: with a shard's outline, touching cells that could not be parted,
THICK = 0.6  # if the inscribed circle is as large as this, in the usual cell's radius
THREE = 2.5  # area, in that of the usual cell: three or more that could not be parted, if less than `FILLED` of them
FILLED = 0.88  # lies in a disc of their area; a single large cell is rounder
SMOOTHED = 0.375  # what `piece.SMOOTHING_PX` leaves of white noise's standard deviation
FAR_BELOW = 0.08  # of the picture's level; an object reaches `FAINT` of it, and ends at `body.SHARE` of what it reaches
FAINTEST = 0.14  # of the picture's level, that a faint object reaches: a swollen dead cell, a ghost
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
    in the background and 1…m in the m whole cells, in row order.
    """

    frame: FrameResult
    whole: NDArray[np.bool_]
    reasons: tuple[Reason | None, ...]
    labels: NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """An object, the root mean square of its light, and whether it is debris or a clump whatever its size.

    What is `faint` beside the picture's cells is debris that is told of, but spoils no crop.
    """

    item: Object
    rms: float
    debris: bool = False
    clump: bool = False
    faint: bool = False


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
        if not alarms:
            still = still_of(pixels, self._um, self._memory)
            found, everything, over_cap = self._find_still(still)
            noise = still.noise_sd * still.step  # of one camera pixel
            judged = [(self._judge(f.item, pixels, still.light, everything, noise, low, high, top), f) for f in found]
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
        return FieldResult(frame, whole, tuple(reasons), labels)

    # ---- finding -----------------------------------------------------------------------------------------------------

    def _find_still(self, still: Still) -> tuple[list[_Found], Mask, int]:
        """The objects, a mask 0/1 of everything found, and how many beyond the cap were left unmeasured."""
        lengths = Lengths.of(self._um * still.step, self._settings.min_diameter_um)
        light = cast("Light", cv2.GaussianBlur(still.coarse, (3, 3), SMOOTHING_PX, borderType=cv2.BORDER_REPLICATE))
        strength = strength_of(still.coarse, still.noise_sd, lengths, self._modality)
        floor = self._settings.noise_factor * SMOOTHED * still.noise_sd
        # what stays far below what the picture's objects show is none of them, and need not be looked through
        shown = level_of(strength[::2, ::2], floor)
        bar = max(floor, FAR_BELOW * shown)
        # a mask of what is empty, opened, is one of what is not, its gaps bridged
        empty = cv2.morphologyEx(cv2.inRange(strength, (-1.0,), (bar,)), cv2.MORPH_OPEN, square(lengths.bridge_px))
        shows = cast("Mask", (empty == 0).view(np.uint8))
        # largest first: cells must not lose their place under the cap to specks
        regions = sorted(contours(shows, every_pixel=False), key=cv2.contourArea, reverse=True)
        finder = Finder(light, still.amplitude(light), strength, FAINTEST * shown, still.lamp, lengths, self._modality)
        pieces: list[Piece] = []
        rest: list[Outline] = []
        for outline in regions:
            large = cv2.contourArea(outline) >= lengths.smallest_px
            inside = finder.pieces(outline, shows, bar) if large else []
            pieces += inside
            if not inside:
                rest.append(outline)
        bodies = finder.bodies(pieces)
        bodies.sort(key=lambda body: (not body.faint, cv2.contourArea(body.outline)), reverse=True)
        over_cap = max(0, len(bodies) - self._settings.max_objects)
        beyond = bodies[self._settings.max_objects :]
        bodies = bodies[: self._settings.max_objects]
        outlines = draw(still, bodies, floor, self._um, self._modality)
        found = [
            _Found(
                measure(outline),
                body.rms / body.lamp,
                debris=body.flank or body.faint,
                faint=body.faint,
            )
            for body, outline in zip(bodies, outlines, strict=True)
        ]
        found, usual = self._compare(found, still.light.shape)
        everything = np.zeros(still.light.shape, np.uint8)
        for thing in found:
            if not thing.faint:
                _stamp(everything, thing.item, 1)
        cv2.drawContours(everything, [_scaled(body.outline, still) for body in beyond], -1, 1, cv2.FILLED)
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
                cv2.drawContours(everything, [fine], -1, 1, cv2.FILLED)
            found.append(_Found(measure(fine), 0.0, debris=True, faint=faint))
        return found, everything, over_cap

    def _compare(self, found: list[_Found], shape: tuple[int, ...]) -> tuple[list[_Found], float]:
        """The objects, those marked that are out of line with the image's other cells; and the usual cell's contrast."""
        cells = [f for f in found if not f.debris and not _cut(f.item, shape)]
        if not cells:
            return found, 0.0
        # each counts as much as it shows: a few cells are not outvoted by many faint rings of dust, or by dark specks
        rms = [f.rms for f in cells]
        usual = weighted_median(rms, [f.rms * f.item.area for f in cells])
        pale = [_Found(f.item, f.rms, debris=True, faint=True) for f in found if f.faint or f.rms < FAINT * usual]
        clear = [f for f in found if not f.faint and f.rms >= FAINT * usual]
        largest = np.pi / 4 * (self._settings.max_diameter_um / self._um) ** 2
        area = float(np.median([f.item.area for f in cells if f.rms >= FAINT * usual]))
        clump = UNRESOLVED * max(largest, area)
        return [
            _Found(
                f.item,
                f.rms,
                debris=f.debris
                or f.item.area < SMALL * area
                or (f.item.deformation > SHARD and not _thick(f.item, area)),
                clump=f.item.area > clump
                or (f.item.deformation > SHARD and _thick(f.item, area))
                or (f.item.area > THREE * area and filled(f.item.mask) < FILLED * f.item.area),
            )
            for f in clear
        ] + pale, usual

    def _show_crops(self, still: Still, centres: list[tuple[float, float]]) -> None:
        """Make the light that the crops around `centres` are cut from."""
        half = int(self._geometry.width_um / self._um / 2 / still.step) + 4
        for x, y in centres:
            column, row = int(x) // still.step, int(y) // still.step
            still.shown(column - half, row - half, column + half + 1, row + half + 1)

    # ---- judging -----------------------------------------------------------------------------------------------------

    def _reason(self, row: tuple[Any, ...], thing: _Found) -> Reason | None:
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


def _thick(item: Object, usual: float) -> bool:
    """Whether an object could hold two cells of area `usual`, and is as thick as most of one: no fibre."""
    if item.area < PAIR * usual:
        return False
    padded = cv2.copyMakeBorder(item.mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0,))
    return float(cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_3).max()) > THICK * math.sqrt(usual / math.pi)


def _reject_of(reason: Reason | None) -> Reject:
    if reason is None:
        return Reject.ACCEPTED
    return Reject.CLUSTER if reason in (Reason.TOO_LARGE, Reason.NOT_ROUND) else Reject[reason.name]


def _cut(item: Object, shape: tuple[int, ...]) -> bool:
    height, width = item.mask.shape
    return item.x0 <= 0 or item.y0 <= 0 or item.x0 + width >= shape[1] or item.y0 + height >= shape[0]


def _stamp(into: NDArray[Any], item: Object, value: int) -> None:
    height, width = item.mask.shape
    np.copyto(into[item.y0 : item.y0 + height, item.x0 : item.x0 + width], value, where=item.mask.view(bool))


def _scaled(outline: Outline, still: Still) -> Outline:
    """An outline of coarse pixels in those of the camera; what lies at the picture's border stays there."""
    height, width = still.light.shape
    last = np.array([width - 1, height - 1], np.int32)
    step = still.step
    fine = np.minimum(outline * np.int32(step) + np.int32(step // 2), last)
    at_end = outline == np.array([still.coarse.shape[1] - 1, still.coarse.shape[0] - 1], np.int32)
    return cast("Outline", np.where(outline == 0, np.int32(0), np.where(at_end, last, fine)))
