"""Small masks side by side on one sheet: what has to be done to each of them is done to all at once.

A call costs about as much as what it does to a mask of the size of a cell.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from hspc_live.stages.foreground import Mask, Outline


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """Some masks in one, `gap` pixels around and between them.

    `numbers` tells which they are, `left` the column in which each begins; all begin in row `gap`.
    """

    mask: Mask
    numbers: list[int]
    left: list[int]
    gap: int

    def owner(self, outline: Outline) -> tuple[int, tuple[int, int]]:
        """The number of the mask that an outline (n, 1, 2) on the sheet belongs to, and its corner (x, y) there."""
        i = bisect(self.left, int(outline[0, 0, 0])) - 1
        return self.numbers[i], (self.left[i], self.gap)


def sheets(masks: Sequence[Mask], gap: int) -> Iterator[Sheet]:
    """All `masks` (height, width; 0/1), those of about one height on a sheet; `gap` is as far as anything reaches."""
    waiting = sorted(range(len(masks)), key=lambda i: masks[i].shape[0], reverse=True)
    while waiting:
        tallest = masks[waiting[0]].shape[0]
        numbers = [i for i in waiting if 2 * masks[i].shape[0] >= tallest]
        waiting = waiting[len(numbers) :]
        left = list(accumulate((masks[i].shape[1] + gap for i in numbers), initial=gap))
        sheet = np.zeros((tallest + 2 * gap, left[-1]), np.uint8)
        for i, x in zip(numbers, left[:-1], strict=True):
            height, width = masks[i].shape
            sheet[gap : gap + height, x : x + width] = masks[i]
        yield Sheet(sheet, numbers, left[:-1], gap)
