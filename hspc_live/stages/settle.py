"""Does the picture stand still? The check before every exposure of a chamber run; pure, with a deadline.

After a move the stage rings, creeps and drifts on. Small looks are taken one after the other; the shift of each against
the one before (and the stage's own reading, where it has one) tells when it is over. The picture has the last word:
an encoder may stand still while the sample slides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from hspc_live.core.values import Pixels
from hspc_live.settings.chamber import SettleSettings

NS_PER_S = 1_000_000_000
LARGEST_PX = 1024
BLANK = 1e-6
FINE_PX, COARSE_PX = 1.5, 12.0
"""The band that cells are seen in: coarser than the noise of a pixel, finer than shading (standard deviations)."""
_Y, _X = (axis.ravel().astype(np.float64) for axis in np.mgrid[-1:2, -1:2])
PARABOLOID = np.linalg.pinv(np.column_stack([np.ones(9), _X, _Y, _X * _X, _X * _Y, _Y * _Y]))
"""From nine samples, row by row, to the least squares of 1, x, y, x², xy, y²."""


class Settle(StrEnum):
    """What to do next."""

    SETTLED = "settled"
    WAIT = "wait"
    GIVE_UP = "give_up"


@dataclass(frozen=True, slots=True)
class Shift:
    """Where the picture has gone since the look before; `response` in 0…1 says how sure that is."""

    dx_um: float
    dy_um: float
    response: float


@dataclass(frozen=True, slots=True)
class SettleLook:
    """One look: its time, the shift since the look before (None for the first), the stage's reading if it has one."""

    at_ns: int
    shift: Shift | None = None
    encoder_um: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class SettleVerdict:
    """What to do next, and why; `moved_um` is what was seen in the latest pair of looks, None if nothing could be."""

    settle: Settle
    reason: str
    moved_um: float | None


def picture_shift(before: Pixels, after: Pixels, um_per_px: float, background: Pixels | None = None) -> Shift:
    """The shift of `after` against `before`, both (h, w) of one shape, to a fraction of a pixel.

    Peak of the cross-correlation of the band-passed middle of both, refined by a paraboloid through the nine samples
    around it; `response` is the peak over what identical pictures would give. In DIC the peak is long across the shear:
    a parabola along each axis for itself was a fifth of a pixel off, the paraboloid is a hundredth. Plain phase
    correlation (Kuglin & Hines, 1975) weighs every frequency alike; most of a picture of a few cells is noise, and on
    such pictures it was off by a pixel and more.
    What belongs to the camera and not to the sample (shading, dust) never shifts and would say "still": give it as
    `background`, which is taken away first. Raises ValueError for pictures of different shapes.
    """
    if before.shape != after.shape or before.ndim != 2:
        raise ValueError(f"looks of the shapes {before.shape} and {after.shape} cannot be compared")
    first, second = _band(before, background), _band(after, background)
    energy = math.sqrt(float(np.square(first).sum()) * float(np.square(second).sum()))
    if energy <= BLANK * first.size:  # nothing at all to see
        return Shift(0.0, 0.0, 0.0)
    spectrum = np.conj(fft.rfft2(first)) * fft.rfft2(second)
    correlation = fft.irfft2(spectrum, s=first.shape)
    (rows, columns), (y, x) = first.shape, np.unravel_index(int(correlation.argmax()), first.shape)
    peak = float(correlation[y, x])
    to_x, to_y = _top(np.roll(correlation, (1 - y, 1 - x), (0, 1))[:3, :3])
    dx, dy = _signed(int(x), columns) + to_x, _signed(int(y), rows) + to_y
    return Shift(dx * um_per_px, dy * um_per_px, min(1.0, max(0.0, peak / energy)))


