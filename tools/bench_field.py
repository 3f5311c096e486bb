"""Segmentation of still DIC fields beside a plain scikit-image pipeline, in one run, one core.

    python tools/bench_field.py FRAMES_DIR [--first 21 --last 40] [--labels DIR]

FRAMES_DIR holds `choNN.png` (1032 × 1376, 0.25 µm/px). Both see the same frames in turn, so that what else runs on the
machine slows both. The peer is what one would write from scikit-image's examples: local standard deviation → Otsu →
closing, filling, opening, small objects away → watershed of the distance transform → region properties. With `--labels`
both write their label images, to be scored, to `DIR/ours` and `DIR/peer`. A field of 2048 × 2048 uint16 follows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import feature, filters, measure, morphology, segmentation

from hspc_live.core.crop import CropGeometry
from hspc_live.core.values import Modality, Pixels
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages.field import FieldSegmenter

UM_PER_PX = 0.25
WINDOW_PX = 7
SMALLEST_PX = 500
APART_PX = 20
DISC_PX = 5  # 3 is quicker, and finds and outlines the cells less well


def peer(pixels: Pixels) -> NDArray[np.int32]:
    """Label image by plain scikit-image; the region properties are made and dropped, as ours makes its rows."""
    image = pixels.astype(float)
    mean = ndimage.uniform_filter(image, WINDOW_PX)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(image * image, WINDOW_PX) - mean * mean, 0.0))
    mask = morphology.closing(spread > filters.threshold_otsu(spread), morphology.disk(DISC_PX))
    mask = morphology.opening(ndimage.binary_fill_holes(mask), morphology.disk(DISC_PX))
    mask = morphology.remove_small_objects(mask, max_size=SMALLEST_PX)
    distance = ndimage.distance_transform_edt(mask)
    smooth = ndimage.gaussian_filter(distance, 2)
    peaks = feature.peak_local_max(smooth, min_distance=APART_PX, labels=measure.label(mask))
    markers = np.zeros(pixels.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels: NDArray[np.int32] = segmentation.watershed(-distance, markers, mask=mask)
    measure.regionprops_table(labels, properties=("centroid", "area", "equivalent_diameter_area"))
    return labels


def spent(run: Callable[[Pixels], object], pixels: Pixels) -> tuple[float, float]:
    """CPU and wall milliseconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    run(pixels)
    return 1e3 * (time.process_time() - cpu), 1e3 * (time.perf_counter() - wall)


def large_field(seed: int) -> NDArray[np.uint16]:
    """2048 × 2048 uint16 of 12 bits with 100 round DIC phase objects of 8 to 14 µm, noise and a slope."""
    rng = np.random.default_rng(seed)
    light = np.tile(np.linspace(1700, 2100, 2048, dtype=np.float32), (2048, 1))
    for i in range(100):
        radius = rng.uniform(16, 28)
        x, y = 100 + 200 * (i % 10) + rng.uniform(-60, 60), 100 + 200 * (i // 10) + rng.uniform(-60, 60)
        x0, y0 = int(x) - 40, int(y) - 40
        ys, xs = np.mgrid[y0 : y0 + 80, x0 : x0 + 80].astype(np.float32)
        depth = np.sqrt(np.maximum(1 - ((xs - x) ** 2 + (ys - y) ** 2) / radius**2, 0)) * radius
        slope = np.gradient(depth, axis=0) + np.gradient(depth, axis=1)
        seen = light[max(0, y0) : y0 + 80, max(0, x0) : x0 + 80]
        seen += 150 * cv2.GaussianBlur(slope, (0, 0), 1.2)[-seen.shape[0] :, -seen.shape[1] :]
    return np.clip(np.rint(light + rng.normal(0, 15, light.shape)), 0, 4095).astype(np.uint16)


def show(name: str, times: list[tuple[float, float]]) -> float:
    """Print median and spread of one kind of run; returns the median CPU time."""
    cpu, wall = np.array(times).T
    low, middle, high = np.quantile(cpu, (0.1, 0.5, 0.9))
    print(
        f"{name:34s} CPU {middle:8.2f} ms (10 to 90 %: {low:.2f} to {high:.2f}), wall {np.median(wall):8.2f} ms, "
        f"n = {len(times)}"
    )
    return float(middle)


def main() -> None:
    """Time both on every frame, ours five times for each of the peer's runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--first", type=int, default=21)
    parser.add_argument("--last", type=int, default=40)
    parser.add_argument("--labels", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    settings = SegmentSettings(max_diameter_um=16.0, max_objects=5000)
    ours = FieldSegmenter(settings, UM_PER_PX, Modality.DIC, CropGeometry())
    fast: list[tuple[float, float]] = []
    slow: list[tuple[float, float]] = []
    for number in range(arguments.first, arguments.last + 1):
        pixels = cv2.imread(str(arguments.frames / f"cho{number}.png"), cv2.IMREAD_UNCHANGED)
        if number == arguments.first:
            ours.field(pixels)
        slow.append(spent(peer, pixels))
        fast += [spent(ours.field, pixels) for _ in range(5)]
        if arguments.labels is not None:
            for name, labels in (("ours", ours.field(pixels).labels), ("peer", peer(pixels).astype(np.uint16))):
                (arguments.labels / name).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(arguments.labels / name / f"cho{number}.png"), labels)
    ratio = show("scikit-image, 1032 × 1376 uint8", slow) / show("ours, 1032 × 1376 uint8", fast)
    print(f"ours is {ratio:.0f} times as fast (CPU medians)")
    large = large_field(0)
    result = ours.field(large)
    show(f"ours, 2048 × 2048 uint16, {int(result.whole.sum())} cells", [spent(ours.field, large) for _ in range(20)])


if __name__ == "__main__":
    main()
