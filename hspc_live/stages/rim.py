"""The edge of a body, drawn at full scale where its own rim falls off.

A body comes as a rough closed line (`body`). Its low harmonics make a smooth line, across which the picture is sampled
along normals. The edge on each normal is the outermost place where what shows is still half of what it reaches close
by: for a blurred step that is its place, whatever gain, contrast and what lies further inside. DIC shows next to
nothing where an outline runs along the shear axis, so each place speaks for its neighbours, with a weight that grows
with what it shows. Nothing here has levels to jump between: a little more light moves an edge a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.crop import Light
from hspc_live.core.values import Modality
from hspc_live.stages.body import Body
from hspc_live.stages.foreground import HALO_UM, REACH_UM, Outline
from hspc_live.stages.shape import RIM_UM
from hspc_live.stages.still import Still

HALF = 0.5  # where a blurred step lies, as a share of its height
SHARE = 0.3  # of the body's level: what shows less is fringe, not rim
INWARD_UM = 1.5  # how far from the rough line the edge is looked for; the rough line lies outside
OUTWARD_UM = 1.0
STEP_UM = 0.125
POINTS = 64  # normals of one outline
HARMONICS = 5  # of the rough line: a spike narrower than about a tenth of the outline is not followed
SIGMA_UM = 0.2  # smoothing of the picture: less than its resolution, so edges stay where they are
ALONG_UM = 0.6  # smoothing along the outline, as a standard deviation
PRIOR = 0.05  # weight of the outline's mean offset, where nothing shows

NO_MAP: Any = None  # for `cv2.remap`: x and y lie in one array

Complex = NDArray[np.complex128]
Real = NDArray[np.float32]


def draw(
    still: Still, bodies: Sequence[Body], floor: float, um_per_px: float, modality: Modality, crop_px: int = 0
) -> list[Outline]:
    """The outlines of `bodies` at full scale, (n, 1, 2) int32 of (x, y), each a body's outermost own pixels.

    What shows less than `floor` counts is no edge. The light around the bodies is made in `still` on the way, as far as
    measuring their sharpness needs it, and `crop_px` coarse pixels around the middle. An outline of a body that reaches
    beyond the picture runs along its border.
    """
    if not bodies:
        return []
    step = still.step
    lines, normals = _smooth_lines([body.outline for body in bodies], step)
    offsets = np.arange(-INWARD_UM, OUTWARD_UM + STEP_UM / 2, STEP_UM) / um_per_px
    # places on the normals of all outlines, from the inside outwards: whatever is done along normals is then done to
    # long rows
    places = (lines + normals * offsets[:, None, None]).astype(np.complex64)
    profiles = np.empty(places.shape, np.float32)
    strange = np.zeros(places.shape, bool)
    margin = int(np.ceil((OUTWARD_UM + 2 * RIM_UM) / um_per_px / step)) + 1
    boxes = np.array([cv2.boundingRect(body.outline) for body in bodies])
    corners = np.maximum(boxes[:, :2] - margin, 0).astype(np.float32).view(np.complex64)
    places -= corners * np.complex64(step)
    maps = places.view(np.float32).reshape(*places.shape, 2)
    beside = _beside(boxes, margin)
    owner = np.zeros(still.coarse.shape, np.uint16)
    for number, body in enumerate(bodies, start=1):
        if beside[number - 1]:
            cv2.fillPoly(owner, [body.outline], number)
    for i, (left, top, width, height) in enumerate(boxes.tolist()):
        x0, y0 = max(0, left - margin), max(0, top - margin)
        x1, y1 = left + width + margin, top + height + margin
        x, y = left + width // 2, top + height // 2
        still.shown(min(x0, x - crop_px), min(y0, y - crop_px), max(x1, x + crop_px), max(y1, y + crop_px))
        light = still.light[y0 * step : y1 * step, x0 * step : x1 * step]
        blurred = cv2.GaussianBlur(light, (0, 0), SIGMA_UM / um_per_px, borderType=cv2.BORDER_REPLICATE)
        # beyond the picture nothing shows: there an outline ends
        cv2.remap(blurred, maps[:, i], NO_MAP, cv2.INTER_LINEAR, profiles[:, i], borderValue=(still.grey,))
        near = owner[y0:y1, x0:x1]
        if beside[i] and np.any((near > 0) & (near != i + 1)):
            coarse = maps[:, i] * np.float32(1 / step) - np.float32((step - 1) / 2 / step)
            whose = cv2.remap(near, coarse, NO_MAP, cv2.INTER_NEAREST)
            strange[:, i] = (whose > 0) & (whose != i + 1)
    profiles -= np.float32(still.grey)
    level = np.array([body.level for body in bodies], np.float32)
    offset, weight = _edges(profiles, strange, np.maximum(floor, SHARE * level), level, modality)
    spacing_um = np.abs(np.diff(lines, axis=1)).mean(axis=1) * um_per_px
    # pixels whose middle is inside, and an outline runs through the middles of the outermost: half a pixel within
    drawn = lines + normals * (_smoothed(offset, weight, spacing_um) / um_per_px - 0.5)
    last = np.array([still.light.shape[1] - 1, still.light.shape[0] - 1])
    points = np.clip(np.rint(np.stack((drawn.real, drawn.imag), axis=-1)), 0, last).astype(np.int32)
    return [cast("Outline", one[:, None]) for one in points]


def _beside(boxes: NDArray[np.intp], margin: int) -> NDArray[np.bool_]:
    """Which of some boxes (n, 4; x, y, width, height) have another within `margin`, or are so near to another."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    near = np.ones((len(boxes), len(boxes)), bool)
    for axis in (0, 1):
        near &= low[:, axis] < high[:, axis, None] + margin
        near &= high[:, axis] > low[:, axis, None] - margin
    return cast("NDArray[np.bool_]", near.sum(axis=1) > 1)


