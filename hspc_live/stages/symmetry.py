"""Which contrast an image was made with, read off its cells.

DIC shows the slope of the light path: what is bright on one flank of a cell is dark on the other, so a cell turned by
half a turn is its own negative. Brightfield shows rings: turned, they are themselves. Whichever most objects are more
like decides; size, texture, shear direction, gain and offset play no part.
"""

from __future__ import annotations

import cv2
import numpy as np

from hspc_live.core.values import Modality, Pixels
from hspc_live.stages.field import FieldResult, Reason

BETWEEN = -0.15  # a smooth phase object in DIC is near -1, texture pulls it to -0.3; rings are above 0


def symmetry(pixels: Pixels, result: FieldResult) -> float | None:
    """The median object's correlation with itself turned by half a turn, -1 to 1; None where there is no object.

    `pixels` is the image (height, width) that `result` was made of, whatever the modality that was assumed for it.
    """
    grey = float(np.median(pixels[::4, ::4]))
    objects = result.frame.objects
    boxes = [
        tuple(int(row[name]) for name in ("x0_px", "y0_px", "x1_px", "y1_px"))
        for row, reason in zip(objects, result.reasons, strict=True)
        if reason is not Reason.BORDER
    ]
    if not boxes:
        return None
    alike, energy = np.empty(len(boxes)), np.empty(len(boxes))
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        seen = cv2.blur(pixels[y0:y1, x0:x1].astype(np.float32), (3, 3)) - np.float32(grey)
        energy[i] = max(float((seen * seen).sum()), 1e-9)
        alike[i] = float((seen * seen[::-1, ::-1]).sum()) / energy[i]
    # each object weighs as much as it shows: specks and faint rings of dust have no say beside cells
    order = np.argsort(alike)
    share = np.cumsum(energy[order])
    return float(alike[order][np.searchsorted(share, share[-1] / 2)])


def modality_of(pixels: Pixels, result: FieldResult) -> Modality:
    """DIC or brightfield; DIC where nothing tells."""
    turned = symmetry(pixels, result)
    return Modality.BRIGHTFIELD if turned is not None and turned > BETWEEN else Modality.DIC
