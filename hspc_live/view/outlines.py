"""Outlines of a frame's objects as polylines, ready to be drawn in one stroke a colour. No Qt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.stages.segment import window_origin
from hspc_live.wire.telemetry import Shown

Floats = NDArray[np.float32]

_CIRCLE = np.linspace(0.0, 2.0 * np.pi, 33)


@dataclass(frozen=True, slots=True, eq=False)
class Strokes:
    """Polylines, one after the other: point i is joined to point i + 1 where `connect[i]`."""

    x: Floats
    y: Floats
    connect: NDArray[np.uint8]

    @classmethod
    def of(cls, lines: Iterable[NDArray[np.floating]]) -> Strokes:
        """From (n, 2) arrays of (x, y), each drawn from its first to its last point."""
        kept = [np.asarray(line, np.float32) for line in lines if len(line)]
        if not kept:
            return cls(np.empty(0, np.float32), np.empty(0, np.float32), np.empty(0, np.uint8))
        points = np.concatenate(kept)
        connect = np.ones(len(points), np.uint8)
        connect[np.cumsum([len(line) for line in kept]) - 1] = 0
        return cls(np.ascontiguousarray(points[:, 0]), np.ascontiguousarray(points[:, 1]), connect)


def outlines(shown: Shown, um_per_px: float, window_px: int) -> list[Floats]:
    """For each object its closed outline in pixels, (n, 2) of (x, y) with pixel centres at .5.

    From its mask where masks came along, else the ellipse that fills its box.
    """
    objects = shown.objects
    if len(shown.masks) != len(objects) or not len(objects):
        return [_ellipse(row["x0_px"], row["y0_px"], row["x1_px"], row["y1_px"]) for row in objects]
    shape = shown.pixels.shape if shown.pixels.size else (1 << 30, 1 << 30)
    found: list[Floats] = []
    for mask, x_um, y_um in zip(shown.masks, objects["x_um"].tolist(), objects["y_um"].tolist(), strict=True):
        x0, y0 = window_origin(x_um / um_per_px, y_um / um_per_px, shape, window_px)
        pieces, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
        if not pieces:  # cut off by the window altogether
            found.append(np.empty((0, 2), np.float32))
            continue
        line = (pieces[0] if len(pieces) == 1 else max(pieces, key=cv2.contourArea))[:, 0].astype(np.float32)
        found.append(np.concatenate([line, line[:1]]) + np.array([x0 + 0.5, y0 + 0.5], np.float32))
    return found


def _ellipse(x0: int, y0: int, x1: int, y1: int) -> Floats:
    x = (x0 + x1) / 2 + (x1 - x0) / 2 * np.cos(_CIRCLE)
    y = (y0 + y1) / 2 + (y1 - y0) / 2 * np.sin(_CIRCLE)
    return np.stack([x, y], axis=1).astype(np.float32)


def tails(shown: Shown, um_per_px: float, frames_per_s: float) -> list[Floats]:
    """For each object the way it has come since it was first seen, by its track's fit, in pixels; empty if unknown."""
    found: list[Floats] = []
    for one, row in zip(shown.told.seen, shown.objects, strict=True):
        frames = shown.told.frame - one.since
        if one.track < 0 or one.since < 0 or frames <= 0 or frames_per_s <= 0:
            found.append(np.empty((0, 2), np.float32))
            continue
        x, y = row["x_um"] / um_per_px, row["y_um"] / um_per_px
        back = one.v_um_s * frames / frames_per_s / um_per_px
        found.append(np.array([(max(0.0, x - back), y), (x, y)], np.float32))
    return found
