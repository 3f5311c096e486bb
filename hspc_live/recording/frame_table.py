"""Which frames a recording holds: number, time and the row that shows each, in capture order.

Ours: `/hspc/frames` says it. RT-DC: `/events` has a row per cell, so a frame with several cells is there several times
and one without any not at all; its frames are the unique numbers in `events/frame`. Times are nanoseconds since the
first frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.clock import NS_PER_S
from hspc_live.core.errors import RecordingError
from hspc_live.core.values import CameraInfo
from hspc_live.recording.recover import Source

DEFAULT_FRAMES_PER_S: Final = 2000.0
"""Taken, and said, for an RT-DC file with neither times nor a frame rate: the customary rate of these cameras."""

MAX_PIXELS: Final = 1 << 27


def _no_numbers() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(slots=True, eq=False)
class FrameTable:
    """The frames of one file. `row` is where `images` (and `backgrounds`) show the frame; both None where not kept.

    `again` are the other rows that should show it too; it is empty for recordings of ours.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    images: h5py.Dataset | None = None
    backgrounds: h5py.Dataset | None = None
    index: NDArray[np.int64] = field(default_factory=_no_numbers)
    captured_ns: NDArray[np.int64] = field(default_factory=_no_numbers)
    row: NDArray[np.int64] = field(default_factory=_no_numbers)
    again: list[NDArray[np.int64]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class RowFrames:
    """The frame of every row of `/events`, and where the row's picture lies in it."""

    index: NDArray[np.int64]
    x0_px: NDArray[np.int64]
    y0_px: NDArray[np.int64]


def of_ours(source: Source, camera: CameraInfo, committed: dict[str, int] | None) -> tuple[FrameTable, CameraInfo]:
    """The frames of a recording of ours; rows beyond `committed` were never acknowledged and are left out."""
    table = FrameTable((camera.height_px, camera.width_px), np.dtype(camera.dtype))
    names = ("image", "index", "captured_ns")
    found = {name: source.dataset(f"hspc/frames/{name}") for name in names}
    images, numbers, times = found["image"], found["index"], found["captured_ns"]
    if images is None or numbers is None or times is None:
        if source.group("hspc/frames") is not None:
            table.losses.append("the frames cannot be read: their datasets lie in what was lost")
        return table, camera
    check_images(source, "hspc/frames/image", images)
    n = _shortest(table, {f"hspc/frames/{name}": len(d) for name, d in found.items() if d is not None})
    if committed is not None:
        n = min(n, committed["frames"])
    index, good = source.rows(numbers, 0, n)
    captured, good_times = source.rows(times, 0, n)
    good &= good_times
    if not good.all():
        table.losses.append(f"number or time of {np.count_nonzero(~good)} frames cannot be read")
    table.row = np.flatnonzero(good)
    table.index = index[good]
    table.captured_ns = captured[good] - captured[good][:1].sum()  # the first one, or 0 where there is none
    if np.any(np.diff(table.captured_ns) <= 0):
        table.warnings.append("recorded times do not always advance; frames are replayed with the times they had")
    table.images = images
    return table, camera


def of_rtdc(source: Source, frames_per_s: float | None) -> tuple[FrameTable, float]:
    """The frames of an RT-DC file and its frame rate. `frames_per_s`: what is known of it (attribute or flag)."""
    images = source.dataset("events/image")
    if images is None and source.truncated:
        raise RecordingError(
            f"{source.path} was cut short, and what says where its pictures lie is lost: take another copy of it"
        )
    if images is None:
        raise RecordingError(
            f"{source.path} holds no pictures that can be read (events/image): it is no RT-DC recording with images, "
            "or keeps them in another file"
        )
    check_images(source, "events/image", images)
    table = FrameTable(images.shape[1:], images.dtype, images)
    recorded = _column(source, "events/frame", table)
    times = _column(source, "events/time", table)
    n = len(images)
    lengths = {"events/image": n} | ({} if recorded is None else {"events/frame": len(recorded)})
    for name in ("mask", "image_bg"):
        dataset = source.dataset(f"events/{name}")
        if dataset is not None and len(dataset) != n:
            table.losses.append(f"events/{name} holds {len(dataset)} rows, events/image {n}")
    n = _shortest(table, lengths)
    times = _as_long(table, times, n)
    numbers = _numbers(table, recorded, times, n)
    order = np.argsort(numbers, kind="stable")
    if np.any(np.diff(numbers) < 0):
        table.warnings.append("rows are not in the order of their frame numbers; frames are replayed in that order")
    order = order[numbers[order] >= 0]  # negative: unusable, and booked
    table.index, first = np.unique(numbers[order], return_index=True)
    table.row = order[first]
    table.again = [rows[1:] for rows in np.split(order, first[1:])] if len(order) else []
    rate = _rate(table, frames_per_s, times)
    table.captured_ns = _captured(table, rate, times)
    backgrounds = source.dataset("events/image_bg")
    if backgrounds is not None and backgrounds.shape[1:] == images.shape[1:] and backgrounds.dtype == images.dtype:
        table.backgrounds = backgrounds
    return table, rate


def row_frames(source: Source, kind: Literal["hspc", "rtdc"], limit: int | None) -> RowFrames:
    """The frame number of every row of `/events`, as `FrameTable.index` has it."""
    if kind == "hspc":
        dataset = source.dataset("hspc/views")
        if dataset is None:
            return RowFrames(_no_numbers(), _no_numbers(), _no_numbers())
        rows = len(dataset) if limit is None else min(limit, len(dataset))
        views: NDArray[Any] = source.rows(dataset, 0, rows)[0]
        return RowFrames(views["frame"], views["x0_px"].astype(np.int64), views["y0_px"].astype(np.int64))
    images = source.dataset("events/image")
    said_already = FrameTable((0, 0), np.dtype("u1"))
    recorded = _column(source, "events/frame", said_already)
    n = min([len(column) for column in (images, recorded) if column is not None], default=0)
    times = _as_long(said_already, _column(source, "events/time", said_already), n)
    index = _numbers(said_already, recorded, times, n)
    zeros = np.zeros(n, np.int64)
    return RowFrames(index, zeros, zeros)


def check_images(source: Source, name: str, images: h5py.Dataset) -> None:
    """Raise RecordingError for pictures that are not (rows, height, width) uint8 or uint16, or too large to be any."""
    if images.ndim != 3 or images.dtype not in (np.uint8, np.uint16) or 0 in images.shape[1:]:
        raise RecordingError(
            f"{source.path}: {name} is {images.shape} {images.dtype}; "
            "frames must be (rows, height, width) of uint8 or uint16"
        )
    if images.shape[1] * images.shape[2] > MAX_PIXELS:
        raise RecordingError(f"{source.path}: {name} has frames of {images.shape[1:]} pixels, which no camera has")


def _shortest(table: FrameTable, lengths: dict[str, int]) -> int:
    """The rows that all of these datasets have; where they differ, that is said."""
    n = min(lengths.values())
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {length}" for name, length in lengths.items())
        table.losses.append(f"datasets differ in length ({said}): the first {n} rows are taken")
    return n


def _column(source: Source, name: str, table: FrameTable) -> NDArray[np.float64] | None:
    """A column as floats, NaN where it cannot be read; None where there is none (or nothing of it is left)."""
    dataset = source.dataset(name)
    if dataset is None or dataset.ndim != 1 or dataset.dtype.kind not in "iuf":
        return None
    values, good = source.rows(dataset, 0, len(dataset))
    if not good.all():
        table.losses.append(f"{np.count_nonzero(~good)} of {len(good)} rows of {name} cannot be read")
    if len(good) and not good.any():
        return None
    return np.where(good, values.astype(np.float64), np.nan)


def _as_long(table: FrameTable, times: NDArray[np.float64] | None, n: int) -> NDArray[np.float64] | None:
    """The times of the first `n` rows; None, and said, where there are fewer."""
    if times is None or len(times) >= n:
        return times
    table.losses.append(f"events/time holds {len(times)} rows of {n}")
    return None


def _numbers(
    table: FrameTable, recorded: NDArray[np.float64] | None, times: NDArray[np.float64] | None, n: int
) -> NDArray[np.int64]:
    """A frame number for each of `n` rows, -1 where there is none to be had."""
    if recorded is not None:
        recorded = recorded[:n]
        usable = np.isfinite(recorded) & (np.floor(recorded) == recorded) & (recorded >= 0) & (recorded < 2.0**53)
        if not usable.all():
            table.losses.append(f"{np.count_nonzero(~usable)} rows have no usable frame number and are left out")
        numbers: NDArray[np.int64] = np.where(usable, recorded, -1).astype(np.int64)
        return numbers
    if times is not None and np.all(np.isfinite(times[:n])):
        table.warnings.append("frame numbers are missing: rows of the same events/time are taken for one frame")
        changed = np.concatenate([[0], np.cumsum(np.diff(times[:n]) != 0)]) if n else np.empty(0)
        return changed.astype(np.int64)
    table.warnings.append("frame numbers and times are missing: every row is taken for a frame of its own")
    return np.arange(n, dtype=np.int64)


def _rate(table: FrameTable, known: float | None, times: NDArray[np.float64] | None) -> float:
    """Frames per second: what is known, else measured from times and numbers, else the default; said if not known."""
    if known is not None:
        return known
    if times is not None and len(table.row) > 1:
        with np.errstate(invalid="ignore"):
            each = np.diff(times[table.row]) / np.diff(table.index)
        each = each[np.isfinite(each) & (each > 0)]
        if len(each):
            rate = float(1.0 / np.median(each))
            table.warnings.append(f"the frame rate is missing; {rate:.4g} frames/s follows from events/time")
            return rate
    table.warnings.append(
        f"the frame rate is missing; {DEFAULT_FRAMES_PER_S:g} frames/s is assumed: give the right one with --fps"
    )
    return DEFAULT_FRAMES_PER_S


def _captured(table: FrameTable, rate: float, times: NDArray[np.float64] | None) -> NDArray[np.int64]:
    """Nanoseconds since the first frame, from `events/time`, or from the numbers if that does not always advance."""
    if not len(table.row):
        return np.empty(0, np.int64)
    reconstructed: NDArray[np.int64] = np.rint((table.index - table.index[0]) * (NS_PER_S / rate)).astype(np.int64)
    if times is None:
        table.warnings.append(f"times are missing; they are reconstructed from frame numbers at {rate:.4g} frames/s")
        return reconstructed
    seconds = times[table.row]
    if not np.all(np.isfinite(seconds)) or np.any(np.diff(seconds) <= 0):
        bad = np.count_nonzero(~np.isfinite(seconds)) or np.count_nonzero(np.diff(seconds) <= 0)
        table.warnings.append(
            f"events/time runs backwards, stands still or is missing at {bad} of {len(seconds)} frames; all times are "
            f"reconstructed from frame numbers at {rate:.4g} frames/s"
        )
        return reconstructed
    measured: NDArray[np.int64] = np.rint((seconds - seconds[0]) * NS_PER_S).astype(np.int64)
    return measured
