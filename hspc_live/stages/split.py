"""Parting of touching cells.

Two cells that touch form one outline with a neck. The distance transform has one peak for each; two peaks belong to
two cells if on the straight line between them the distance to the outline falls below `NECK` of the smaller peak's.
Pixels go to the peak whose inscribed circle they are nearest to in power distance |p - c|² - r², so that two circles
are parted along the chord through their crossing points (Aurenhammer 1987, SIAM J. Comput. 16:78).
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]

NECK = 0.8
SMALLEST_PEAK = 0.3  # peaks below this share of the greatest are corners of the outline


def peaks(mask: Mask, neck: float = NECK) -> NDArray[np.float64]:
    """The cells in one `mask` (height, width, non-zero inside), as (n, 3) rows of x, y, inscribed radius in pixels.

    Ordered by falling radius; n ≥ 1 for a mask that is not empty.
    """
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0,))
    distance = cast("NDArray[np.float32]", cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_5))
    greatest = float(distance.max())
    reach = 2 * max(1, round(SMALLEST_PEAK * greatest)) + 1
    summit = (distance == cv2.dilate(distance, np.ones((reach, reach), np.uint8))) & (
        distance > SMALLEST_PEAK * greatest
    )
    ys, xs = np.nonzero(summit)
    order = np.argsort(-distance[ys, xs], kind="stable")
    kept: list[tuple[int, int]] = []
    for x, y in zip(xs[order].tolist(), ys[order].tolist(), strict=True):
        if all(_apart(distance, (x, y), other, neck) for other in kept):
            kept.append((x, y))
    return np.array([(x - 1, y - 1, distance[y, x]) for x, y in kept], dtype=np.float64).reshape(-1, 3)


def part(mask: Mask, cells: NDArray[np.float64]) -> list[Mask]:
    """`mask` parted among `cells` (as from `peaks`), each part the size of `mask`, uint8 0/1."""
    ys, xs = np.indices(mask.shape)
    power = [(xs - x) ** 2 + (ys - y) ** 2 - r * r for x, y, r in cells]
    owner = np.argmin(power, axis=0)
    inside = mask > 0
    return [cast("Mask", ((owner == i) & inside).astype(np.uint8)) for i in range(len(cells))]


def _apart(distance: NDArray[np.float32], a: tuple[int, int], b: tuple[int, int], neck: float) -> bool:
    steps = max(abs(a[0] - b[0]), abs(a[1] - b[1]))
    if steps <= 1:
        return False  # neighbours on one summit
    along = np.arange(steps + 1)
    line = distance[a[1] + (along * (b[1] - a[1])) // steps, a[0] + (along * (b[0] - a[0])) // steps]
    return bool(line.min() < neck * min(line[0], line[-1]))
