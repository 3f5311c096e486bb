"""How well discs fill a mask: of how many touching cells it is made, and whose each pixel is.

A cell alone is about as large as a disc that fills it; two that touch are badly filled by one disc and well by two,
even where bridging has closed the neck between them. Pixels go to the disc they are nearest to in power distance, discs
to the middle of their pixels, with the same area, in turn (a mixture of discs, after Lloyd 1982, IEEE Trans. Inf.
Theory 28:129, with the power distance of Aurenhammer 1987, SIAM J. Comput. 16:78).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.stages.foreground import Mask

Floats = NDArray[np.float64]

SAMPLE = 500  # pixels that discs are fitted to; all are shared out in the end
ROUNDS = 9
FEWEST = 8  # of the sample in a disc
ALIKE = 3  # of these, the first with discs of one size, so that none is starved before it has found its place


@dataclass(frozen=True, slots=True, eq=False)
class Discs:
    """Discs in a mask: middles x, y and squared radii (n,), and the share of its pixels that lie in their own disc."""

    x: Floats
    y: Floats
    squared: Floats
    fit: float

    def parts(self, mask: Mask) -> list[Mask]:
        """`mask` (height, width; 0/1) shared out among the discs, each part of the same size."""
        rows, columns = (np.arange(n) for n in mask.shape)
        power = ((columns - self.x[:, None]) ** 2)[:, None, :] + (
            (rows - self.y[:, None]) ** 2 - self.squared[:, None]
        )[:, :, None]
        owner = lowest(power)
        return [(owner == i).view(np.uint8) & mask for i in range(len(self.x))]


def fits(mask: Mask, most: int) -> Iterator[Discs]:
    """Two discs in a `mask` (0/1, not empty), three and so on up to `most`, each as well as was found.

    Each number is tried from places far from each other, and from one disc fewer, the worst of them divided.
    """
    pixels = np.flatnonzero(mask.view(bool))
    step = max(1, len(pixels) // SAMPLE)
    y, x = (axis.astype(np.float64) for axis in np.divmod(pixels[::step], mask.shape[1]))
    apart = _far_apart(x, y)
    chosen = [next(apart)]
    before: Discs | None = None
    for _ in range(2, most + 1):
        chosen.append(next(apart))
        starts = [chosen]
        if before is not None:
            starts.append(_divided(x, y, before))
        tried = _settled(x, y, starts, step)
        if not tried:
            return
        before = max(tried, key=lambda discs: discs.fit)
        yield before


def lowest(values: NDArray[Any]) -> NDArray[np.int16]:
    """As `values.argmin(axis=0)` of (n, …), quicker for few rows."""
    if len(values) == 2:
        return np.asarray(values[1] < values[0], np.int16)
    low = values[0]
    where = np.zeros(low.shape, np.int16)
    for i, row in enumerate(values[1:], start=1):
        np.putmask(where, row < low, i)
        if i < len(values) - 1:
            low = np.minimum(low, row)
    return where


def filled(mask: Mask) -> int:
    """How many pixels of a `mask` (0/1) lie in the disc of its area around its middle."""
    moments = cv2.moments(mask)
    area = moments["m00"]
    if not area:
        return 0
    rows, columns = (np.arange(n) for n in mask.shape)
    x, y = (columns - moments["m10"] / area) ** 2, (rows - moments["m01"] / area) ** 2
    disc = (x <= (area / np.pi - y)[:, None]).view(np.uint8)
    return int(cv2.norm(disc, cv2.NORM_L1, mask))


def _settled(x: Floats, y: Floats, starts: list[list[int]], step: int) -> list[Discs]:
    """Discs that start at these pixels, after `ROUNDS`, for each of some starts with as many discs.

    A start is left out if one of its discs is left with next to nothing.
    """
    count, tries = len(starts[0]), len(starts)
    # few discs: plain numbers are quicker than arrays of them; the first of all starts, then the second, and so on
    first = [i for places in zip(*starts, strict=True) for i in places]
    discs = [(*at, step * len(x) / np.pi / count) for at in zip(x[first].tolist(), y[first].tolist(), strict=True)]
    pixels = np.array((x, y, np.ones_like(x)))
    total = pixels.sum(axis=1).tolist()
    own = np.empty((0, 0), bool)
    for turn in range(ROUNDS):
        # the power distance less x² + y², which all discs share
        plane = np.array([(-2 * at_x, -2 * at_y, at_x * at_x + at_y * at_y - squared) for at_x, at_y, squared in discs])
        before, own = own, _nearest((plane @ pixels).reshape(count, -1))
        if turn > ALIKE and own.tobytes() == before.tobytes():
            break
        others = (own.reshape(-1, len(x)).astype(np.float64) @ pixels.T).tolist()
        # the first discs have what the others leave: whole numbers, so exactly
        left = [
            [all_ - sum(parts) for all_, *parts in zip(total, *others[i::tries], strict=True)] for i in range(tries)
        ]
        sums = left + others
        if min(share for _, _, share in sums) < FEWEST:
            kept = [i for i in range(tries) if min(share for _, _, share in sums[i::tries]) >= FEWEST]
            if not kept:
                return []
            own = own.reshape(count - 1, tries, -1)[:, kept].reshape(count - 1, -1)
            sums, discs = ([all_[i * tries + k] for i in range(count) for k in kept] for all_ in (sums, discs))
            tries = len(kept)
        discs = [
            (sum_x / share, sum_y / share, step * share / np.pi if turn >= ALIKE else disc[2])
            for (sum_x, sum_y, share), disc in zip(sums, discs, strict=True)
        ]
    out = []
    for i in range(tries):
        owner = np.arange(1, count, dtype=np.int16) @ own.reshape(count - 1, tries, -1)[:, i]
        at_x, at_y, squared = np.array(discs[i::tries]).T
        far = (x - at_x[owner]) ** 2 + (y - at_y[owner]) ** 2
        out.append(Discs(at_x, at_y, squared, np.count_nonzero(far <= squared[owner]) / len(x)))
    return out


def _nearest(power: Floats) -> NDArray[np.bool_]:
    """Which pixels have their least `power` (discs, pixels) with each disc but the first, (discs - 1, pixels)."""
    low = power[0]
    own = np.empty((len(power) - 1, len(low)), bool)
    for i, row in enumerate(power[1:]):
        np.less(row, low, out=own[i])
        if i:
            np.greater(own[:i], own[i], out=own[:i])  # taken from those before
        if i < len(own) - 1:
            low = np.minimum(low, row)
    return own


def _far_apart(x: Floats, y: Floats) -> Iterator[int]:
    """The pixel farthest from the middle, then the one farthest from those before, and so on."""
    far = (x - x.mean()) ** 2 + (y - y.mean()) ** 2
    one = int(far.argmax())
    nearest = np.full_like(x, np.inf)
    while True:
        yield one
        np.minimum(nearest, (x - x[one]) ** 2 + (y - y[one]) ** 2, out=nearest)
        one = int(nearest.argmax())


def _divided(x: Floats, y: Floats, discs: Discs) -> list[int]:
    """The pixels at the discs' middles; of the disc with the most pixels outside it, two that lie opposite."""
    far = (x - discs.x[:, None]) ** 2 + (y - discs.y[:, None]) ** 2
    own = (far - discs.squared[:, None]).argmin(axis=0)
    beyond = far[own, np.arange(len(own))] > discs.squared[own]
    worst = int(np.bincount(own[beyond], minlength=len(discs.x)).argmax())
    starts = [int(far[i].argmin()) for i in range(len(discs.x)) if i != worst]
    mine = np.flatnonzero(own == worst)
    one = int(mine[far[worst, mine].argmax()])
    other = int(mine[((x[mine] - x[one]) ** 2 + (y[mine] - y[one]) ** 2).argmax()])
    return [*starts, one, other]
