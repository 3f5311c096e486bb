"""Exposure: where the camera's scale ends, and what is wrong with a frame as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from hspc_live.core.values import Pixels


def camera_top(high: int, dtype: np.dtype[Any]) -> int:
    """The camera's highest value: of the usual depths (8, 10, 12, 14, 16 bits) the smallest that holds `high`.

    Cameras of 12 bits deliver uint16, so the dtype does not say where saturation lies.
    """
    if dtype == np.uint8:
        return 255
    return next(2**bits - 1 for bits in (8, 10, 12, 14, 16) if high < 2**bits)


def frame_alarms(pixels: Pixels, low: int, high: int, top: int) -> tuple[str, ...]:
    """What is wrong with the whole frame: "black" (nothing but 0), "saturated" (more than half at the top), "flat".

    A frame with an alarm yields no objects.
    """
    if high == 0:
        return ("black",)
    if high == top and 2 * int(np.count_nonzero(pixels == top)) > pixels.size:
        return ("saturated",)
    if low == high:
        return ("flat",)
    return ()
