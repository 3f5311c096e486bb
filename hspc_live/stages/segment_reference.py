"""Segmentation once more, in plain scikit-image and SciPy: slow, readable, and what `segment` is held to by a test.

Written from the definitions in the docstrings of `segment`, `foreground` and `split`, whole-image operations
throughout. Lengths and levels are the constants of those modules; no code is shared with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import skimage.measure
import skimage.morphology
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from hspc_live.core.crop import CropGeometry
from hspc_live.core.values import Detection, Modality, Pixels, Reject
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages.foreground import RISE, WEAK, Scale
from hspc_live.stages.segment import SUSPECT
from hspc_live.stages.shape import FINE_UM, RIM_UM
from hspc_live.stages.split import NECK, SMALLEST_PEAK

measure: Any = skimage.measure  # most of scikit-image is not annotated
morphology: Any = skimage.morphology
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A detection and its mask, (height, width) of the frame."""

    detection: Detection
    mask: Bools


def find(
    pixels: Pixels,
    background: Pixels,
    noise_sd: float,
    settings: SegmentSettings,
    um_per_px: float,
    modality: Modality,
    geometry: CropGeometry,
) -> list[Found]:
    """The objects of one frame, ordered by (x, y). No cap, no frame-level alarms; arguments as for
    `segment.Segmenter`.
    """
    scale = Scale.of(um_per_px, modality)
    active = _activity(pixels.astype(float), background.astype(float), noise_sd, scale, modality)
    outer = _detect(active, settings.noise_factor, scale)
    outer = [piece for piece in outer if piece.sum() >= scale.smallest_px]
    smallest_cell = np.pi / 4 * (settings.min_diameter_um / um_per_px) ** 2
    if not outer:
        return []
    trimmed = _trimmed(active, outer, scale, modality)
    signal = trimmed & (active > WEAK * settings.noise_factor)
    items: list[_Item] = []
    for piece in outer:
        match modality:
            case Modality.DIC:
                items += _cells(piece, trimmed, signal, settings, smallest_cell, scale.bridge_px)
            case Modality.BRIGHTFIELD:
                for part in _whole(piece & trimmed, scale.smallest_px, smallest_cell):
                    items += _cells(part, None, None, settings, smallest_cell, scale.bridge_px)
    everything = np.sum([item.shape for item in items], axis=0) > 0
    found = []
    for item in items:
        others = everything & ~item.shape
        found.append(
            Found(_judge(item, others, pixels, background, noise_sd, settings, um_per_px, geometry), item.shape)
        )
    return sorted(found, key=lambda item: (item.detection.x_um, item.detection.y_um))


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    """`shape`: what is taken for the object; `solidity`: of its outline; `cells`: in it, where not parted."""

    shape: Bools
    solidity: float
    cells: int = 1

    @staticmethod
    def of(body: Bools, signal: Bools | None) -> _Item:
        if signal is None:
            return _Item(body, _solidity(body))
        inside = body & signal
        return _Item(morphology.convex_hull_image(inside if inside.any() else body, offset_coordinates=False), 1.0)