def judge(looks: Sequence[SettleLook], settings: SettleSettings, arrived_ns: int) -> SettleVerdict:
    """Whether to expose now, look again, or give up; the time is that of the last look.

    Settled are `still_looks` pairs in a row, each within the limits, that together have not gone further either (slow
    drift in one direction does not pass for rest). A pair is judged by picture and encoder; where the picture shows
    nothing to go by (an empty field), by the encoder alone. Neither of them: wait, and at the deadline give up as
    "blind".
    """
    pairs = list(pairwise(looks))
    late = bool(looks) and looks[-1].at_ns - arrived_ns >= settings.deadline_s * NS_PER_S
    moved = _moved(*pairs[-1], settings) if pairs else None
    if len(pairs) >= settings.still_looks:
        recent = pairs[-settings.still_looks :]
        if all(_still(*pair, settings) for pair in recent) and _stayed(recent, settings):
            return SettleVerdict(Settle.SETTLED, "", moved)
    if late:
        return SettleVerdict(Settle.GIVE_UP, "blind" if moved is None else "still_moving", moved)
    return SettleVerdict(Settle.WAIT, "", moved)


def _band(pixels: Pixels, background: Pixels | None) -> NDArray[np.float32]:
    """The picture's middle without noise and shading, fading to 0 at its borders, where things come and go."""
    height, width = pixels.shape
    top, left = max(0, height - LARGEST_PX) // 2, max(0, width - LARGEST_PX) // 2
    middle = np.s_[top : top + LARGEST_PX, left : left + LARGEST_PX]
    picture = pixels[middle].astype(np.float32)
    if background is not None:
        picture -= background[middle].astype(np.float32)
    picture = cv2.GaussianBlur(picture, (0, 0), FINE_PX) - cv2.GaussianBlur(picture, (0, 0), COARSE_PX)
    fade = np.outer(np.hanning(picture.shape[0]), np.hanning(picture.shape[1]))
    return np.asarray(picture * fade, np.float32)


def _top(around: NDArray[np.float32]) -> tuple[float, float]:
    """Where a paraboloid through (3, 3) samples has its top, (x, y) from the middle one; at most one sample away."""
    _, x, y, xx, xy, yy = (PARABOLOID @ around.ravel().astype(np.float64)).tolist()
    bend = 4 * xx * yy - xy * xy
    if not (xx < 0 and bend > 0):  # no top: a ridge, or nothing at all
        return 0.0, 0.0
    to_x, to_y = np.clip([(xy * y - 2 * yy * x) / bend, (xy * x - 2 * xx * y) / bend], -1.0, 1.0).tolist()
    return to_x, to_y


def _signed(index: int, size: int) -> int:
    return index - size if index > size // 2 else index


def _seen(look: SettleLook, settings: SettleSettings) -> tuple[float, float] | None:
    """The shift of the picture, if it can be believed."""
    shift = look.shift
    if shift is None or not shift.response >= settings.min_response:
        return None
    return shift.dx_um, shift.dy_um


def _read(before: SettleLook, after: SettleLook) -> tuple[float, float] | None:
    """The change of the stage's reading."""
    if before.encoder_um is None or after.encoder_um is None:
        return None
    (x0, y0), (x1, y1) = before.encoder_um, after.encoder_um
    return x1 - x0, y1 - y0


def _moved(before: SettleLook, after: SettleLook, settings: SettleSettings) -> float | None:
    found = [math.hypot(*change) for change in (_seen(after, settings), _read(before, after)) if change is not None]
    return max(found) if found else None


def _still(before: SettleLook, after: SettleLook, settings: SettleSettings) -> bool:
    seen, read = _seen(after, settings), _read(before, after)
    if seen is None and read is None:
        return False
    # written so that NaN is never still
    return (seen is None or math.hypot(*seen) <= settings.max_shift_um) and (
        read is None or math.hypot(*read) <= settings.max_encoder_um
    )


def _stayed(pairs: Sequence[tuple[SettleLook, SettleLook]], settings: SettleSettings) -> bool:
    """Whether the pairs together have not gone further than one of them may."""
    seen = [shift for _, after in pairs if (shift := _seen(after, settings)) is not None]
    net = math.hypot(sum(dx for dx, _ in seen), sum(dy for _, dy in seen))
    read = _read(pairs[0][0], pairs[-1][1])
    return net <= settings.max_shift_um and (read is None or math.hypot(*read) <= settings.max_encoder_um)
