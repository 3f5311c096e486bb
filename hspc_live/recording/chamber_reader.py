"""Opens the recording of a chamber run and gives back the values that went in: visits, objects, cells, second visits.

What cannot be read (cut short, damaged, never acknowledged before a crash) is left out and said in `loss`; of a visit
whose transmitted picture is gone, the visit itself is still given, with `UNREADABLE` as the reason for having none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.chamber import (
    ChamberCell,
    ChamberFacts,
    FieldObjects,
    Phase,
    Picture,
    Revisited,
    Settled,
    Visit,
)
from hspc_live.core.errors import RecordingError
from hspc_live.core.values import OBJECT_DTYPE, Frame, FrameResult, StageInfo, StageTarget
from hspc_live.recording import chamber_layout as layout
from hspc_live.recording import chamber_tables as tables
from hspc_live.recording import frame_table
from hspc_live.recording.layout import NONE
from hspc_live.recording.own_file import CHAMBER, OwnFile, format_of
from hspc_live.recording.recover import Source, runs

UNREADABLE: Final = "unreadable"


class ChamberRecording:
    """One open chamber recording. `loss` grows while pictures are read, as damage to them shows only then."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.path = source.path
        if not (format_of(source) or "").startswith(CHAMBER):
            raise RecordingError(f"{source.path} is not the recording of a chamber: it has no fields of view")
        self._own = OwnFile(source, layout.FORMAT)
        self.closed = self._own.closed
        self.classes = self._own.classes
        self.attributes = dict(self._own.attributes)
        self.warnings = list(self._own.warnings)
        self._losses = ["the file was cut short: what lies behind its end is lost"] if source.truncated else []
        self._losses += self._own.losses
        self._lost: dict[str, set[int]] = {}
        self.facts = self._facts()
        self._channels = self.facts.channels
        images = source.dataset("hspc/fields/image")
        if images is not None:
            frame_table.check_images(source, "hspc/fields/image", images)
        self._images = images
        self._visits = self._table("visits", layout.VISIT_DTYPE)
        self._fields = self._columns("fields", layout.FIELD_COLUMNS)
        self._objects = self._table("objects", layout.object_dtype(self._channels))
        self._results = self._table("results/rows", layout.FIELD_RESULT_DTYPE, stream="results")
        self._crops = self._columns("crops", layout.VIEW_COLUMNS)
        self.has_pictures = bool(self.attributes["fields_recorded"])
        self.missing = int(self.attributes.get("fields_missing", 0))
        if self.missing:
            self.warnings.append(f"{self.missing} visits could not be recorded: not replayable exactly")
        self._say_unreached()

    # ---- what the run was told -------------------------------------------------------------------------------------

    @property
    def exact(self) -> bool:
        """Whether a replay sees all that the run saw."""
        return self.has_pictures and self.missing == 0 and self.loss is None

    @property
    def loss(self) -> str | None:
        """What of the file could not be read so far, or None."""
        losses = list(self._losses)
        for what, numbers in self._lost.items():
            spans = [f"{a}" if a == b else f"{a}-{b}" for a, b in runs(sorted(numbers))]
            shown = ", ".join(spans[:10]) + (", …" if len(spans) > 10 else "")
            losses.append(f"{what} cannot be read at {len(numbers)} visits: {shown}")
        return "; ".join(losses) or None

    @property
    def settings_json(self) -> str | None:
        """The settings of the run as JSON text."""
        return self._own.text("settings")

    @property
    def card_yaml(self) -> str | None:
        """The card of the model that was used."""
        return self._own.text("card")

    @property
    def summary(self) -> dict[str, Any] | None:
        """The run's summary, where it came to its end."""
        return self._own.json("summary")

    def lines(self, name: Literal["notes", "ledger"]) -> list[dict[str, Any]]:
        """Notes, or the ledgers as they were written one after the other."""
        return self._own.lines(name)

    # ---- what was recorded -----------------------------------------------------------------------------------------

    @property
    def n_visits(self) -> int:
        """Visited fields, those without a picture too."""
        return len(self._visits)

    @property
    def n_pictures(self) -> int:
        """Exposures, of all channels and visits."""
        return len(self._fields["index"])

    def numbers(self, phase: Phase | None = None) -> list[int]:
        """The visits, in order; of one phase, or of both."""
        rows = self._visits if phase is None else self._visits[self._visits["phase"] == phase.value.encode()]
        return [int(number) for number in rows["visit"]]

    def targets(self, phase: Phase) -> dict[int, StageTarget]:
        """Where the stage was sent at each visit of a phase."""
        return {
            int(row["visit"]): _target(row["target"], row["target_x_um"], row["target_y_um"], row["cell"])
            for row in self._visits[self._visits["phase"] == phase.value.encode()]
        }

    def places(self, phase: Phase) -> NDArray[np.void]:
        """Where the stage stood at each visit of a phase, as it reported, and how many pictures were taken there."""
        rows = self._visits[self._visits["phase"] == phase.value.encode()]
        return np.asarray(rows[["x_um", "y_um", "pictures"]])

    def visits(self, phase: Phase | None = None) -> Iterator[Visit]:
        """Every visit once, in order, with its pictures as far as they can be read; the rest is booked in `loss`."""
        for number in self.numbers(phase):
            yield self.visit(number)

    def visit(self, number: int) -> Visit:
        """One visit. Raises KeyError for a number that is not in the recording."""
        at = np.flatnonzero(self._visits["visit"] == number)
        if not len(at):
            raise KeyError(f"visit {number}")
        row = self._visits[int(at[0])]
        wanted = int(row["pictures"]) if self.has_pictures else 0
        pictures = tuple(self._pictures(number, wanted))
        reason = str(row["unsettled"].decode())
        if wanted and not pictures:
            reason = UNREADABLE
        moved = float(row["moved_um"])
        return Visit(
            number=number,
            phase=Phase(row["phase"].decode()),
            target=_target(row["target"], row["target_x_um"], row["target_y_um"], row["cell"]),
            x_um=float(row["x_um"]),
            y_um=float(row["y_um"]),
            settled=Settled(
                reason, int(row["settle_looks"]), int(row["settle_ns"]), None if np.isnan(moved) else moved
            ),
            pictures=pictures,
        )

    def objects(self, number: int) -> FieldObjects | None:
        """What segmentation found at a visit; None where it had no picture, or that cannot be read.

        Crops or labels that cannot be read are zeros, and booked in `loss`.
        """
        at = np.flatnonzero(self._results["visit"] == number)
        if not len(at):
            return None
        head = self._results[int(at[0])]
        rows = self._objects[self._objects["visit"] == number]
        if len(rows) != int(head["objects"]):
            self._lose("the objects", number)
            return None
        objects = np.zeros(len(rows), OBJECT_DTYPE)
        for name in OBJECT_DTYPE.names or ():
            objects[name] = rows[name]
        camera = self.facts.camera
        none = np.empty((0, 0, 0), camera.dtype)
        result = FrameResult(
            index=int(head["frame"]),
            captured_ns=int(head["captured_ns"]),
            objects=objects,
            crops=self._crops_of(number),
            windows=none,
            masks=none.astype(np.uint8),
            background=int(head["background"]),
            over_cap=int(head["over_cap"]),
            alarms=tuple(filter(None, head["alarms"].decode().split(","))),
            segment_ns=int(head["segment_ns"]),
        )
        labels = self._picture("hspc/results/labels", int(at[0]))
        if labels is None:
            self._lose("the outlines", number)
            labels = np.zeros((camera.height_px, camera.width_px), np.uint16)
        glow = {name: rows["glow"][:, i].copy() for i, name in enumerate(self._channels[1:])}
        reasons = tuple(reason.decode() for reason in rows["reason"].tolist())
        return FieldObjects(result, rows["whole"].astype(bool), reasons, labels, glow)

    def table(self, name: Literal["visits", "results/rows", "objects"]) -> NDArray[np.void]:
        """One of the tables that the visits are made of, as rows."""
        return {"visits": self._visits, "results/rows": self._results, "objects": self._objects}[name]

    def scores(self) -> NDArray[np.void]:
        """Rows of `score_dtype`: visit, view, scores."""
        return self._table("scores", layout.score_dtype(len(self.classes)))

    def cells(self) -> list[ChamberCell]:
        """Every object of the chamber, in the order in which they were written; empty for a run that was cut off."""
        rows = self._table("cells", layout.cell_dtype(self.classes, self._channels))
        return tables.chamber_cells(rows, self._table("cell_looks", layout.LOOK_DTYPE), self._channels)

    def revisited(self) -> list[Revisited]:
        """What became of the listed cells at the second visits."""
        return tables.revisited_cells(self._table("revisited", layout.REVISITED_DTYPE))

    def close(self) -> None:
        """Let go of the file; harmless when called twice."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _facts(self) -> ChamberFacts:
        attributes = self.attributes
        stage = json.loads(attributes["stage"])
        for name in ("x_limits_um", "y_limits_um"):
            stage[name] = tuple(stage[name])
        matrix = np.array(attributes["affine"], np.float64).reshape(2, 3)
        covariance = np.array(attributes["affine_covariance"], np.float64).reshape(6, 6)
        plan = self._source.column("hspc/plan")
        if plan is None:
            self._losses.append("the plan of the scan cannot be read")
            plan = np.empty(0, layout.TARGET_DTYPE)
        targets = tuple(_target(*row) for row in plan.tolist())
        channels = tuple(json.loads(attributes["channels"]))
        return ChamberFacts(self._own.camera(), StageInfo(**stage), channels, matrix, covariance, targets)

    def _table(self, name: str, dtype: np.dtype[Any], stream: str | None = None) -> NDArray[np.void]:
        """A table as far as it is good; an empty one, and said, where it is missing or of other columns."""
        rows = self._source.column(f"hspc/{name}", self._own.limit(stream or name))
        if rows is None or rows.dtype != dtype:
            self._losses.append(f"the table {name} cannot be read")
            return np.empty(0, dtype)
        dataset = self._source.dataset(f"hspc/{name}")
        wanted = 0 if dataset is None else len(dataset)
        limit = self._own.limit(stream or name)
        wanted = wanted if limit is None else min(limit, wanted)
        if len(rows) < wanted:
            self._losses.append(f"{wanted - len(rows)} of {wanted} rows of {name} cannot be read")
        return rows

    def _columns(self, group: str, columns: dict[str, str]) -> dict[str, NDArray[Any]]:
        """The columns beside the pictures of `group`, as long as the shortest of them."""
        found = {name: self._source.column(f"hspc/{group}/{name}", self._own.limit(group)) for name in columns}
        missing = [name for name, values in found.items() if values is None]
        if missing:
            self._losses.append(f"{group}/{', '.join(missing)} cannot be read")
            return {name: np.empty(0, dtype) for name, dtype in columns.items()}
        rows = {name: values for name, values in found.items() if values is not None}
        n = min(len(values) for values in rows.values())
        if any(len(values) > n for values in rows.values()):
            self._losses.append(f"the columns of {group} differ in length: the first {n} rows are taken")
        return {name: values[:n] for name, values in rows.items()}

    def _pictures(self, number: int, wanted: int) -> Iterator[Picture]:
        rows = np.flatnonzero(self._fields["visit"] == number).tolist()
        if len(rows) < wanted:
            self._lose("pictures", number)
        for row in rows:
            channel = int(self._fields["channel"][row])
            pixels = self._picture("hspc/fields/image", row) if channel < len(self._channels) else None
            if pixels is None:
                self._lose("pictures", number)
                if channel == 0:
                    return  # without the transmitted picture nothing is found, and the others say nothing
                continue
            frame = Frame(
                int(self._fields["index"][row]),
                int(self._fields["captured_ns"][row]),
                int(self._fields["received_ns"][row]),
                pixels,
            )
            yield Picture(self._channels[channel], frame)

    def _crops_of(self, number: int) -> NDArray[Any]:
        rows = np.flatnonzero(self._crops["visit"] == number)
        dataset = self._source.dataset("hspc/crops/image")
        edge = 0 if dataset is None else dataset.shape[1]
        if dataset is None or not len(rows):
            return np.empty((0, edge, edge), self.facts.camera.dtype)
        values, good = self._source.rows(dataset, int(rows[0]), int(rows[-1]) + 1)
        if not good.all():
            self._lose("crops", number)
        return values

    def _picture(self, name: str, row: int) -> NDArray[Any] | None:
        dataset: h5py.Dataset | None = self._source.dataset(name)
        if dataset is None or not 0 <= row < len(dataset):
            return None
        values, good = self._source.rows(dataset, row, row + 1)
        return values[0] if good[0] else None

    def _lose(self, what: str, number: int) -> None:
        self._lost.setdefault(what, set()).add(number)

    def _say_unreached(self) -> None:
        """A run that was cut off: how much of its plan the file does not show."""
        reached, planned = len(self.numbers(Phase.SCAN)), len(self.facts.plan)
        if not self.closed and reached < planned:
            self._losses.append(f"of {planned} planned fields, {planned - reached} were not recorded")


def _target(number: int, x_um: float, y_um: float, cell: int) -> StageTarget:
    return StageTarget(int(number), float(x_um), float(y_um), None if cell == NONE else int(cell))


def open_chamber(path: str | Path) -> ChamberRecording:
    """Open a chamber recording for reading.

    Raises RecordingError for a file that is missing, empty, not HDF5, no chamber recording, or damaged where it
    describes itself.
    """
    source = Source(Path(path))
    try:
        return ChamberRecording(source)
    except (KeyError, ValueError, TypeError, OSError, RuntimeError) as error:
        source.close()
        raise RecordingError(f"{path} is damaged where it describes itself: {error}") from error
    except RecordingError:
        source.close()
        raise
