"""Where words go on a picture so that they hide nothing: beside their object, clear of all others and of each other."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, floor

import numpy as np

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the picture."""

FINEST = 2048
"""So many squares along the longer side tell what is taken: of thousands of objects, too, one look is enough."""


class FreePlaces:
    """The free room on a picture of `width` × `height` pixels; `taken` are the boxes that nothing may be put on."""

    def __init__(self, width: float, height: float, taken: Iterable[Box] = ()) -> None:
        self._width, self._height = width, height
        self._square = max(1.0, max(width, height) / FINEST)
        shape = (ceil(height / self._square) + 1, ceil(width / self._square) + 1)
        self._taken = np.zeros(shape, bool)
        for box in taken:
            self._taken[self._squares(*box)] = True

    def find(self, wide: float, tall: float, box: Box, below: float, above: float) -> tuple[float, float] | None:
        """The upper left corner for words of `wide` × `tall` pixels beside `box`, now taken; None if there is no room.

        `below` is the gap to `box` under it and at its sides, `above` the one over it.
        """
        places = self.places(wide, tall, box, below, above)
        found = next((place for place in places if self._free(*place, wide, tall)), None)
        if found is not None:
            self.take(*found, wide, tall)
        return found

    def take(self, x: float, y: float, wide: float, tall: float) -> None:
        """Nothing else goes there."""
        self._taken[self._squares(x, y, x + wide, y + tall)] = True

    def places(self, wide: float, tall: float, box: Box, below: float, above: float) -> list[tuple[float, float]]:
        """Corners to try, the most readable first: below, above, to a side, at a corner, a line further away."""
        x0 = min(max((box[0] + box[2] - wide) / 2, 2.0), self._width - wide - 2)  # shifted in at the picture's sides
        middle = min(max((box[1] + box[3] - tall) / 2, 2.0), self._height - tall - 2)
        under, over, right, left = box[3] + below, box[1] - tall - above, box[2] + below, box[0] - wide - below
        return [
            (x0, under), (x0, over), (right, middle), (left, middle),
            (right, box[3]), (left, box[3]), (right, box[1] - tall), (left, box[1] - tall),
            (x0, under + tall), (x0, over - tall),
        ]  # fmt: skip

    def _free(self, x: float, y: float, wide: float, tall: float) -> bool:
        if x < 0 or y < 0 or x + wide > self._width or y + tall > self._height:
            return False
        return not self._taken[self._squares(x, y, x + wide, y + tall)].any()

    def _squares(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
        """The squares that a box touches, of those on the picture."""
        (top, bottom), (left, right) = (
            (max(0, floor(low / self._square)), max(0, ceil(high / self._square))) for low, high in ((y0, y1), (x0, x1))
        )
        return slice(top, bottom), slice(left, right)
