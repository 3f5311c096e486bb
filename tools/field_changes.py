"""Changed copies of outlined frames, the truth changed with them: for `field_robustness.py`.

Turned, resized, darker, noisy, blurred, cut into windows; and composed anew, from cells cut out along their outlines
with a soft edge and put in new places of the frame's own empty field, apart or touching. Only cells with nothing near
them are cut out, without what they throw beyond their edge, so composed frames are a little kinder than real ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from field_score import IGNORED, Labels, at_border
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A field with its truth (0 = background, 65535 = counts neither way); `dic` None where nobody says."""

    name: str
    pixels: NDArray[Any]
    truth: Labels
    um_per_px: float
    dic: bool | None = None


def _light(frame: Frame, light: NDArray[Any]) -> Frame:
    return replace(frame, pixels=np.clip(np.rint(light), 0, 255).astype(np.uint8))


def _moved(frame: Frame, how: Callable[[NDArray[Any]], NDArray[Any]]) -> Frame:
    return replace(frame, pixels=np.ascontiguousarray(how(frame.pixels)), truth=np.ascontiguousarray(how(frame.truth)))


def _scaled(frame: Frame, by: float) -> Frame:
    way = cv2.INTER_AREA if by < 1 else cv2.INTER_CUBIC
    pixels = cv2.resize(frame.pixels, None, fx=by, fy=by, interpolation=way)
    truth = cv2.resize(frame.truth, pixels.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return replace(frame, pixels=pixels, truth=truth, um_per_px=frame.um_per_px / by)


def _noisy(frame: Frame, sd: float) -> Frame:
    return _light(frame, frame.pixels + _rng(frame).normal(0, sd, frame.pixels.shape))


def _uneven(frame: Frame, depth: float) -> Frame:
    height, width = frame.pixels.shape
    slope = np.add.outer(np.linspace(-1, 1, height), np.linspace(-1, 1, width))
    return _light(frame, frame.pixels * (1 + depth * slope))


def _quarters(frame: Frame) -> list[Frame]:
    y, x = (n // 2 for n in frame.pixels.shape)
    boxes = (np.s_[:y, :x], np.s_[:y, x:], np.s_[y:, :x], np.s_[y:, x:])
    return [replace(_window(frame, box), name=f"{frame.name}-{i}") for i, box in enumerate(boxes)]


def _window(frame: Frame, box: tuple[slice, slice]) -> Frame:
    return _moved(frame, lambda a: a[box])


def _around_a_cell(frame: Frame, edge: int) -> list[Frame]:
    """A window around a cell drawn by lot; none where the frame has no cell."""
    cells = np.unique(frame.truth)[1:]
    if not len(cells):
        return []
    ys, xs = np.nonzero(frame.truth == _rng(frame).choice(cells))
    y = int(np.clip(ys.mean() - edge / 2, 0, frame.truth.shape[0] - edge))
    x = int(np.clip(xs.mean() - edge / 2, 0, frame.truth.shape[1] - edge))
    return [_window(frame, np.s_[y : y + edge, x : x + edge])]


def _rng(frame: Frame) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(frame.name.encode()))


def composed(frame: Frame, cells: int, size: int) -> Frame:
    """`cells` cells of `frame`, drawn with replacement, in new places of its own empty field; all empty if it has none.

    `size` of them touch each other in a row. The empty field is the frame's, with what it shows in its outlines
    replaced by other places of it. A cell is what differs from the empty field, with an edge of 4 px that fades.
    """
    rng = _rng(frame)
    empty, truth = _emptied(frame, rng), np.zeros(frame.truth.shape, np.uint16)
    rest = np.zeros(frame.truth.shape, np.float32)
    weight = np.zeros_like(rest)
    shelf = _cut_out(frame)
    height, width = frame.pixels.shape
    placed = tries = 0
    while shelf and placed < cells and tries < 40 * cells:
        tries += 1
        spot = np.array([rng.uniform(0.06, 0.94) * width, rng.uniform(0.08, 0.92) * height])
        heading = rng.uniform(0, 2 * np.pi)
        row: list[tuple[NDArray[np.bool_], NDArray[np.float64]]] = []
        group = [shelf[int(rng.integers(len(shelf)))] for _ in range(min(size, cells - placed))]
        for k, (_, mask, _) in enumerate(group):
            if k:  # pushed outwards from the one before until they no longer overlap
                before, at = row[-1]
                for step in range(10, 120):
                    spot = at + step * np.array([np.cos(heading), np.sin(heading)])
                    if not _overlap(before, at, mask, spot):
                        break
                heading += rng.uniform(-0.8, 0.8)
            row.append((mask, spot))
        boxes = [_box(mask, at) for mask, at in row]
        if any(b[0] < 2 or b[1] < 2 or b[2] > height - 2 or b[3] > width - 2 for b in boxes):
            continue
        if any(truth[max(0, b[0] - 8) : b[2] + 8, max(0, b[1] - 8) : b[3] + 8].any() for b in boxes):
            continue
        if any(_overlap(row[i][0], row[i][1], row[j][0], row[j][1]) for i in range(len(row)) for j in range(i)):
            continue
        for (light, mask, alpha), (y0, x0, y1, x1) in zip(group, boxes, strict=True):
            placed += 1
            here = np.s_[y0:y1, x0:x1]
            stronger = alpha > weight[here]
            rest[here][stronger], weight[here][stronger] = light[stronger], alpha[stronger]
            truth[here][mask] = placed
    field_light = cv2.GaussianBlur(empty, (0, 0), 4)
    return replace(_light(frame, empty * (1 - weight) + (field_light + rest) * weight), truth=truth)


def _box(mask: NDArray[np.bool_], at: NDArray[np.float64]) -> tuple[int, int, int, int]:
    y, x = int(at[1]) - mask.shape[0] // 2, int(at[0]) - mask.shape[1] // 2
    return y, x, y + mask.shape[0], x + mask.shape[1]


def _overlap(a: NDArray[np.bool_], at: NDArray[np.float64], b: NDArray[np.bool_], to: NDArray[np.float64]) -> bool:
    (y0, x0, y1, x1), (v0, u0, v1, u1) = _box(a, at), _box(b, to)
    top, left, low, right = max(y0, v0), max(x0, u0), min(y1, v1), min(x1, u1)
    if top >= low or left >= right:
        return False
    return bool((a[top - y0 : low - y0, left - x0 : right - x0] & b[top - v0 : low - v0, left - u0 : right - u0]).any())


def _emptied(frame: Frame, rng: np.random.Generator) -> NDArray[np.float32]:
    taken = cv2.dilate((frame.truth > 0).astype(np.uint8), np.ones((17, 17), np.uint8))
    light, free = frame.pixels.astype(np.float32), (taken == 0).astype(np.float32)
    smooth = np.asarray(cv2.blur(light * free, (161, 161)) / np.maximum(cv2.blur(free, (161, 161)), 1e-3), np.float32)
    out = light.copy()
    _, _, boxes, _ = cv2.connectedComponentsWithStats(taken)
    for x, y, w, h, _ in boxes[1:]:
        for _ in range(200):
            v, u = int(rng.integers(0, light.shape[0] - h + 1)), int(rng.integers(0, light.shape[1] - w + 1))
            if not taken[v : v + h, u : u + w].any():
                break
        here, there = np.s_[y : y + h, x : x + w], np.s_[v : v + h, u : u + w]
        grain = np.where(taken[there] == 0, light[there] - smooth[there], 0.0)
        out[here] = np.where(taken[here] > 0, smooth[here] + grain, out[here])
    return out


def _cut_out(frame: Frame) -> list[tuple[NDArray[np.float32], NDArray[Any], NDArray[np.float32]]]:
    """(light less the empty field, mask, fading edge) of each cell that has no other near."""
    empty = cv2.GaussianBlur(_emptied(frame, _rng(frame)), (0, 0), 4)
    cuts: list[tuple[NDArray[np.float32], NDArray[Any], NDArray[np.float32]]] = []
    for number in set(np.unique(frame.truth).tolist()) - {0, IGNORED} - at_border(frame.truth, 12):
        mask = frame.truth == number
        x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
        here = np.s_[max(0, y - 10) : y + h + 10, max(0, x - 10) : x + w + 10]
        wide = cv2.dilate(mask[here].astype(np.uint8), np.ones((13, 13), np.uint8)) > 0
        if (wide & (frame.truth[here] > 0) & ~mask[here]).any():
            continue
        outside = cv2.distanceTransform((~mask[here]).astype(np.uint8), cv2.DIST_L2, 3)
        alpha = np.clip(1 - (outside - 3) / 4, 0, 1).astype(np.float32)
        cuts.append(((frame.pixels[here] - empty[here]).astype(np.float32), mask[here], alpha))
    return cuts


CHANGES: dict[str, Callable[[Frame], Frame | list[Frame]]] = {
    "as recorded": lambda f: f,
    "mirrored left to right": lambda f: _moved(f, np.fliplr),
    "mirrored top to bottom": lambda f: _moved(f, np.flipud),
    "turned by 90°": lambda f: _moved(f, np.rot90),
    "turned by 180°": lambda f: _moved(f, lambda a: np.rot90(a, 2)),
    "negative (shear reversed)": lambda f: _light(f, 2.0 * np.median(f.pixels) - f.pixels),
    "scale x 0.8": lambda f: _scaled(f, 0.8),
    "scale x 1.25": lambda f: _scaled(f, 1.25),
    "contrast x 0.5": lambda f: _light(f, np.median(f.pixels) + 0.5 * (f.pixels - np.median(f.pixels))),
    "gain x 0.5": lambda f: _light(f, 0.5 * f.pixels),
    "gain x 1.5": lambda f: _light(f, 1.5 * f.pixels),
    "gamma 0.7": lambda f: _light(f, 255 * (f.pixels / 255) ** 0.7),
    "gamma 1.4": lambda f: _light(f, 255 * (f.pixels / 255) ** 1.4),
    "noise sd 3": lambda f: _noisy(f, 3.0),
    "noise sd 6": lambda f: _noisy(f, 6.0),
    "blur 1 px": lambda f: _light(f, cv2.GaussianBlur(f.pixels, (0, 0), 1.0)),
    "blur 2 px": lambda f: _light(f, cv2.GaussianBlur(f.pixels, (0, 0), 2.0)),
    "light uneven by 40 %": lambda f: _uneven(f, 0.2),
    "16 bit": lambda f: replace(f, pixels=f.pixels.astype(np.uint16) * 16 + 7),
    "quarter frames": _quarters,
    "windows of 384 px": lambda f: _around_a_cell(f, 384),
    "10 cells in new places": lambda f: composed(f, 10, 1),
    "40 cells in new places": lambda f: composed(f, 40, 1),
    "10 touching pairs": lambda f: composed(f, 20, 2),
    "rows of three": lambda f: composed(f, 18, 3),
}
