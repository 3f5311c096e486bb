"""Segmentation: one frame and its background in, every object in it out, measured and judged.

A pure function of frame, snapshot and settings: the same in every worker, live and in replay. Full-frame work is a
handful of OpenCV calls (`foreground`); everything else happens in the boxes of the objects. `segment_reference` holds
the same definitions in plain scikit-image, slow and readable, and a test holds this module to it.
"""

from __future__ import annotations

import math
import time
from typing import Any, assert_never

import cv2
import numpy as np

from hspc_live.core.crop import CropGeometry, Light, cut_all, fits, light_of
from hspc_live.core.values import OBJECT_DTYPE, FrameResult, Modality, Pixels, Reject
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages import foreground, split
from hspc_live.stages.exposure import camera_top, frame_alarms
from hspc_live.stages.foreground import Mask, Outline, Scale
from hspc_live.stages.shape import (
    Object,
    fill,
    healed,
    measure,
    measure_hull,
    paste,
    pixel_area,
    sharpness,
    showing,
    within,
)

SUSPECT = 0.025  # hull deformation above which an object may be touching cells: four in a square have 0.034


class Segmenter:
    """Finds, measures and judges objects. `window_px` > 0 also keeps cut-outs and masks for the recording."""

    def __init__(
        self,
        settings: SegmentSettings,
        um_per_px: float,
        modality: Modality,
        geometry: CropGeometry,
        window_px: int = 0,
    ) -> None:
        self._settings = settings
        self._um = um_per_px
        self._modality = modality
        self._geometry = geometry
        self._window_px = window_px
        self._scale = Scale.of(um_per_px, modality)
        self._cell_px = np.pi / 4 * (settings.min_diameter_um / um_per_px) ** 2

    def __call__(
        self,
        index: int,
        captured_ns: int,
        pixels: Pixels,
        snapshot_pixels: Pixels,
        snapshot_number: int,
        noise_sd: float,
    ) -> FrameResult:
        """The objects of one frame. Frame and snapshot are (height, width) of one dtype, `noise_sd` in counts.

        A frame that is black, flat or mostly saturated yields an alarm and no objects. Raises ValueError if frame and
        snapshot differ in shape or dtype.
        """
        began = time.perf_counter_ns()
        if pixels.shape != snapshot_pixels.shape or pixels.dtype != snapshot_pixels.dtype:
            raise ValueError(
                f"frame {index} is {pixels.shape} {pixels.dtype}, "
                f"its background {snapshot_pixels.shape} {snapshot_pixels.dtype}"
            )
        low, high, *_ = cv2.minMaxLoc(pixels)
        top = camera_top(int(high), pixels.dtype)
        alarms = frame_alarms(pixels, int(low), int(high), top)
        nothing: tuple[list[Object], Mask, int] = ([], np.empty((0, 0), np.uint8), 0)
        found, everything, over_cap = nothing if alarms else self._find(pixels, snapshot_pixels, noise_sd)
        light = light_of(pixels, snapshot_pixels) if found else np.empty((0, 0), np.float32)
        judged = [(self._judge(item, pixels, light, everything, noise_sd, low, high, top), item) for item in found]
        judged.sort(key=lambda pair: pair[0][:2])
        found = [item for _, item in judged]
        objects = np.array([row for row, _ in judged], dtype=OBJECT_DTYPE)
        centres = [(item.x, item.y) for row, item in judged if row[-1] == Reject.ACCEPTED]
        crops = cut_all(light, centres, self._um, self._geometry, pixels.dtype)
        windows, masks = self._cut_windows(pixels, found)
        return FrameResult(
            index=index,
            captured_ns=captured_ns,
            objects=objects,
            crops=crops,
            windows=windows,
            masks=masks,
            background=snapshot_number,
            over_cap=over_cap,
            alarms=alarms,
            segment_ns=time.perf_counter_ns() - began,
        )

    # ---- finding -----------------------------------------------------------------------------------------------------

    def _find(self, pixels: Pixels, background: Pixels, noise_sd: float) -> tuple[list[Object], Mask, int]:
        """The objects, a mask 0/1 of everything found, and how many objects beyond the cap were left unmeasured."""
        threshold = self._settings.noise_factor
        active = foreground.activity(pixels, background, noise_sd, self._scale, self._modality)
        everything = np.zeros(pixels.shape, np.uint8)
        # largest first: cells must not lose their place under the cap to specks
        pieces = [(pixel_area(o), o) for o in foreground.contours(foreground.detect(active, threshold, self._scale))]
        pieces = sorted((p for p in pieces if p[0] >= self._scale.smallest_px), key=lambda p: p[0], reverse=True)
        where = [outline for _, outline in pieces]
        if not where:
            return [], everything, 0
        cv2.drawContours(everything, where, -1, 1, cv2.FILLED)
        trimmed = foreground.trim(active, everything, self._scale, self._modality)
        specks = [outline for area, outline in pieces if area < self._scale.speck_px]
        cv2.drawContours(trimmed, specks, -1, 1, cv2.FILLED)  # a speck has no ridge to compare its fringe with
        signal = trimmed & foreground.signal(active, threshold)
        found: list[Object] = []
        match self._modality:
            case Modality.DIC:
                outlines = where
                shown = _shown_in(outlines, everything, signal)
                for outline, points in list(zip(outlines, shown, strict=True))[: self._settings.max_objects]:
                    found += self._cells(outline, measure_hull(points), trimmed, signal)
            case Modality.BRIGHTFIELD:
                outlines = self._whole(foreground.contours(trimmed), everything, len(where))
                for outline in outlines[: self._settings.max_objects]:
                    found += self._cells(outline, measure(outline))
            case _:
                assert_never(self._modality)
        everything[:] = 0
        for item in found:
            height, width = item.mask.shape
            everything[item.y0 : item.y0 + height, item.x0 : item.x0 + width] |= item.mask
        rest = outlines[self._settings.max_objects :]
        cv2.drawContours(everything, rest, -1, 1, cv2.FILLED)
        return found, everything, len(rest)

    def _whole(self, outlines: list[Outline], where: Mask, pieces: int) -> list[Outline]:
        """One outline for each object, largest first.

        Trimming leaves fragments of an object's fringe behind: of the outlines in one of the `pieces` that `where`
        consists of only the largest stays, and others that are large enough for a cell of their own and lie beside
        it. What lies within the hull of another is its core, parted from its rim by a bright ring.
        """
        areas = [pixel_area(outline) for outline in outlines]
        order = sorted(range(len(outlines)), key=areas.__getitem__, reverse=True)
        order = [i for i in order if areas[i] >= self._scale.smallest_px]
        if len(order) == pieces:
            return [outlines[i] for i in order]
        _, labels = cv2.connectedComponents(where, connectivity=8, ltype=cv2.CV_32S)
        seen: dict[int, list[Outline]] = {}
        kept = []
        for i in order:
            x, y = outlines[i][0, 0]
            others = seen.setdefault(int(labels[y, x]), [])
            if not others or (areas[i] >= self._cell_px and not any(within(outlines[i], other) for other in others)):
                others.append(outlines[i])
                kept.append(outlines[i])
        return kept

    def _cells(
        self, outline: Outline, item: Object, trimmed: Mask | None = None, signal: Mask | None = None
    ) -> list[Object]:
        """The object inside an outline, `item`, or the touching cells it is made of (for DIC by these two masks)."""
        compact = item.deformation < SUSPECT and item.solidity >= self._settings.min_solidity
        if compact or item.area < self._cell_px:
            return [item]
        x0, y0, width, height = cv2.boundingRect(outline)
        body = fill(outline)
        if trimmed is not None:
            inside = body & trimmed[y0 : y0 + height, x0 : x0 + width]
            body = healed(inside, self._scale.bridge_px) if inside.any() else body
        cells = split.peaks(body)
        item.cells = len(cells)
        if len(cells) == 1 or not self._settings.split_touching:
            return [item]
        corner = np.array([x0, y0], np.int32)
        parts = []
        for mask in split.part(body, cells):
            if outlines := foreground.contours(mask):
                piece = max(outlines, key=cv2.contourArea) + corner
                parts.append(measure(piece) if signal is None else measure_hull(showing(piece, signal)))
        # a deformed cell with a waist is no pair: parting has to yield what would pass for cells
        whole = all(p.area >= self._cell_px and p.deformation <= self._settings.max_deformation for p in parts)
        return parts if whole else [item]

    # ---- judging -----------------------------------------------------------------------------------------------------

    def _judge(
        self,
        item: Object,
        pixels: Pixels,
        light: Light,
        everything: Mask,
        noise_sd: float,
        low: float,
        high: float,
        top: int,
    ) -> tuple[Any, ...]:
        """One row of `OBJECT_DTYPE`."""
        height, width = item.mask.shape
        seen = pixels[item.y0 : item.y0 + height, item.x0 : item.x0 + width]
        mean, sd = cv2.meanStdDev(seen, mask=item.mask)
        box = (item.x0, item.y0, item.x0 + width, item.y0 + height)
        sharp = sharpness(light, box, self._um, noise_sd)
        diameter = 2.0 * math.sqrt(item.area / math.pi) * self._um
        saturated = 0.0
        if high >= top or low <= 0:
            least, most, *_ = cv2.minMaxLoc(seen)
            if most >= top or least <= 0:
                ends = ((seen >= top) | (seen == 0)).view(np.uint8)
                saturated = cv2.countNonZero(ends & item.mask) / max(1, item.area)
        reject = self._reject(item, diameter, sharp, saturated, everything)
        return (
            item.x * self._um,
            item.y * self._um,
            item.area * self._um**2,
            diameter,
            item.deformation,
            mean[0, 0],
            sd[0, 0],
            sharp,
            *box,
            int(reject),
        )

    def _reject(self, item: Object, diameter: float, sharp: float, saturated: float, everything: Mask) -> Reject:
        settings = self._settings
        height, width = everything.shape
        if (
            item.x0 <= 0
            or item.y0 <= 0
            or item.x0 + item.mask.shape[1] >= width
            or item.y0 + item.mask.shape[0] >= height
        ):
            return Reject.BORDER
        if diameter < settings.min_diameter_um:
            return Reject.DEBRIS
        joined = item.cells > 1 or item.solidity < settings.min_solidity or item.deformation > settings.max_deformation
        if joined or diameter > settings.max_diameter_um:
            return Reject.CLUSTER
        if self._others_in_crop(item, everything):
            return Reject.NOT_UNIQUE
        if saturated > settings.max_saturated:
            return Reject.SATURATED
        if sharp < settings.min_sharpness:
            return Reject.BLURRED
        if not fits(item.x, item.y, (height, width), self._um, self._geometry):
            return Reject.UNCROPPABLE
        return Reject.ACCEPTED

    def _others_in_crop(self, item: Object, everything: Mask) -> bool:
        """Whether pixels of another object lie in the square that the crop would show."""
        half = self._geometry.width_um / self._um / 2
        left, top = max(0, math.ceil(item.x - half)), max(0, math.ceil(item.y - half))
        right, bottom = math.floor(item.x + half) + 1, math.floor(item.y + half) + 1
        shown = cv2.countNonZero(everything[top:bottom, left:right])
        h, w = item.mask.shape
        if left <= item.x0 and top <= item.y0 and item.x0 + w <= right and item.y0 + h <= bottom:
            return shown > item.area
        own = item.mask[
            max(0, top - item.y0) : max(0, min(h, bottom - item.y0)),
            max(0, left - item.x0) : max(0, min(w, right - item.x0)),
        ]
        return shown > cv2.countNonZero(own)

    # ---- pictures ----------------------------------------------------------------------------------------------------

    def _cut_windows(self, pixels: Pixels, found: list[Object]) -> tuple[Pixels, Mask]:
        if self._window_px == 0:
            return np.empty((0, 0, 0), pixels.dtype), np.empty((0, 0, 0), np.uint8)
        height, width = min(self._window_px, pixels.shape[0]), min(self._window_px, pixels.shape[1])
        windows = np.empty((len(found), height, width), pixels.dtype)
        masks = np.zeros((len(found), height, width), np.uint8)
        for i, item in enumerate(found):
            x0, y0 = window_origin(item.x, item.y, pixels.shape, self._window_px)
            windows[i] = pixels[y0 : y0 + height, x0 : x0 + width]
            paste(item.mask, item.x0 - x0, item.y0 - y0, masks[i])
        return windows, masks


