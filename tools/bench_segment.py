"""Times segmentation and the background on synthetic frames, one core: `python tools/bench_segment.py`.

Cells are round DIC phase objects on a noisy field, drawn here, so that the figures do not depend on the twin.
"""

from __future__ import annotations

import argparse
import time

import cv2
import numpy as np

from hspc_live.core.crop import CropGeometry, cut
from hspc_live.core.values import Modality
from hspc_live.settings.segment import BackgroundSettings, SegmentSettings
from hspc_live.stages.background import Background, noise_sd
from hspc_live.stages.segment import Segmenter

UM_PER_PX = {80: 0.34, 256: 0.25}  # by the frame's height


def frame(height: int, width: int, cells: int, modality: Modality, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame with `cells` cells in a row and the noiseless field, both uint8."""
    rng = np.random.default_rng(seed)
    radius = 4.0 / UM_PER_PX[height]
    ys, xs = np.indices((height, width), dtype=np.float32)
    light = np.full((height, width), 128.0, np.float32)
    for x in (np.arange(cells) + 0.5) * width / max(1, cells):
        depth = np.maximum(1.0 - ((xs - x) ** 2 + (ys - height / 2 + rng.uniform(-2, 2)) ** 2) / radius**2, 0.0) ** 0.5
        shown = -0.7 * np.minimum(2 * depth, 1.0)
        if modality is Modality.DIC:
            shown = 3.0 * (np.diff(depth, axis=1, prepend=0) + np.diff(depth, axis=0, prepend=0))
        light += 40.0 * cv2.GaussianBlur(shown, (0, 0), 1)
    noisy = np.clip(np.rint(light + rng.normal(0, 1.5, light.shape)), 0, 255).astype(np.uint8)
    return noisy, np.full((height, width), 128, np.uint8)


def main() -> None:
    """Print milliseconds per frame: median and 99th percentile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    count = parser.parse_args().frames
    cv2.setNumThreads(1)
    for height, width, cells in ((80, 320, 5), (80, 320, 0), (256, 1024, 3), (256, 1024, 0)):
        for modality in Modality:
            pictures = [frame(height, width, cells, modality, seed) for seed in range(8)]
            segment = Segmenter(SegmentSettings(), UM_PER_PX[height], modality, CropGeometry())
            noise = [noise_sd(*picture) for picture in pictures]
            found = segment(0, 0, *pictures[0], 1, noise[0]).objects
            taken = []
            for i in range(count):
                pixels, field = pictures[i % 8]
                began = time.perf_counter()
                segment(i, i, pixels, field, 1, noise[i % 8])
                taken.append(1e3 * (time.perf_counter() - began))
            print(
                f"segment {height} x {width}, {modality}, {len(found)} objects "
                f"({int((found['reject'] == 0).sum())} views): "
                f"{np.median(taken):.3f} ms, p99 {np.quantile(taken, 0.99):.3f} ms"
            )
        background = Background(BackgroundSettings(), (height, width), np.dtype(np.uint8))
        background.update(pictures[0][0], 0)
        began = time.perf_counter()
        for i in range(1, count + 1):
            background.update(pictures[i % 8][0], i * 10_000_000)
        spent_ms = 1e3 * (time.perf_counter() - began)
        print(f"background {height} x {width}: {spent_ms / count:.3f} ms a frame, at 100 frames/s")
    pixels, field = frame(256, 1024, 3, Modality.DIC, 0)
    began = time.perf_counter()
    for _ in range(2000):
        cut(pixels, field, 170.3, 128.2, 0.25, CropGeometry())
    print(f"crop: {1e6 * (time.perf_counter() - began) / 2000:.1f} us")


if __name__ == "__main__":
    main()
