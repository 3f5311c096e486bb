"""Writes one flow recording while the run goes on, so that a crash costs nothing that was acknowledged.

Driven synchronously by the record process. Rows are gathered in memory and go to the file in blocks: a block of
pictures as soon as it holds a few megabytes, everything on `flush`. How the file lives through a crash is
`live_file`'s business.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.clock import NS_PER_S, calendar
from hspc_live.core.errors import RecordingError
from hspc_live.core.values import CameraInfo, CellRecord, FrameResult, Pixels, Receipt, SortCommand
from hspc_live.recording import layout
from hspc_live.recording.live_file import LiveFile
from hspc_live.recording.stream import new_column, new_images
from hspc_live.settings.schema import SampleSettings

SCORABLE_ROWS: Final = 100_000
"""How many of the newest views can still be given scores: the map from key to row would otherwise grow for ever."""


class RecordingWriter:
    """One recording being written; `create` makes the file, `close` completes it. Not thread-safe."""

    def __init__(self, live: LiveFile, camera: CameraInfo, classes: tuple[str, ...], window: tuple[int, int]) -> None:
        self._live = live
        self.path = live.path
        self._camera = camera
        self._classes = classes
        self._window = window
        self._features = layout.score_features(classes)
        self._streams = live.streams
        self._first_ns: int | None = None
        self._rows_of: OrderedDict[tuple[int, int], int] = OrderedDict()
        self._scores: dict[int, NDArray[np.float64]] = {}
        # ml_class counts the score features in alphabetical order, as dclab does
        order = sorted(range(len(classes)), key=lambda i: self._features[classes[i]])
        self._rank = np.argsort(order) if classes else np.empty(0, np.intp)

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        run_id: str,
        settings_json: str,
        camera: CameraInfo,
        classes: tuple[str, ...],
        card_yaml: str,
        pipeline_id: str,
        versions: Mapping[str, str],
        window: tuple[int, int],
        record_frames: bool,
        sample: SampleSettings | None = None,
    ) -> Self:
        """Make the file with every dataset in it. `window` is (height, width) of the pictures in `/events`.

        A window larger than the frame is cut to it, as segmentation does.

        Raises OutputError if `path` exists or cannot be written; then nothing has been touched.
        """
        window = (min(window[0], camera.height_px), min(window[1], camera.width_px))
        started = calendar().astimezone()
        with LiveFile.creating(Path(path)) as (live, file):
            writer = cls(live, camera, classes, window)
            file.attrs.update(
                layout.rtdc_attributes(
                    run_id, camera, window, sample or SampleSettings(), versions.get("hspc-live", ""), started
                )
            )
            group = file.create_group("hspc")
            group.attrs.update(
                {
                    "format": layout.FORMAT,
                    "run_id": run_id,
                    "started": started.isoformat(),
                    "camera": json.dumps(camera_json(camera)),
                    "classes": json.dumps(classes),
                    "score_features": json.dumps(writer._features),
                    "pipeline_id": pipeline_id,
                    "versions": json.dumps(dict(versions)),
                    "frames_recorded": record_frames,
                    "closed": False,
                }
            )
            group["settings"] = settings_json
            group["card"] = card_yaml
            writer._create_streams(file, group, record_frames)
        return writer

    def _create_streams(self, file: h5py.File, group: h5py.Group, record_frames: bool) -> None:
        camera, events = self._camera, file.create_group("events")
        frame_shape = (camera.height_px, camera.width_px)
        view_columns = {name: new_column(events, name, dtype) for name, dtype in layout.EVENT_COLUMNS.items()}
        view_columns |= {name: new_column(events, name, "<f8") for name in self._features.values()}
        view_columns["image"] = new_images(events, "image", self._window, camera.dtype)
        view_columns["mask"] = new_images(events, "mask", self._window, "u1")
        view_columns["views"] = new_column(group, "views", layout.VIEW_DTYPE)
        self._live.stream("views", view_columns)
        if record_frames:
            frames = group.create_group("frames")
            self._live.stream(
                "frames",
                {"image": new_images(frames, "image", frame_shape, camera.dtype)}
                | {name: new_column(frames, name, "<i8") for name in ("index", "captured_ns", "background")},
            )
        backgrounds = group.create_group("backgrounds")
        self._live.stream(
            "backgrounds",
            {
                "image": new_images(backgrounds, "image", frame_shape, camera.dtype),
                "number": new_column(backgrounds, "number", "<i8"),
                "noise_sd": new_column(backgrounds, "noise_sd", "<f8"),
            },
        )
        tables = {
            "results": layout.RESULT_DTYPE,
            "objects": layout.STORED_OBJECT_DTYPE,
            "cells": layout.cell_dtype(self._classes),
            "cell_views": layout.CELL_VIEW_DTYPE,
            "commands": layout.COMMAND_DTYPE,
            "receipts": layout.RECEIPT_DTYPE,
        }
        for name, dtype in tables.items():
            self._live.stream(name, {"rows": new_column(group, name, dtype)})

    # ---- what a run hands over -------------------------------------------------------------------------------------

    def write_frame(self, index: int, captured_ns: int, pixels: Pixels, background_number: int) -> None:
        """Keep one frame, (height, width) in the camera's dtype; the pixels are copied. Call in capture order.

        Does nothing when frames are not recorded. Raises RecordingError for a frame of another shape or dtype.
        """
        self._check("frame", pixels, (self._camera.height_px, self._camera.width_px))
        if "frames" in self._streams:
            self._streams["frames"].add(
                image=pixels[None],
                index=np.array([index]),
                captured_ns=np.array([captured_ns]),
                background=np.array([background_number]),
            )

    def write_background(self, number: int, pixels: Pixels, noise_sd: float) -> None:
        """Keep one numbered background snapshot, (height, width) in the camera's dtype; the pixels are copied."""
        self._check("background", pixels, (self._camera.height_px, self._camera.width_px))
        self._streams["backgrounds"].add(image=pixels[None], number=np.array([number]), noise_sd=np.array([noise_sd]))

    def write_result(self, result: FrameResult) -> None:
        """Keep what was found in one frame: a row of `/events` per view, a row of `/hspc/objects` per detection.

        `result.windows` and `result.masks` must hold one picture of the recording's window shape per object.
        """
        if self._first_ns is None:
            self._first_ns = result.captured_ns
        objects, n = result.objects, len(result.objects)
        alarms = layout.text(",".join(result.alarms), 128)
        head = (result.index, result.captured_ns, result.background, n, result.over_cap, result.segment_ns, alarms)
        self._streams["results"].add(rows=np.array([head], layout.RESULT_DTYPE))
        if n == 0:
            return
        if result.windows.shape != (n, *self._window) or result.masks.shape != (n, *self._window):
            raise RecordingError(
                f"frame {result.index}: {n} objects come with windows {result.windows.shape} and masks "
                f"{result.masks.shape}, the recording wants {(n, *self._window)}: set record.window_px for both alike"
            )
        self._check("window", result.windows, (n, *self._window))
        rows = np.empty(n, layout.STORED_OBJECT_DTYPE)
        rows["frame"], rows["view"] = result.index, np.arange(n)
        for name in objects.dtype.names or ():
            rows[name] = objects[name]
        self._streams["objects"].add(rows=rows)
        views = rows[rows["reject"] == 0]
        if len(views):
            self._add_views(views, result)

    def _add_views(self, views: NDArray[np.void], result: FrameResult) -> None:
        stream, m, scale = self._streams["views"], len(views), self._camera.um_per_px
        numbers = views["view"]
        height, width = self._window
        keys = np.empty(m, layout.VIEW_DTYPE)
        keys["frame"], keys["view"] = result.index, numbers
        frame_shape = (self._camera.height_px, self._camera.width_px)
        keys["x0_px"] = layout.window_origin(views["x_um"] / scale, frame_shape[1], width)
        keys["y0_px"] = layout.window_origin(views["y_um"] / scale, frame_shape[0], height)
        size_x = (views["x1_px"] - views["x0_px"]) * scale
        size_y = (views["y1_px"] - views["y0_px"]) * scale
        first_row = stream.added
        masks = result.masks[numbers].astype(bool)
        stream.add(
            image=result.windows[numbers],
            mask=masks * np.uint8(255),  # RT-DC's masks are 0 and 255
            views=keys,
            frame=np.full(m, result.index + layout.FIRST_FRAME, "<u8"),
            time=np.full(m, (result.captured_ns - (self._first_ns or 0)) / NS_PER_S),
            pos_x=views["x_um"],
            pos_y=views["y_um"],
            size_x=size_x,
            size_y=size_y,
            area_um=views["area_um2"],
            volume=layout.volume(masks, views["y_um"] / scale - keys["y0_px"]) * scale**3,
            deform=views["deformation"],
            aspect=size_x / np.maximum(size_y, scale),
            bright_avg=views["brightness"],
            bright_sd=views["brightness_sd"],
            nevents=np.full(m, len(result.objects), "<u4"),
            ml_class=np.full(m, -1, "<i8"),
            **{name: np.full(m, np.nan) for name in self._features.values()},
        )
        for offset, number in enumerate(numbers.tolist()):
            self._rows_of[(result.index, number)] = first_row + offset
        while len(self._rows_of) > SCORABLE_ROWS:
            self._rows_of.popitem(last=False)

    def write_scores(self, keys: Sequence[tuple[int, int]], scores: NDArray[np.floating[Any]]) -> int:
        """Fill in the scores (n, classes; class order) of views already written, by (frame, view).

        A view never scored keeps NaN scores and `ml_class` -1, as dclab has it; so does one whose scores hold a NaN.
        Returns how many keys have no row (their result was never written, or is over 100,000 rows ago).
        """
        if scores.shape != (len(keys), len(self._classes)):
            raise RecordingError(f"{len(keys)} views came with scores {scores.shape}, classes are {self._classes}")
        missing = 0
        for key, values in zip(keys, scores.astype(np.float64), strict=True):
            row = self._rows_of.get((key[0], key[1]))
            if row is None:
                missing += 1
            else:
                self._scores[row] = values
        return missing

    def write_cells(self, records: Sequence[CellRecord]) -> None:
        """Keep the last word on these cells, and which views it rests on."""
        if records:
            self._streams["cells"].add(rows=layout.cell_rows(records, layout.cell_dtype(self._classes)))
            self._streams["cell_views"].add(rows=layout.cell_view_rows(records))

    def write_commands(self, commands: Sequence[SortCommand]) -> None:
        """Keep commands as they were sent."""
        self._streams["commands"].add(rows=layout.command_rows(commands))

    def write_receipts(self, receipts: Sequence[Receipt]) -> None:
        """Keep the sorter's answers."""
        self._streams["receipts"].add(rows=layout.receipt_rows(receipts))

    def write_note(self, kind: str, detail: str, at_ns: int) -> None:
        """Keep something that was said: a gate revision, arming, disarming, an alarm."""
        self._live.write_note(kind, detail, at_ns)

    def write_ledger(self, ledger: Mapping[str, Any]) -> None:
        """Append the ledgers as they stand; the last line of a closed recording is the final one."""
        self._live.write_ledger(ledger)

    # ---- bringing it to the file -----------------------------------------------------------------------------------

    def flush(self) -> dict[str, int]:
        """Bring everything to the file; returns the rows of each stream that now survive a crash of this program.

        Raises RecordingError when the file system refuses (a full disk); what was acknowledged before stays readable.
        """
        return self._live.flush(self._fill_scores)

    def _fill_scores(self) -> None:
        """Write held scores into their rows, a run of near-by rows at a time (they come in nearly row order)."""
        if not self._scores or not self._classes:
            return
        rows = np.array(sorted(self._scores))
        values = np.stack([self._scores[int(row)] for row in rows])
        usable = np.all(np.isfinite(values), axis=1, keepdims=True)
        best = np.where(usable[:, 0], self._rank[np.argmax(np.where(usable, values, 0), axis=1)], -1)
        datasets = self._streams["views"].datasets
        columns = {self._features[name]: values[:, i] for i, name in enumerate(self._classes)} | {"ml_class": best}
        for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) > 1024) + 1):
            first, end = rows[run[0]], rows[run[-1]] + 1
            for name, column in columns.items():
                block = datasets[name][first:end]
                block[rows[run] - first] = column[run]
                datasets[name][first:end] = block
        self._scores.clear()

    def close(
        self, ledger: Mapping[str, Any] | None, summary: Mapping[str, Any] | None, frames_missing: int = 0
    ) -> None:
        """Write what is held, the final ledgers and the summary, and complete the attributes: the run is whole.

        Without a ledger (the run was broken off before its books were closed) the file is made whole all the same, but
        keeps saying that it was not closed. `frames_missing` frames were processed and could not be recorded: then the
        recording does not replay exactly, and says so. Harmless when called twice.
        """
        if not self._live.open:
            return
        if ledger is not None:
            self.write_ledger(ledger)
        counts = self.flush()
        whole = {"closed": ledger is not None, "frames_missing": frames_missing}
        self._live.complete(summary, whole, {"experiment:event count": counts["views"]})

    def _check(self, what: str, pixels: NDArray[Any], shape: tuple[int, ...]) -> None:
        if pixels.shape != shape or pixels.dtype != np.dtype(self._camera.dtype):
            raise RecordingError(
                f"a {what} of {pixels.shape} {pixels.dtype} does not belong into {self.path}, which holds "
                f"{shape} {self._camera.dtype}: start another run for another camera format"
            )


def camera_json(camera: CameraInfo) -> dict[str, Any]:
    """A camera's promise as plain JSON values."""
    return {name: getattr(camera, name) for name in CameraInfo.__slots__}
