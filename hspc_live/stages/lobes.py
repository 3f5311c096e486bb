"""The lobes of one mask: what touching cells are put together from.

Every summit of the distance transform has a lobe, the pixels nearest to its inscribed circle in power distance
(Aurenhammer 1987, SIAM J. Comput. 16:78). Lobes are joined, the widest passage first, until what is left is apart: the
passage is narrow beside both. So a lobe that is no cell of its own goes to the one it hangs on, and the lines between
cells stay where the necks are. How narrow a neck has to be depends on what it parts: two lobes as large as the image's
cells are two cells even where they overlap, halves of one are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.stages.discs import lowest
from hspc_live.stages.foreground import Mask, square
from hspc_live.stages.split import NECK

REACH = 0.25  # of the greatest radius: a summit is the highest within it
LOWEST = 0.25  # of the greatest radius: lower summits are corners of the outline
TWO = 0.9  # neck between lobes each as large as the image's cells; `split.NECK`, as in flow, between halves of one
HALF, FULL = 0.4, 0.8  # area of the smaller lobe, in those of the image's cells: between them the neck rises
BLEB = 0.6  # inscribed radius, in that of the larger lobe (or of the usual cell): what is smaller is no cell of its own
STALK = 0.65  # neck at which even a bleb is cut off: something that lies beside a cell


@dataclass(slots=True, eq=False)
class Lobes:
    """Lobes of a mask: `labels` (height, width) the lobe of each pixel (-1: outside), `radius` and `area` (n,) of each.

    `passage` (n, n) is half the width of the widest way between two, 0 where they do not meet. `root` (n,)
    is the lobe that each was joined to.
    """

    labels: NDArray[np.int32]
    radius: NDArray[np.float64]
    area: NDArray[np.float64]
    passage: NDArray[np.float64]
    root: NDArray[np.int64]

    @staticmethod
    def of(mask: Mask, whole: Mask) -> Lobes:
        """The lobes of a mask (height, width), 0/1, not empty; what else `whole` holds is shared out among them."""
        padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0,))
        distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_5)
        _, greatest, *_ = cv2.minMaxLoc(distance)
        reach = 2 * max(1, round(REACH * greatest)) + 1
        summits = distance == cv2.dilate(distance, square(reach))
        summits &= distance >= LOWEST * greatest
        distance, summits = distance[1:-1, 1:-1], summits[1:-1, 1:-1]
        ys, xs = np.divmod(np.flatnonzero(summits), summits.shape[1])
        radius = distance[ys, xs]
        kept: list[int] = []
        at = list(zip(xs.tolist(), ys.tolist(), strict=True))
        for i in np.argsort(-radius, kind="stable").tolist():  # of one summit's pixels the first
            x, y = at[i]
            if all(max(abs(x - at[k][0]), abs(y - at[k][1])) > reach // 2 for k in kept):
                kept.append(i)
        if len(kept) == 1:  # most often
            labels = (whole > 0).astype(np.int32) - np.int32(1)
            area = np.array([float(cv2.countNonZero(whole))])
            return Lobes(labels, radius[kept].astype(float), area, np.zeros((1, 1)), np.zeros(1, np.int64))
        xs, ys, radius = xs[kept].astype(np.float32), ys[kept].astype(np.float32), radius[kept]
        rows, columns = (np.arange(n, dtype=np.float32) for n in mask.shape)
        power = (columns - xs[:, None])[:, None, :] ** 2 + ((rows - ys[:, None]) ** 2 - radius[:, None] ** 2)[
            :, :, None
        ]
        labels = np.where(whole > 0, lowest(power), np.int32(-1))
        n = len(kept)
        passage = np.zeros((n, n))
        for here, there in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
            a, b = labels[here], labels[there]
            meet = (a != b) & (a >= 0) & (b >= 0)
            width = np.minimum(distance[here], distance[there])[meet]
            np.maximum.at(passage, (a[meet], b[meet]), width)
        passage = np.maximum(passage, passage.T)
        area = np.bincount(labels[labels >= 0], minlength=n).astype(float)
        return Lobes(labels, radius.astype(float), area, passage, np.arange(n))

    def copy(self) -> Lobes:
        """The same, to be joined apart from these."""
        return Lobes(self.labels, self.radius.copy(), self.area.copy(), self.passage.copy(), self.root.copy())

    @property
    def roots(self) -> list[int]:
        """What is left, one lobe to speak for each group."""
        return [i for i, root in enumerate(self.root.tolist()) if i == root]

    def mask(self, root: int) -> Mask:
        """The pixels of a group: 0/1."""
        if len(self.root) == 1:
            return cast("Mask", (self.labels >= 0).view(np.uint8))
        members = np.append(self.root == root, False)
        return cast("Mask", members[self.labels].astype(np.uint8))

    def join(self, usual: float) -> None:
        """Join what is no cell of its own; `usual` is the area of the image's cells, 0 where it is not known."""
        least = BLEB * math.sqrt(usual / math.pi) if usual else math.inf
        while True:
            roots = self.roots
            pairs = [
                (self.passage[a, b], a, b) for k, a in enumerate(roots) for b in roots[:k] if self.passage[a, b] > 0
            ]
            for passage, a, b in sorted(pairs, reverse=True):
                low, high = sorted((self.radius[a], self.radius[b]))
                bleb = low < min(BLEB * high, least)
                if passage >= (STALK if bleb else self._neck(a, b, usual)) * low:
                    self.unite(a, b)
                    break
            else:
                return

    def meet(self, a: int, b: int) -> bool:
        """Whether two groups touch."""
        return bool(self.passage[a, b] > 0)

    def _neck(self, a: int, b: int, usual: float) -> float:
        if not usual:
            return NECK
        size = min(self.area[a], self.area[b]) / usual
        return float(np.interp(size, (HALF, FULL), (NECK, TWO)))

    def unite(self, a: int, b: int) -> None:
        """Join two groups."""
        self.root[self.root == b] = a
        self.radius[a] = max(self.radius[a], self.radius[b])
        self.area[a] += self.area[b]
        widest = np.maximum(self.passage[a], self.passage[b])
        widest[a] = 0
        self.passage[a], self.passage[:, a] = widest, widest