def _smooth_lines(outlines: list[Outline], step: int) -> tuple[Complex, Complex]:
    """The low harmonics of closed outlines (x + iy), and the outward normals on them, both (n, `POINTS`).

    The outlines are those of coarse pixels, of `step` of the camera's; the lines are in pixels of the camera.
    """
    # one after the other as one long line: what leads from one to the next is never asked for
    closed = np.concatenate([part for outline in outlines for part in (outline, outline[:1])]).astype(np.float64)
    closed = (closed * step + (step - 1) / 2).view(complex)[:, 0, 0]
    ends = np.cumsum([len(outline) + 1 for outline in outlines]) - 1
    along = np.concatenate(([0.0], np.cumsum(np.abs(np.diff(closed)))))
    begin = along[np.concatenate(([0], ends[:-1] + 1))][:, None]
    even = np.interp(begin + np.arange(POINTS) * ((along[ends][:, None] - begin) / POINTS), along, closed)
    order = np.fft.fftfreq(POINTS, 1 / POINTS)
    waves = np.fft.fft(even) * (np.abs(order) <= HARMONICS)
    lines, tangents = np.fft.ifft(waves), np.fft.ifft(1j * order * waves)
    turn = np.sign((lines.conj() * tangents).imag.sum(axis=1, keepdims=True))  # an outline may run either way
    return lines, -1j * turn * tangents / np.maximum(np.abs(tangents), 1e-9)


def _edges(
    profiles: Real, strange: NDArray[np.bool_], least: Real, level: Real, modality: Modality
) -> tuple[Real, Real]:
    """Where the edge lies on each normal, µm outwards of the line, and the weight it has, both (n, `POINTS`).

    `profiles` (places, n, `POINTS`) are the light around 0; where `strange` it belongs to another body. `least` (n,) is
    what an edge has to show, `level` (n,) what the body does.
    """
    shown = np.abs(profiles)
    if modality is Modality.BRIGHTFIELD:  # as `body.strength_of`, along the normals
        bright = np.where(2 * profiles >= _highest(shown, HALO_UM), profiles, 0)
        shown = np.maximum(bright, -profiles)
    if strange.any():
        shown[strange] = 0
    ridge = _highest(shown, REACH_UM)
    over = shown - np.maximum(_rise(shown, modality) * ridge, least[:, None])
    count = len(shown)
    number = np.arange(1, count + 1, dtype=np.uint8)[:, None, None]
    last = (number * (over >= 0)).max(axis=0).astype(np.intp) - 1  # -1 where there is none
    normals = np.arange(last.size).reshape(last.shape)
    at = np.maximum(last, 0) * last.size + normals
    after = np.where(last + 1 < count, at + last.size, at)
    here, there, height = over.take(at), over.take(after), ridge.take(at)
    beyond = np.where(there < 0, here / np.maximum(here - there, 1e-9), 0)
    weight = np.where(last >= 0, np.minimum(height / level[:, None], 2) ** 2, 0)
    return (last + beyond) * STEP_UM - INWARD_UM, weight


def _rise(shown: Real, modality: Modality) -> Real | float:
    """Where the edge lies, as a share of the ridge.

    In brightfield a cell that absorbs is dark throughout, and its edge a step. One that is dark only along its outline
    bends light: that dark line is a fringe of the edge itself, on one side of it or the other as the focus lies, so the
    edge is taken to be where it is darkest.
    """
    if modality is Modality.DIC:
        return HALF
    inner = shown[: round(0.5 / STEP_UM)].mean(axis=(0, 2))
    crest = shown.max(axis=0).mean(axis=1)
    full = np.clip(inner / np.maximum(crest, 1e-9), 0, 1)
    return cast("Real", np.minimum(1 - (1 - HALF) * full, 0.95)[:, None])


def _highest(values: Real, reach_um: float) -> Real:
    """The highest of `values` (places, n, points) within reach along each normal."""
    width = 2 * round(reach_um / STEP_UM) + 1
    flat = values.reshape(len(values), -1)
    return cast("Light", cv2.dilate(flat, np.ones((width, 1), np.uint8))).reshape(values.shape)


def _smoothed(offset: Real, weight: Real, spacing_um: NDArray[np.float64]) -> NDArray[np.float64]:
    """`offset` (n, `POINTS`) averaged along its closed line, each place by its `weight`."""
    frequency = 2 * np.pi * np.fft.rfftfreq(POINTS) * (ALONG_UM / spacing_um[:, None])
    both = np.stack((weight * offset, weight))
    mean = both[0].sum(axis=1, keepdims=True) / np.maximum(both[1].sum(axis=1, keepdims=True), 1e-9)
    sums, weights = np.fft.irfft(np.fft.rfft(both) * np.exp(-0.5 * frequency**2), POINTS)
    return np.asarray((sums + PRIOR * mean) / (np.maximum(weights, 0) + PRIOR))