def _shown_in(outlines: list[Outline], everything: Mask, signal: Mask) -> list[Outline]:
    """For each outline the boundary pixels of what shows something (`signal`) inside it; itself if nothing does.

    As `shape.showing`, for all of a frame at once: `everything` (0/1) consists of the filled outlines, apart from each
    other, and `signal` is a part of it.
    """
    _, labels = cv2.connectedComponents(everything, connectivity=8, ltype=cv2.CV_32S)
    shown: dict[int, list[Outline]] = {int(labels[y, x]): [] for x, y in (outline[0, 0] for outline in outlines)}
    for piece in foreground.contours(signal, every_pixel=False):
        x, y = piece[0, 0]
        shown[int(labels[y, x])].append(piece)
    pairs = zip(shown.values(), outlines, strict=True)
    return [np.concatenate(pieces) if pieces else outline for pieces, outline in pairs]


def window_origin(x_px: float, y_px: float, shape: tuple[int, ...], window_px: int) -> tuple[int, int]:
    """The frame's pixel (x0, y0) at the upper left of an object's cut-out, which always lies inside the frame.

    `shape` is the frame's (height, width). A frame smaller than `window_px` is taken whole in that direction.
    """
    height, width = shape[:2]
    x0 = min(max(0, round(x_px) - window_px // 2), max(0, width - window_px))
    y0 = min(max(0, round(y_px) - window_px // 2), max(0, height - window_px))
    return x0, y0
