"""Segmentation of a still field of view: one image in, every cell in it out, without a film behind it.

The judging is that of the flow stage (`segment`); what differs is the finding. The empty field and the noise come from
the image itself (`still`), regions that show anything are found at coarse scale, and in each region outlines are drawn
at full scale by the objects' own contrast (`body`). The size range judges what is accepted; what is found does not
depend on it but for the smallest diameter.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.crop import CropGeometry, cut_all
from hspc_live.core.values import OBJECT_DTYPE, FrameResult, Modality, Pixels, Reject
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages.body import LOPSIDED, Lengths, bodies
from hspc_live.stages.exposure import camera_top, frame_alarms
from hspc_live.stages.foreground import BRIDGE_UM, Mask, Outline, contours, square
from hspc_live.stages.segment import Segmenter
from hspc_live.stages.shape import RIM_UM, Object, measure
from hspc_live.stages.still import Memory, Still, still_of

FAINT = 0.25  # of the usual cell's contrast in the same image: remains, ghosts, dust
UNRESOLVED = 3.0  # area, in those of the largest cell: a clump that could not be parted
SMALL = 0.2  # area, in those of the usual cell in the same image: under 0.45 of its diameter
SHARD = 0.11  # hull deformation of no settled cell: crystals, shards, fibres; an ellipse of 1 : 2.2 has it
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
    """An object, the root mean square of its light, and whether it is debris or a clump whatever its size."""

    item: Object
    rms: float
    debris: bool = False
    clump: bool = False


class FieldSegmenter(Segmenter):
    """Finds, measures and judges the cells of still images of one scale and modality."""

    def __init__(self, settings: SegmentSettings, um_per_px: float, modality: Modality, geometry: CropGeometry) -> None:
        super().__init__(settings, um_per_px, modality, geometry)
        self._lengths = Lengths.of(um_per_px, settings.min_diameter_um)
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
            self._show_rims(still, found)
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
        floor = self._settings.noise_factor * still.noise_sd
        bridge = 2 * max(1, round(BRIDGE_UM[Modality.DIC] / self._um / still.step / 2)) + 1
        # a mask of what is empty, opened, is one of what is not, its gaps bridged
        empty = cv2.morphologyEx(cv2.inRange(still.coarse, (-floor,), (floor,)), cv2.MORPH_OPEN, square(bridge))
        closed = cast("Mask", cv2.bitwise_not(empty))
        # largest first: cells must not lose their place under the cap to specks
        regions = sorted(contours(closed, every_pixel=False), key=cv2.contourArea, reverse=True)
        least = self._lengths.smallest_px / still.step**2
        found: list[_Found] = []
        rest: list[Outline] = []
        over_cap = 0
        for outline in regions:
            large = cv2.contourArea(outline) >= least
            inside = self._bodies(still, outline, floor) if large and len(found) < self._settings.max_objects else []
            found += inside
            if not inside:
                rest.append(outline)
                over_cap += large and len(found) >= self._settings.max_objects
        found, usual = self._compare(found, still.light.shape)
        everything = np.zeros(still.light.shape, np.uint8)
        for thing in found:
            _stamp(everything, thing.item, 1)
        for outline in rest:
            x, y, width, height = cv2.boundingRect(outline)
            low, high, *_ = cv2.minMaxLoc(still.coarse[y : y + height, x : x + width])
            speck = max(width, height) * still.step * self._um < SPECK_UM
            if not speck and max(high, -low) >= FAINT * usual:
                still.shown(x - 2, y - 2, x + width + 2, y + height + 2)
                fine = _scaled(outline, still.step, still.light.shape)
                cv2.drawContours(everything, [fine], -1, 1, cv2.FILLED)
                found.append(_Found(measure(fine), 0.0, debris=True))
        return found, everything, over_cap

    def _bodies(self, still: Still, outline: Outline, floor: float) -> list[_Found]:
        """The bodies in one region of the coarse image, outlined at full scale."""
        x, y, width, height = cv2.boundingRect(outline)
        step = still.step
        rows, columns = still.coarse.shape
        x0, y0, x1, y1 = max(0, x - 2), max(0, y - 2), min(columns, x + width + 2), min(rows, y + height + 2)
        light = still.shown(x0, y0, x1, y1)
        corner = np.array([x0 * step, y0 * step], np.int32)
        fine = _scaled(outline, step, still.light.shape) - corner
        where = np.zeros(light.shape, np.uint8)
        cv2.drawContours(where, [fine], -1, 1, cv2.FILLED)
        cv2.drawContours(where, [fine], -1, 1, 2 * step + 1)  # an outline of coarse pixels runs through their middles
        found = []
        for body in bodies(light, still.grey, where, floor, self._lengths, self._modality):
            item = measure(max(contours(body.mask), key=cv2.contourArea) + corner)
            lopsided = self._modality is Modality.DIC and body.lopsided > LOPSIDED
            found.append(_Found(item, body.rms, debris=lopsided))
        return found

    def _compare(self, found: list[_Found], shape: tuple[int, ...]) -> tuple[list[_Found], float]:
        """The objects, those marked that are out of line with the image's other cells; and the usual cell's contrast.

        Faint ones leave the list: they are too faint to spoil a crop.
        """
        cells = [f for f in found if not f.debris and not _cut(f.item, shape)]
        if not cells:
            return found, 0.0
        usual = float(np.median([f.rms for f in cells]))
        largest = np.pi / 4 * (self._settings.max_diameter_um / self._um) ** 2
        area = float(np.median([f.item.area for f in cells]))
        clump = UNRESOLVED * max(largest, area)
        clear = [f for f in found if f.rms >= FAINT * usual]
        return [
            _Found(
                f.item,
                f.rms,
                debris=f.debris or f.item.area < SMALL * area or f.item.deformation > SHARD,
                clump=f.item.area > clump,
            )
            for f in clear
        ], usual

    def _show_rims(self, still: Still, found: list[_Found]) -> None:
        """Make the light around every object, from which its sharpness is told."""
        rim = int(RIM_UM / self._um / still.step) + 2
        for thing in found:
            item, (height, width) = thing.item, thing.item.mask.shape
            x0, y0 = item.x0 // still.step, item.y0 // still.step
            x1, y1 = (item.x0 + width) // still.step, (item.y0 + height) // still.step
            still.shown(x0 - rim, y0 - rim, x1 + rim + 1, y1 + rim + 1)

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


def _scaled(outline: Outline, step: int, shape: tuple[int, ...]) -> Outline:
    """An outline of coarse pixels in those of the camera, within a frame of `shape`."""
    last = np.array([shape[1] - 1, shape[0] - 1], np.int32)
    return cast("Outline", np.minimum(outline * np.int32(step) + np.int32(step // 2), last))
