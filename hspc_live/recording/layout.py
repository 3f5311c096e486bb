"""Where everything lies in a recording: names, column types, and the words that RT-DC has for them.

A recording is one HDF5 file. `/events` speaks the RT-DC dialect, one row a view (an accepted detection), so that dclab
and Shape-Out open it. A row's picture is the window around the cell at camera scale; `pos_x`/`pos_y` are µm in the
camera's frame, `time` is seconds since the first frame with a result, `area_um` is that of the mask. What RT-DC has no
name for lies under `/hspc`:

    frames/{image,index,captured_ns,background}   each frame once, in capture order
    backgrounds/{image,number,noise_sd}           the numbered snapshots
    results, objects, views                       a row per frame, per detection, per row of /events (same order)
    cells, cell_views, commands, receipts         what became of the cells, which views they rest on, the sorter
    notes, ledger                                 JSON lines as UTF-8 bytes: bytes(dataset[:]).decode().splitlines()
    settings, card, summary                       text (settings and summary are JSON, the card is YAML)
    committed                                     rows of every stream that are safe, in the order of its `streams`

Root attributes must all read `section:key` (dclab splits them), so our own are attributes of `/hspc`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.values import OBJECT_DTYPE, CameraInfo, CellRecord, Detection, Receipt, SortCommand
from hspc_live.settings.schema import SampleSettings

FORMAT: Final = "hspc-live/1"

NONE: Final = np.iinfo(np.int64).min
"""What an integer column holds where the value is None (floats hold NaN, strings are empty)."""

EVENT_COLUMNS: Final[Mapping[str, str]] = {
    "frame": "<u8",
    "time": "<f8",
    "pos_x": "<f8",
    "pos_y": "<f8",
    "size_x": "<f8",
    "size_y": "<f8",
    "area_um": "<f8",
    "volume": "<f8",
    "deform": "<f8",
    "aspect": "<f8",
    "bright_avg": "<f8",
    "bright_sd": "<f8",
    "nevents": "<u4",
    "ml_class": "<i8",
}

FIRST_FRAME: Final = 1
"""RT-DC counts frames from 1; ours count from 0. `/hspc/views` holds the number as it is."""

IMAGE_ATTRIBUTES: Final = {
    "CLASS": np.bytes_("IMAGE"),
    "IMAGE_VERSION": np.bytes_("1.2"),
    "IMAGE_SUBCLASS": np.bytes_("IMAGE_GRAYSCALE"),
}

VIEW_DTYPE: Final = np.dtype([("frame", "<i8"), ("view", "<u4"), ("x0_px", "<i4"), ("y0_px", "<i4")])
RESULT_DTYPE: Final = np.dtype(
    [
        ("frame", "<i8"),
        ("captured_ns", "<i8"),
        ("background", "<i8"),
        ("objects", "<u4"),
        ("over_cap", "<u4"),
        ("segment_ns", "<i8"),
        ("alarms", "S128"),
    ]
)
STORED_OBJECT_DTYPE: Final = np.dtype([("frame", "<i8"), ("view", "<u4"), *OBJECT_DTYPE.descr])
CELL_VIEW_DTYPE: Final = np.dtype([("cell", "<i8"), ("frame", "<i8"), ("view", "<u4")])
COMMAND_DTYPE: Final = np.dtype(
    [
        ("command", "<i8"),
        ("cell", "<i8"),
        ("outlet", "S64"),
        ("fire_at_ns", "<i8"),
        ("width_ns", "<i8"),
        ("deadline_ns", "<i8"),
        ("sent_ns", "<i8"),
    ]
)
RECEIPT_DTYPE: Final = np.dtype([("command", "<i8"), ("kind", "S16"), ("at_ns", "<i8"), ("reason", "S64")])


def cell_dtype(classes: Sequence[str]) -> np.dtype[Any]:
    """Columns of `/hspc/cells`: those of `CellRecord`; `scores` in class order; `mean_…` are its features."""
    return np.dtype(
        [
            ("cell", "<i8"),
            ("first_frame", "<i8"),
            ("last_frame", "<i8"),
            ("views", "<u4"),
            ("outcome", "S16"),
            ("reason", "S64"),
            ("outlet", "S64"),
            ("predicted", "S64"),
            ("scored_views", "<i8"),
            ("velocity_um_s", "<f8"),
            ("velocity_sd_um_s", "<f8"),
            ("arrival_ns", "<i8"),
            ("arrival_sd_ns", "<i8"),
            ("y_um", "<f8"),
            ("last_capture_ns", "<i8"),
            ("decided_ns", "<i8"),
            ("latency_ns", "<i8"),
            ("command", "<i8"),
            ("gate_revision", "<i8"),
            *((f"mean_{name}", "<f8") for name in Detection._fields),
            *([("scores", "<f8", (len(classes),))] if classes else []),
        ]
    )


def cell_rows(records: Sequence[CellRecord], dtype: np.dtype[Any]) -> NDArray[np.void]:
    """Records as rows of `cell_dtype`. Scores of another number than the classes leave their columns NaN."""
    rows = np.zeros(len(records), dtype)
    for row, record in zip(rows, records, strict=True):
        for name in ("cell", "first_frame", "last_frame", "y_um", "last_capture_ns", "decided_ns", "gate_revision"):
            row[name] = getattr(record, name)
        for name in ("arrival_ns", "arrival_sd_ns", "latency_ns", "command"):
            value = getattr(record, name)
            row[name] = NONE if value is None else value
        for name in ("velocity_um_s", "velocity_sd_um_s"):
            value = getattr(record, name)
            row[name] = np.nan if value is None else value
        row["views"] = len(record.views)
        row["outcome"] = text(record.outcome.value, 16)
        row["reason"] = text(record.reason, 64)
        row["outlet"] = text(record.outlet or "", 64)
        found = record.classification
        row["predicted"] = text(found.predicted, 64) if found else b""
        row["scored_views"] = found.views if found else NONE
        for name in Detection._fields:
            row[f"mean_{name}"] = record.features.get(name, np.nan)
        if dtype.names and "scores" in dtype.names:
            fits = found is not None and len(found.scores) == row["scores"].shape[0]
            row["scores"] = found.scores if found is not None and fits else np.nan
    return rows


def cell_view_rows(records: Sequence[CellRecord]) -> NDArray[np.void]:
    """Which views each cell rests on: one row (cell, frame, view) per view."""
    rows = [(record.cell, frame, view) for record in records for frame, view in record.views]
    return np.array(rows, CELL_VIEW_DTYPE)


def command_rows(commands: Sequence[SortCommand]) -> NDArray[np.void]:
    """Commands as rows of `COMMAND_DTYPE`."""
    return np.array(
        [(c.command, c.cell, text(c.outlet, 64), c.fire_at_ns, c.width_ns, c.deadline_ns, c.sent_ns) for c in commands],
        COMMAND_DTYPE,
    )


def receipt_rows(receipts: Sequence[Receipt]) -> NDArray[np.void]:
    """Receipts as rows of `RECEIPT_DTYPE`."""
    return np.array([(r.command, text(r.kind.value, 16), r.at_ns, text(r.reason, 64)) for r in receipts], RECEIPT_DTYPE)


def text(value: str, width: int) -> bytes:
    """UTF-8 of at most `width` bytes, cut between characters: fixed width, because SWMR allows no variable length."""
    return value.encode()[:width].decode(errors="ignore").encode()


def json_line(value: Mapping[str, Any]) -> NDArray[np.uint8]:
    """One JSON object and a line end, as bytes."""
    return np.frombuffer((json.dumps(value, ensure_ascii=False) + "\n").encode(), np.uint8)


def window_origin(centre_px: NDArray[np.float64], frame_px: int, window_px: int) -> NDArray[np.int64]:
    """First pixel of the windows around `centre_px` along one axis: centred, and always inside the frame."""
    origin = np.rint(centre_px).astype(np.int64) - window_px // 2
    return np.clip(origin, 0, max(0, frame_px - window_px))


def volume(masks: NDArray[np.bool_], y_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """Volumes (n,) in px³ of masks (n, h, w) turned about the flow axis through `y_px`; the halves' mean, as in RT-DC.

    It is stored because dclab, where it is missing, works it out taking `pos_x`/`pos_y` for places in the picture.
    """
    rows = np.arange(masks.shape[1]) - y_px[:, None]
    above = np.clip(0.5 - rows, 0, 1)[:, :, None]  # the share of each pixel row that lies on this side of the axis
    radius_above = (masks * above).sum(axis=1)
    radius_below = (masks * (1 - above)).sum(axis=1)
    result: NDArray[np.float64] = np.pi / 2 * (radius_above**2 + radius_below**2).sum(axis=1)
    return result


def score_features(classes: Sequence[str]) -> dict[str, str]:
    """RT-DC feature name of each class's score: `ml_score_` and exactly three of [a-z0-9].

    The three are the first of the class name's letters and digits (LT-HSC → lth, MPP → mpp), padded with x. Classes
    that would share them take the first two and their last one (MPP2, MPP3 → mp2, mp3); what still clashes is counted
    through in base 36 behind the first letter. dclab numbers `ml_class` by the alphabetical order of these names; so
    do we.
    """
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()).ljust(3, "x") for name in classes]
    short = [name[:3] for name in plain]
    codes = [name[:2] + name[-1] if short.count(name[:3]) > 1 else name[:3] for name in plain]
    taken: set[str] = set()
    result: dict[str, str] = {}
    for name, wanted in zip(classes, codes, strict=True):
        code, count = wanted, 0
        while code in taken:
            code, count = wanted[0] + np.base_repr(count, 36).lower().zfill(2), count + 1
        taken.add(code)
        result[name] = f"ml_score_{code}"
    return result


def rtdc_attributes(
    run_id: str, camera: CameraInfo, window: tuple[int, int], sample: SampleSettings, version: str, started: datetime
) -> dict[str, Any]:
    """The root attributes that RT-DC wants of a measurement (the event count is completed on closing).

    The region of interest is the window, as dclab checks it against the pictures. An unknown flow rate is NaN.
    """
    height, width = window
    flow, sheath = sample.flow_rate_ul_s, sample.sheath_flow_rate_ul_s
    optional: dict[str, float] = {}
    if flow is not None and sheath is not None:
        optional |= {"setup:flow rate sample": flow - sheath, "setup:flow rate sheath": sheath}
    if sample.temperature_c is not None:
        optional["setup:temperature"] = sample.temperature_c
    return {
        "experiment:date": started.strftime("%Y-%m-%d"),
        "experiment:time": started.strftime("%H:%M:%S"),
        "experiment:timestamp": started.timestamp(),
        "experiment:event count": 0,
        "experiment:run identifier": run_id,
        "experiment:run index": sample.run_index,
        "experiment:sample": sample.name,
        "imaging:flash device": sample.light_source,
        "imaging:flash duration": float(camera.exposure_us),
        "imaging:frame rate": float(camera.frames_per_s),
        "imaging:pixel size": float(camera.um_per_px),
        "imaging:roi position x": 0,
        "imaging:roi position y": 0,
        "imaging:roi size x": width,
        "imaging:roi size y": height,
        "setup:channel width": float(sample.channel_width_um or camera.height_px * camera.um_per_px),
        "setup:chip region": "channel",
        "setup:flow rate": float("nan") if flow is None else flow,
        "setup:identifier": sample.instrument,
        "setup:medium": sample.medium,
        "setup:module composition": camera.model or "unknown",
        "setup:software version": f"HSPC Live {version}",
        **optional,
    }
