"""Opens a recording, ours or an RT-DC file that nobody here wrote, and gives its frames in capture order.

Whatever is odd about a file is said in `warnings`; whatever is missing from it is said in `loss`, and the rest is
given.
What each kind of file means by a frame lies in `frame_table`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import RecordingError
from hspc_live.core.values import CameraInfo, Frame, Modality
from hspc_live.recording import frame_table, layout
from hspc_live.recording.own_file import CHAMBER, OwnFile, format_of
from hspc_live.recording.recover import Pictures, Source, runs


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row of `/events`: a cell in one frame. `mask` is boolean, None where missing or unreadable.

    The mask's upper left pixel is pixel (`x0_px`, `y0_px`) of the frame (0, 0 in RT-DC, where it covers the frame).
    """

    frame: int
    pos_x_um: float
    pos_y_um: float
    mask: NDArray[np.bool_] | None
    x0_px: int = 0
    y0_px: int = 0


class Recording:
    """One open recording. `loss` grows while frames are read, as damage to pictures shows only then."""

    def __init__(self, source: Source, um_per_px: float | None, frames_per_s: float | None) -> None:
        self._source = source
        self.path = source.path
        self.warnings: list[str] = []
        self._losses: list[str] = []
        self._lost_frames: list[int] = []
        if source.truncated:
            self._losses.append("the file was cut short: what lies behind its end is lost")
        found = format_of(source)
        if (found or "").startswith(CHAMBER):
            raise RecordingError(
                f"{source.path} is the recording of a chamber, with whole fields instead of a stream of frames: "
                "use `hspc-live inspect` or `hspc-live replay` (without --speed, --workers, --um-per-px or --fps)"
            )
        self._own = None if found is None else OwnFile(source, layout.FORMAT)
        self.kind: Literal["hspc", "rtdc"] = "rtdc" if self._own is None else "hspc"
        self._attributes = source.attributes("") if self._own is None else self._own.attributes
        self.closed = self._own is None or self._own.closed
        if self._own is not None:
            self._losses += self._own.losses
            self.warnings += self._own.warnings
        self.classes: tuple[str, ...] = () if self._own is None else self._own.classes
        self.score_features: dict[str, str] = json.loads(self._attributes.get("score_features", "{}"))
        table, self.info = self._read_frames(um_per_px, frames_per_s)
        self._table = table
        self.warnings += table.warnings
        self._losses += table.losses
        self.n_frames = len(table.index)
        missing = int(self._attributes.get("frames_missing", 0))
        self.has_frames = self.kind == "rtdc" or bool(self._attributes["frames_recorded"])
        self.exact = self.kind == "hspc" and self.has_frames and missing == 0 and self.closed and not self._losses
        if missing:
            self.warnings.append(f"{missing} frames that were processed could not be recorded: not replayable exactly")

    def _read_frames(
        self, um_per_px: float | None, frames_per_s: float | None
    ) -> tuple[frame_table.FrameTable, CameraInfo]:
        if self._own is not None:
            camera = self._own_camera(self._own.camera(), um_per_px, frames_per_s)
            return frame_table.of_ours(self._source, camera, self._own.committed)
        attributes = self._attributes
        recorded_rate = _number(attributes, "imaging:frame rate")
        table, rate = frame_table.of_rtdc(self._source, frames_per_s or recorded_rate)
        scale = um_per_px if um_per_px is not None else _number(attributes, "imaging:pixel size")
        if scale is None:
            why = " any more, as it was cut short" if self._source.truncated else ""
            raise RecordingError(
                f"{self.path} does not say its scale{why} (imaging:pixel size): give it with --um-per-px"
            )
        self._say_override("imaging:pixel size", "µm/px", _number(attributes, "imaging:pixel size"), um_per_px)
        self._say_override("imaging:frame rate", "frames/s", recorded_rate, frames_per_s)
        height, width = table.shape
        info = CameraInfo(
            height_px=height,
            width_px=width,
            dtype=table.dtype.name,
            um_per_px=scale,
            frames_per_s=rate,
            modality=Modality.BRIGHTFIELD,
            exposure_us=_number(attributes, "imaging:flash duration") or 0.0,
            model=str(attributes.get("setup:module composition", "RT-DC")),
            counts_gaps=False,
        )
        return table, info

    def _own_camera(self, camera: CameraInfo, um_per_px: float | None, frames_per_s: float | None) -> CameraInfo:
        self._say_override("its scale", "µm/px", camera.um_per_px, um_per_px)
        self._say_override("its frame rate", "frames/s", camera.frames_per_s, frames_per_s)
        return replace(
            camera, um_per_px=um_per_px or camera.um_per_px, frames_per_s=frames_per_s or camera.frames_per_s
        )

    def _say_override(self, name: str, unit: str, recorded: float | None, given: float | None) -> None:
        if given is not None and given != recorded:
            was = "does not say" if recorded is None else f"says {recorded:g} {unit} for"
            self.warnings.append(f"the file {was} {name}; {given:g} {unit} is taken, as told")

    # ---- what the run was told -------------------------------------------------------------------------------------

    @property
    def loss(self) -> str | None:
        """What of the file could not be read so far, or None."""
        losses = list(self._losses)
        if self._lost_frames:
            spans = [f"{a}" if a == b else f"{a}-{b}" for a, b in runs(sorted(self._lost_frames))]
            shown = ", ".join(spans[:10]) + (", …" if len(spans) > 10 else "")
            losses.append(f"the pictures of {len(self._lost_frames)} frames cannot be read: {shown}")
        return "; ".join(losses) or None

    @property
    def n_events(self) -> int:
        """Rows of `/events`: cells in frames."""
        dataset = self._source.dataset("events/image")
        limit = self._limit("views")
        rows = 0 if dataset is None else len(dataset)
        return rows if limit is None else min(rows, limit)

    @property
    def span_ns(self) -> int:
        """From the first frame to the latest."""
        return int(self._table.captured_ns.max(initial=0))

    @property
    def settings_json(self) -> str | None:
        """The settings of the run as JSON text; None for RT-DC files."""
        return None if self._own is None else self._own.text("settings")

    @property
    def card_yaml(self) -> str | None:
        """The card of the model that was used."""
        return None if self._own is None else self._own.text("card")

    @property
    def summary(self) -> dict[str, Any] | None:
        """The run's summary, where it came to its end."""
        return None if self._own is None else self._own.json("summary")

    @property
    def captured(self) -> int | None:
        """How many frames the closed books of the run count, dropped and lost ones too; None where there are none."""
        if not self._attributes.get("closed", False):
            return None
        try:
            return int(self.lines("ledger")[-1]["frames"]["captured"])
        except (IndexError, KeyError, TypeError, ValueError):  # damaged: what the file holds still counts
            return None

    @property
    def attributes(self) -> dict[str, Any]:
        """Plain attributes: of `/hspc` for ours, of the file for RT-DC."""
        return dict(self._attributes)

    # ---- what was recorded -----------------------------------------------------------------------------------------

    def frames(self) -> Iterator[Frame]:
        """Every frame once, in capture order; `captured_ns` counts from the first, `received_ns` is 0.

        Frames whose pictures cannot be read are left out and booked in `loss`. Raises RecordingError where the
        recording kept no frames.
        """
        self.check_replayable()
        table = self._table
        if table.images is None:
            return
        images = Pictures(self._source, table.images)
        backgrounds = None if table.backgrounds is None else Pictures(self._source, table.backgrounds)
        lost: list[int] = []
        differing = bare = 0
        for i, (index, at_ns, row) in enumerate(
            zip(table.index.tolist(), table.captured_ns.tolist(), table.row.tolist(), strict=True)
        ):
            others = table.again[i].tolist() if table.again else []
            pixels = next((found for r in (row, *others) if (found := images[r]) is not None), None)
            if pixels is None:
                lost.append(index)
                self._lost_frames = max(self._lost_frames, lost, key=len)  # reading twice books it once
                continue
            for other in others:
                repeated = images[other]
                differing += repeated is not None and not np.array_equal(pixels, repeated)
            background = None if backgrounds is None else backgrounds[row]
            bare += backgrounds is not None and background is None
            yield Frame(index, at_ns, 0, pixels, background)
        for count, what in (
            (differing, "rows show another picture than the first of their frame, which is taken"),
            (bare, "frames have no readable background, though the file has some"),
        ):
            if count and f"{count} {what}" not in self.warnings:
                self.warnings.append(f"{count} {what}")

    def check_replayable(self) -> None:
        """Raise RecordingError where a recording of ours kept no frames."""
        if not self.has_frames:
            raise RecordingError(
                f"{self.path} keeps no frames, only a window around each cell: it can be inspected, but not replayed; "
                "record with record.frames: true"
            )

    def frame(self, index: int) -> Frame | None:
        """The frame of that number, as `frames` gives it; None where it was not kept or cannot be read."""
        table = self._table
        at = int(np.searchsorted(table.index, index)) if table.images is not None else len(table.index)
        if at == len(table.index) or table.index[at] != index:
            return None
        row = int(table.row[at])
        pixels = self._picture(table.images, row)
        if pixels is None:
            return None
        return Frame(index, int(table.captured_ns[at]), 0, pixels, self._picture(table.backgrounds, row))

    def window(self, row: int) -> tuple[NDArray[Any], NDArray[np.bool_]] | None:
        """Picture and mask of one row of `/events`; None where there is no such row or it cannot be read."""
        pixels, mask = (self._picture(self._source.dataset(f"events/{name}"), row) for name in ("image", "mask"))
        return None if pixels is None or mask is None else (pixels, mask > 0)

    def _picture(self, dataset: h5py.Dataset | None, row: int) -> NDArray[Any] | None:
        if dataset is None or not 0 <= row < len(dataset):
            return None
        values, good = self._source.rows(dataset, row, row + 1)
        return values[0] if good[0] else None

    def rows(self) -> Iterator[Row]:
        """The rows of `/events`, in the file's order, as far as position, mask and frame number all go."""
        names = ("pos_x", "pos_y", "mask")
        found = {name: self._source.dataset(f"events/{name}") for name in names}
        numbers = frame_table.row_frames(self._source, self.kind, self._limit("views"))
        n = min([len(numbers.index), *(len(d) for d in found.values() if d is not None)])
        columns = {}
        for name in names[:2]:
            dataset = found[name]
            values, good = (np.full(n, np.nan), True) if dataset is None else self._source.rows(dataset, 0, n)
            columns[name] = np.where(good, values, np.nan)
        masks = None if found["mask"] is None else Pictures(self._source, found["mask"])
        for i in range(n):
            mask = None if masks is None else masks[i]
            yield Row(
                int(numbers.index[i]),
                float(columns["pos_x"][i]),
                float(columns["pos_y"][i]),
                None if mask is None else mask > 0,
                int(numbers.x0_px[i]),
                int(numbers.y0_px[i]),
            )

    def event(self, feature: str) -> NDArray[Any] | None:
        """One column of `/events` (a feature's RT-DC name), or None."""
        return self._source.column(f"events/{feature}", self._limit("views"))

    def table(self, name: str) -> NDArray[np.void] | None:
        """One of our tables (`cells`, `cell_views`, `commands`, `receipts`, `objects`, `results`, `views`)."""
        return None if self._own is None else self._own.table(name)

    def lines(self, name: Literal["notes", "ledger"]) -> list[dict[str, Any]]:
        """Notes, or the ledgers as they were written one after the other."""
        return [] if self._own is None else self._own.lines(name)

    def _limit(self, stream: str) -> int | None:
        return None if self._own is None else self._own.limit(stream)

    def close(self) -> None:
        """Let go of the file; harmless when called twice."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_recording(path: str | Path, *, um_per_px: float | None = None, frames_per_s: float | None = None) -> Recording:
    """Open a recording for reading; `um_per_px` and `frames_per_s` override what it says, with a warning.

    Raises RecordingError for a file that is missing, empty, not HDF5, without images, without a scale, or that leads
    out of itself by links.
    """
    source = Source(Path(path))
    try:
        return Recording(source, um_per_px, frames_per_s)
    except (KeyError, ValueError, TypeError, OSError, RuntimeError) as error:
        source.close()
        raise RecordingError(f"{path} is damaged where it describes itself: {error}") from error
    except RecordingError:
        source.close()
        raise


def _number(attributes: dict[str, Any], name: str) -> float | None:
    """A positive, finite attribute; None where it is missing or no such thing."""
    try:
        value = float(attributes[name])
    except (KeyError, ValueError, TypeError):
        return None
    return value if math.isfinite(value) and value > 0 else None
