"""Pictures for measurements, drawn here so that the figures do not depend on the twin: round DIC or brightfield cells.

Noise is part of them: segmentation works on it, and a compressor spends most of its bits on it.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.values import Modality

GREY: Final = 128
NOISE_SD: Final = 1.5
RADIUS_UM: Final = 4.0
GRAINS: Final = 0.1  # of a cell's thickness: without granules a cell in DIC is two flanks and nothing between


def flow_frame(
    height: int, width: int, um_per_px: float, cells: int, modality: Modality, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A frame with `cells` cells in a row, and the field without cells and noise, both (height, width)."""
    rng = np.random.default_rng(seed)
    radius = RADIUS_UM / um_per_px
    ys, xs = np.indices((height, width), dtype=np.float32)
    light = np.full((height, width), GREY, np.float32)
    for x in (np.arange(cells) + 0.5) * width / max(1, cells):
        depth = np.maximum(1.0 - ((xs - x) ** 2 + (ys - height / 2 + rng.uniform(-2, 2)) ** 2) / radius**2, 0.0) ** 0.5
        shown = -0.7 * np.minimum(2 * depth, 1.0)
        if modality is Modality.DIC:
            shown = 3.0 * (np.diff(depth, axis=1, prepend=0) + np.diff(depth, axis=0, prepend=0))
        light += 40.0 * cv2.GaussianBlur(shown, (0, 0), 1)
    noisy = np.clip(np.rint(light + rng.normal(0, NOISE_SD, light.shape)), 0, 255).astype(np.uint8)
    return noisy, np.full((height, width), GREY, np.uint8)


def still_field(edge: int, seed: int) -> NDArray[np.uint16]:
    """(edge, edge) of 12 bits with round granular DIC cells of 8 to 14 µm at 0.25 µm/px, one to 200 × 200 px."""
    rng = np.random.default_rng(seed)
    light = np.tile(np.linspace(1700, 2100, edge, dtype=np.float32), (edge, 1))
    rows = edge // 200
    for i in range(rows * rows):
        radius = rng.uniform(16, 28)
        x, y = 100 + 200 * (i % rows) + rng.uniform(-60, 60), 100 + 200 * (i // rows) + rng.uniform(-60, 60)
        x0, y0 = int(x) - 40, int(y) - 40
        ys, xs = np.mgrid[y0 : y0 + 80, x0 : x0 + 80].astype(np.float32)
        depth = np.sqrt(np.maximum(1 - ((xs - x) ** 2 + (ys - y) ** 2) / radius**2, 0)) * radius
        grains = cv2.GaussianBlur(rng.normal(0, 1, depth.shape).astype(np.float32), (0, 0), 1.5)
        depth *= 1 + GRAINS * grains / grains.std()
        slope = np.gradient(depth, axis=0) + np.gradient(depth, axis=1)
        seen = light[max(0, y0) : y0 + 80, max(0, x0) : x0 + 80]
        seen += 150 * cv2.GaussianBlur(slope, (0, 0), 1.2)[-seen.shape[0] :, -seen.shape[1] :]
    return np.clip(np.rint(light + rng.normal(0, 15, light.shape)), 0, 4095).astype(np.uint16)
