"""Made cells that several test files film, each in its own light."""

from __future__ import annotations

import cv2
import numpy as np


def granular_globes(cells, shape, grain, rng):
    """What light passes through in a field (height, width) of globes (x, y, radius in px), by radius / 20 at most.

    `grain` is how much finer contents add to that.
    """
    ys, xs = np.indices(shape, dtype=np.float32)
    path = np.zeros(shape, np.float32)
    for x, y, radius in cells:
        inside = np.maximum(1 - ((xs - x) ** 2 + (ys - y) ** 2) / radius**2, 0)
        fine = cv2.GaussianBlur(rng.normal(0, 1, shape).astype(np.float32), (0, 0), 1.5)
        path += np.sqrt(inside) * radius / 20 + grain * fine * np.minimum(4 * inside, 1)
    return path
