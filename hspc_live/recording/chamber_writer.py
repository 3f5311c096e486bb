"""Writes the recording of a chamber run, field by field: what was handed over before a crash is in the file.

Driven synchronously, by one thread. A call of `field`, `cells` or `revisited` returns when its rows are with the
operating system, which is what "acknowledged" means here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.chamber import ChamberCell, ChamberFacts, FieldObjects, Revisited, Visit
from hspc_live.core.clock import calendar
from hspc_live.core.errors import RecordingError
from hspc_live.recording import chamber_layout as layout
from hspc_live.recording.live_file import LiveFile
from hspc_live.recording.stream import new_column, new_images
from hspc_live.recording.writer import camera_json


class ChamberWriter:
    """One chamber recording being written; `create` makes the file, `close` completes it. Not thread-safe."""

    def __init__(self, live: LiveFile, facts: ChamberFacts, classes: tuple[str, ...], pictures: bool) -> None:
        self._live = live
        self.path = live.path
        self._facts = facts
        self._classes = classes
        self._pictures = pictures
        self._visits: set[int] = set()

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        run_id: str,
        settings_json: str,
        facts: ChamberFacts,
        classes: tuple[str, ...],
        card_yaml: str,
        pipeline_id: str,
        versions: Mapping[str, str],
        crop_px: int,
        pictures: bool = True,
    ) -> Self:
        """Make the file with every dataset in it. `crop_px` is the edge of a crop (`core.crop`).

        Without `pictures` the fields are left out, and the recording cannot be replayed.

        Raises OutputError if `path` exists or cannot be written; then nothing has been touched.
        """
        with LiveFile.creating(Path(path)) as (live, file):
            group = file.create_group("hspc")
            group.attrs.update(
                {
                    "format": layout.FORMAT,
                    "run_id": run_id,
                    "started": calendar().astimezone().isoformat(),
                    "camera": json.dumps(camera_json(facts.camera)),
                    "stage": json.dumps({name: getattr(facts.stage, name) for name in type(facts.stage).__slots__}),
                    "channels": json.dumps(facts.channels),
                    "affine": facts.affine,
                    "affine_covariance": facts.affine_covariance,
                    "classes": json.dumps(classes),
                    "pipeline_id": pipeline_id,
                    "versions": json.dumps(dict(versions)),
                    "fields_recorded": pictures,
                    "closed": False,
                }
            )
            group["settings"] = settings_json
            group["card"] = card_yaml
            group["plan"] = layout.target_rows(facts.plan)
            writer = cls(live, facts, classes, pictures)
            writer._create_streams(group, crop_px)
        return writer

    def _create_streams(self, group: h5py.Group, crop_px: int) -> None:
        camera, channels = self._facts.camera, self._facts.channels
        shape = (camera.height_px, camera.width_px)
        fields, results, crops = (group.create_group(name) for name in ("fields", "results", "crops"))
        self._live.stream(
            "fields",
            {"image": new_images(fields, "image", shape, camera.dtype)}
            | {name: new_column(fields, name, dtype) for name, dtype in layout.FIELD_COLUMNS.items()},
        )
        self._live.stream(
            "results",
            {
                "labels": new_images(results, "labels", shape, "u2"),
                "rows": new_column(results, "rows", layout.FIELD_RESULT_DTYPE),
            },
        )
        self._live.stream(
            "crops",
            {"image": new_images(crops, "image", (crop_px, crop_px), camera.dtype)}
            | {name: new_column(crops, name, dtype) for name, dtype in layout.VIEW_COLUMNS.items()},
        )
        tables = {
            "visits": layout.VISIT_DTYPE,
            "objects": layout.object_dtype(channels),
            "scores": layout.score_dtype(len(self._classes)),
            "cells": layout.cell_dtype(self._classes, channels),
            "cell_looks": layout.LOOK_DTYPE,
            "revisited": layout.REVISITED_DTYPE,
        }
        for name, dtype in tables.items():
            self._live.stream(name, {"rows": new_column(group, name, dtype)})

    # ---- what a run hands over -------------------------------------------------------------------------------------

    def field(self, visit: Visit, found: FieldObjects | None) -> dict[str, int]:
        """Keep one visit with its pictures and what was found; returns the rows of each stream that are safe now.

        Raises RecordingError for a visit that was written before, an unknown channel, pictures of another shape or
        dtype than the camera promised, or a full disk.
        """
        if visit.number in self._visits:
            raise RecordingError(f"visit {visit.number} was recorded before: every field is kept once")
        self._check(visit, found)
        self._visits.add(visit.number)
        streams, channels = self._live.streams, self._facts.channels
        for picture in visit.pictures if self._pictures else ():
            frame = picture.frame
            numbers = (
                frame.index, visit.number, channels.index(picture.channel), frame.captured_ns, frame.received_ns
            )  # fmt: skip
            columns = dict(zip(layout.FIELD_COLUMNS, numbers, strict=True))
            streams["fields"].add(
                image=frame.pixels[None],
                **{name: np.array([columns[name]], dtype) for name, dtype in layout.FIELD_COLUMNS.items()},
            )
        streams["visits"].add(rows=layout.visit_rows(visit))
        if found is not None:
            rows = layout.object_rows(visit.number, found, channels)
            streams["results"].add(labels=found.labels[None], rows=layout.result_rows(visit.number, found))
            streams["objects"].add(rows=rows)
            views = rows["view"][rows["reject"] == 0]
            streams["crops"].add(
                image=found.result.crops, visit=np.full(len(views), visit.number, "<i8"), view=views.astype("<u4")
            )
        return self._live.flush()

    def scores(self, visit: int, views: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        """Keep scores (m, classes) of the views (m,) of one visit; they go to the file with the next field.

        Raises RecordingError where they do not fit each other or the classes.
        """
        if scores.shape != (len(views), len(self._classes)):
            raise RecordingError(f"{len(views)} views came with scores {scores.shape}, classes are {self._classes}")
        self._live.streams["scores"].add(rows=layout.score_rows(visit, views, scores))

    def cells(self, cells: Sequence[ChamberCell]) -> None:
        """Keep the last word on every object of the chamber. Raises RecordingError when the disk is full."""
        rows = layout.cell_rows(cells, self._classes, self._facts.channels)
        self._live.streams["cells"].add(rows=rows)
        self._live.streams["cell_looks"].add(rows=layout.look_rows(cells))
        self._live.flush()

    def revisited(self, cells: Sequence[Revisited]) -> None:
        """Keep what became of the listed cells. Raises RecordingError when the disk is full."""
        self._live.streams["revisited"].add(rows=layout.revisited_rows(cells))
        self._live.flush()

    def note(self, kind: str, detail: str, at_ns: int) -> None:
        """Keep something that was said; it goes to the file with the next field."""
        self._live.write_note(kind, detail, at_ns)

    def ledger(self, ledger: Mapping[str, Any]) -> None:
        """Append the ledgers as they stand; they go to the file with the next field."""
        self._live.write_ledger(ledger)

    def close(self, ledger: Mapping[str, Any] | None, summary: Mapping[str, Any] | None, missing: int = 0) -> None:
        """Write the final ledgers and the summary; the run is whole. `missing` visits could not be recorded.

        Without a ledger the file is made whole, but keeps saying that it was not closed. Harmless when called twice.
        Raises RecordingError when the disk is full.
        """
        if not self._live.open:
            return
        if ledger is not None:
            self.ledger(ledger)
        self._live.flush()
        self._live.complete(summary, {"closed": ledger is not None, "fields_missing": missing}, {})

    def _check(self, visit: Visit, found: FieldObjects | None) -> None:
        camera, channels = self._facts.camera, self._facts.channels
        shape, dtype = (camera.height_px, camera.width_px), np.dtype(camera.dtype)
        for picture in visit.pictures:
            pixels = picture.frame.pixels
            if picture.channel not in channels:
                raise RecordingError(f"visit {visit.number}: channel {picture.channel!r} is none of {channels}")
            if pixels.shape != shape or pixels.dtype != dtype:
                raise RecordingError(
                    f"visit {visit.number}: a picture of {pixels.shape} {pixels.dtype} does not belong into "
                    f"{self.path}, which holds {shape} {dtype}: start another run for another camera format"
                )
        if found is None:
            return
        crops, accepted = found.result.crops, int((found.result.objects["reject"] == 0).sum())
        edge = self._live.streams["crops"].datasets["image"].shape[1]
        if crops.shape != (accepted, edge, edge) or crops.dtype != dtype or found.labels.shape != shape:
            raise RecordingError(
                f"visit {visit.number}: crops {crops.shape} {crops.dtype} and labels {found.labels.shape} do not fit "
                f"{accepted} accepted objects of {edge} px in a picture of {shape} {dtype}"
            )
