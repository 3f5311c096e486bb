"""What lies close beside the cells of a still field: debris too small for a body, in the same region as one.

Where a region falls apart under the rising bar (`body`), what is smaller than the smallest body is dropped, as are the
crumbs of a cell's own light; and what nearly touches a cell is bridged to it. Debris of 2 to 3 µm goes both ways, and
the cell's crop shows it. So once the outlines are drawn, what a region shows outside them is looked through again.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from hspc_live.core.crop import Light
from hspc_live.stages.foreground import Mask, Outline, contours, square
from hspc_live.stages.piece import Piece

KNOB_UM = 3.5  # what sits on an outline and is narrower is looked at as if it lay outside
FRINGE_UM = 1.0  # from there on; nearer, what shows is still the light of the cell itself
THIN_UM = 1.5  # what is nowhere as thick is a ruffle of the cell
SHARE = 0.36  # of the highest level in the region: less is fringe, as `body.FAINT` for what stands by itself


def beside(region: Piece, strength: Light, level: float, taken: Mask, step: int, um_per_px: float) -> list[Outline]:
    """The outlines (n, 1, 2) of what a region shows beside what was found in it, in pixels of the coarse picture.

    `strength` is what each coarse pixel shows, `level` the highest level of what was found in the region. `taken` (0/1)
    covers what was found, at the camera's scale: `step` of its pixels to a coarse one of `um_per_px`.
    """
    rows, columns = region.here
    own = taken[rows.start * step : rows.stop * step : step, columns.start * step : columns.stop * step : step].copy()
    # what is narrow at the picture's border may be the end of a cell
    cut = min(region.x, region.y) == 0 or rows.stop == strength.shape[0] or columns.stop == strength.shape[1]
    core = own if cut else cv2.morphologyEx(own, cv2.MORPH_OPEN, square(max(1, round(KNOB_UM / um_per_px))))
    near = cv2.dilate(core, square(2 * max(1, round(FRINGE_UM / um_per_px)) + 1))
    shows = (strength[region.here] > SHARE * level).view(np.uint8)
    strong = cv2.bitwise_and(shows, region.mask, mask=1 - near)
    if cv2.countNonZero(strong):
        strong = cv2.morphologyEx(strong, cv2.MORPH_OPEN, square(math.ceil(THIN_UM / um_per_px)))
    if not cv2.countNonZero(strong):  # most often
        return []
    count, labels = cv2.connectedComponents(own)
    narrow = np.ones(count, np.uint8)  # all through: no knob on anything, and found already
    narrow[labels[core > 0]] = 0
    narrow[0] = 0
    strong = cv2.bitwise_and(strong, 1 - narrow[labels])
    corner = np.array([region.x, region.y], np.int32)
    return [outline + corner for outline in contours(np.asarray(strong, np.uint8), every_pixel=False)]