def _activity(frame: Floats, still: Floats, noise_sd: float, scale: Scale, modality: Modality) -> Floats:
    step = max(1, round((frame.size / 2048) ** 0.5))
    sample, sample_still = frame[::step, ::step], still[::step, ::step]
    rest = sample - sample_still
    near = np.abs(rest - np.sort(rest, axis=None)[rest.size // 2]) <= 3.0 * noise_sd + 1.0
    gain = sample[near].sum() / sample_still[near].sum()
    smooth: Floats = ndimage.uniform_filter(
        (frame - gain * still) * scale.smooth_px / noise_sd, scale.smooth_px, mode="mirror"
    )
    distance = np.abs(smooth)
    if modality is Modality.DIC:
        return distance
    fringe = (smooth > 0) & (distance < 0.5 * ndimage.maximum_filter(distance, scale.halo_px))
    return np.where(fringe, 0.0, distance)


def _pieces(mask: Bools) -> list[Bools]:
    """Connected pieces, diagonals included, holes filled; a piece inside a hole of another belongs to it."""
    filled = ndimage.binary_fill_holes(mask)
    labels = measure.label(filled, connectivity=2)
    return [labels == number for number in range(1, labels.max() + 1)]


def _detect(active: Floats, threshold: float, scale: Scale) -> list[Bools]:
    strong = active > threshold
    beside = morphology.dilation(strong, np.ones((scale.smooth_px + 2,) * 2), mode="ignore")
    weak = beside & (active > WEAK * threshold)
    return _pieces(morphology.closing(weak, np.ones((scale.bridge_px,) * 2), mode="ignore"))


def _trimmed(active: Floats, outer: list[Bools], scale: Scale, modality: Modality) -> Bools:
    """The pieces without their fringes; specks as they are."""
    filled = np.sum(outer, axis=0) > 0
    specks = np.sum([piece for piece in outer if piece.sum() < scale.speck_px], axis=0) > 0
    near = ndimage.maximum_filter(active, scale.reach_px)
    core = morphology.erosion(filled, np.ones((scale.depth_px,) * 2), mode="ignore")
    kept: Bools = (filled & (core | (active >= RISE[modality] * near))) | specks
    return kept


def _whole(trimmed: Bools, smallest: float, smallest_cell: float) -> list[Bools]:
    """What trimming left of one piece: the largest part, and others that are as large as a cell and beside it."""
    kept: list[Bools] = []
    for part in sorted(_pieces(trimmed), key=np.sum, reverse=True):
        if not kept and part.sum() >= smallest:
            kept.append(part)
        elif kept and part.sum() >= smallest_cell and not any(_within(part, other) for other in kept):
            kept.append(part)
    return kept


def _within(part: Bools, other: Bools) -> bool:
    """Whether the middle of `part`'s bounding box lies in the convex hull of `other`."""
    at = np.argwhere(part)
    try:
        hull = ConvexHull(np.argwhere(other))
    except QhullError:  # a line of pixels
        return False
    return bool(np.all(hull.equations @ [*((at.min(axis=0) + at.max(axis=0)) / 2), 1.0] <= 1e-9))


def _hull(mask: Bools) -> tuple[float, float]:
    """Area and perimeter of the convex hull of the pixels' centres (0, 0 for a line of pixels)."""
    try:
        hull = ConvexHull(np.argwhere(mask))
    except QhullError:
        return 0.0, 0.0
    return float(hull.volume), float(hull.area)  # SciPy's names are those of three dimensions


def _solidity(body: Bools) -> float:
    """Area of the outline through pixel centres over that of its convex hull."""
    hull_area, _ = _hull(body)
    boundary = body & ~ndimage.binary_erosion(body)
    polygon = body.sum() - boundary.sum() / 2 - 1  # Pick's theorem
    return float(polygon / hull_area) if hull_area > 0 else 1.0


def _deformation(shape: Bools) -> float:
    hull_area, perimeter = _hull(shape)
    return float(1.0 - 2.0 * np.sqrt(np.pi * hull_area) / perimeter) if perimeter > 0 else 0.0


def _cells(
    body: Bools,
    trimmed: Bools | None,
    signal: Bools | None,
    settings: SegmentSettings,
    smallest: float,
    bridge_px: int,
) -> list[_Item]:
    """The object inside an outline, or the touching cells that it was parted into."""
    item = _Item.of(body, signal)
    compact = _deformation(item.shape) < SUSPECT and item.solidity >= settings.min_solidity
    if compact or item.shape.sum() < smallest:
        return [item]
    joint = body
    if trimmed is not None and (body & trimmed).any():
        padded = np.pad(body & trimmed, bridge_px)
        closed = morphology.closing(padded, morphology.disk(bridge_px // 2), mode="ignore")
        joint = ndimage.binary_fill_holes(closed)[bridge_px:-bridge_px, bridge_px:-bridge_px]
    distance = ndimage.distance_transform_edt(np.pad(joint, 1))[1:-1, 1:-1]
    reach = 2 * max(1, round(SMALLEST_PEAK * distance.max())) + 1
    summit = (distance == ndimage.maximum_filter(distance, reach)) & (distance > SMALLEST_PEAK * distance.max())
    peaks: list[tuple[int, int]] = []
    for y, x in sorted(map(tuple, np.argwhere(summit)), key=lambda at: -distance[at]):
        if all(_line_minimum(distance, (y, x), p) < NECK * min(distance[y, x], distance[p]) for p in peaks):
            peaks.append((y, x))
    joined = _Item(item.shape, item.solidity, len(peaks))
    if len(peaks) == 1 or not settings.split_touching:
        return [joined]
    ys, xs = np.indices(body.shape)
    owner = np.argmin([(ys - y) ** 2 + (xs - x) ** 2 - distance[y, x] ** 2 for y, x in peaks], axis=0)
    shares = [_pieces(joint & (owner == i)) for i in range(len(peaks))]
    parts = [_Item.of(max(share, key=np.sum), signal) for share in shares if share]
    pass_for_cells = all(
        part.shape.sum() >= smallest and _deformation(part.shape) <= settings.max_deformation for part in parts
    )
    return parts if pass_for_cells else [joined]


def _line_minimum(distance: Floats, a: tuple[int, int], b: tuple[int, int]) -> float:
    return float(measure.profile_line(distance, a, b, order=0, mode="nearest").min())


def _judge(
    item: _Item,
    others: Bools,
    pixels: Pixels,
    background: Pixels,
    noise_sd: float,
    settings: SegmentSettings,
    um_per_px: float,
    geometry: CropGeometry,
) -> Detection:
    shape = item.shape
    ys, xs = np.nonzero(shape)
    height, width = shape.shape
    x, y, area = xs.mean(), ys.mean(), len(xs)
    x0, y0, x1, y1 = int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1
    diameter = 2.0 * np.sqrt(area / np.pi) * um_per_px
    deformation = _deformation(shape)
    values = pixels[shape]
    depth = 8 if pixels.dtype == np.uint8 else next(bits for bits in (8, 10, 12, 14, 16) if pixels.max() < 2**bits)
    saturated = np.mean((values == 2**depth - 1) | (values == 0))
    rim = round(RIM_UM / um_per_px)
    window = np.s_[max(0, y0 - rim) : y1 + rim, max(0, x0 - rim) : x1 + rim]
    rest = pixels[window].astype(float) - background[window]
    square = 2 * max(1, round((FINE_UM / um_per_px - 1) / 2)) + 1
    fine = np.var(rest - ndimage.uniform_filter(rest, square, mode="nearest")) - (1 - 1 / square**2) * noise_sd**2
    whole = np.var(rest) - noise_sd**2
    sharp = max(0.0, float(fine / whole)) if whole > 0 else 0.0
    half = geometry.width_um / um_per_px / 2
    rows, columns = np.indices(shape.shape)
    crowded = np.any(others & (np.abs(columns - x) <= half) & (np.abs(rows - y) <= half))
    leaves = x < half - 0.5 or y < half - 0.5 or x > width - 0.5 - half or y > height - 0.5 - half
    joined = item.cells > 1 or item.solidity < settings.min_solidity or deformation > settings.max_deformation
    reasons = {
        Reject.BORDER: x0 == 0 or y0 == 0 or x1 == width or y1 == height,
        Reject.DEBRIS: diameter < settings.min_diameter_um,
        Reject.CLUSTER: joined or diameter > settings.max_diameter_um,
        Reject.NOT_UNIQUE: crowded,
        Reject.SATURATED: saturated > settings.max_saturated,
        Reject.BLURRED: sharp < settings.min_sharpness,
        Reject.UNCROPPABLE: leaves,
    }
    reject = next((reason for reason, holds in reasons.items() if holds), Reject.ACCEPTED)
    return Detection(
        float(x * um_per_px),
        float(y * um_per_px),
        area * um_per_px**2,
        float(diameter),
        deformation,
        float(values.mean()),
        float(values.std()),
        sharp,
        x0,
        y0,
        x1,
        y1,
        int(reject),
    )
