"""A small run made by hand, written by the recorder itself: its pictures can be checked against what went in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from hspc_live.core.values import (
    OBJECT_DTYPE,
    CameraInfo,
    CellOutcome,
    CellRecord,
    Classification,
    FrameResult,
    Modality,
    Reject,
)
from hspc_live.recording.writer import RecordingWriter
from hspc_live.settings.devices import ReplayCamera, SimulatedSorter
from hspc_live.settings.schema import RunSettings
from hspc_live.settings.sort import Outlet, ScoreGate, SortSettings
from hspc_live.twin.pulses import Armed, Pulse, to_line
from hspc_live.twin.truth import SIGHTING_DTYPE, TRUTH_DTYPE, FlowTruth

CLASSES = ("LT-HSC", "ST-HSC", "MPP")
KINDS = (*CLASSES, "debris", "dead")
CAMERA = CameraInfo(64, 320, "uint8", 0.25, 100.0, Modality.DIC, shear_axis_deg=45.0, model="digital twin")
WINDOW = 40
MS = 1_000_000
START_NS = 1_000_000_000
STEP_PX = 60
FRAMES = 60


@dataclass(frozen=True)
class Cell:
    """What one cell of the run is, and what is said of it. Seen in three frames, 15 µm apart, from `frame` on."""

    frame: int
    kind: str
    said: str
    score: float = 0.9
    outcome: CellOutcome = CellOutcome.PASSED
    y_px: int = 32


CELLS = (
    Cell(4, "LT-HSC", "LT-HSC", 0.95, CellOutcome.SORTED),
    Cell(12, "LT-HSC", "LT-HSC", 0.71, CellOutcome.SORTED),
    Cell(20, "ST-HSC", "LT-HSC", 0.62, CellOutcome.SORTED),
    Cell(28, "ST-HSC", "ST-HSC", 0.85),
    Cell(36, "MPP", "MPP", 0.99),
    Cell(44, "MPP", "MPP", 0.41, CellOutcome.ABSTAINED),
    Cell(52, "dead", "ST-HSC", 0.55),
)


def captured(frame: int) -> int:
    return START_NS + frame * 10 * MS


def record_of(number: int, cell: Cell) -> CellRecord:
    rest = (1.0 - cell.score) / 2
    scores = tuple(cell.score if name == cell.said else rest for name in CLASSES)
    last = captured(cell.frame + 2)
    is_sorted = cell.outcome is CellOutcome.SORTED
    return CellRecord(
        cell=number,
        first_frame=cell.frame,
        last_frame=cell.frame + 2,
        views=tuple((cell.frame + look, 0) for look in range(3)),
        outcome=cell.outcome,
        reason="low_score" if cell.outcome is CellOutcome.ABSTAINED else "",
        outlet="LT-HSC" if is_sorted else None,
        classification=Classification(number, scores, cell.said, 3),
        velocity_um_s=1500.0,
        velocity_sd_um_s=5.0,
        arrival_ns=last + 600 * MS,
        arrival_sd_ns=2 * MS,
        y_um=cell.y_px * 0.25,
        last_capture_ns=last,
        decided_ns=last + (10 + number) * MS,
        latency_ns=(10 + number) * MS,
        command=number if is_sorted else None,
        features={"x_um": (40 + STEP_PX) * 0.25, "y_um": cell.y_px * 0.25, "diameter_um": 8.0},
    )


def _row(x_px: int, y_px: int, radius: int, reject: Reject) -> tuple[float, ...]:
    box = (x_px - radius, y_px - radius, x_px + radius + 1, y_px + radius + 1)
    um = CAMERA.um_per_px
    return (x_px * um, y_px * um, 50.0, 2 * radius * um, 0.01, 120.0, 20.0, 0.4, *box, int(reject))


def result_of(frame: int, cells: Sequence[Cell], rng: np.random.Generator) -> tuple[np.ndarray, FrameResult]:
    """One frame with the cells that are in it, a speck of debris in every tenth, and what was found."""
    pixels = rng.integers(95, 105, (CAMERA.height_px, CAMERA.width_px), dtype=np.uint8)
    found = [
        (40 + (frame - cell.frame) * STEP_PX, cell.y_px, 16, Reject.ACCEPTED)
        for cell in cells
        if 0 <= frame - cell.frame < 3
    ]
    if frame % 10 == 0:
        found.append((280, 20, 4, Reject.DEBRIS))
    ys, xs = np.mgrid[: CAMERA.height_px, : CAMERA.width_px]
    windows = np.empty((len(found), WINDOW, WINDOW), np.uint8)
    masks = np.zeros((len(found), WINDOW, WINDOW), np.uint8)
    for i, (x, y, radius, _) in enumerate(found):
        disc = (xs - x) ** 2 + (ys - y) ** 2 <= radius**2
        pixels[disc] = np.where(xs[disc] < x, 180, 40)
        x0 = int(np.clip(x - WINDOW // 2, 0, CAMERA.width_px - WINDOW))
        y0 = int(np.clip(y - WINDOW // 2, 0, CAMERA.height_px - WINDOW))
        windows[i] = pixels[y0 : y0 + WINDOW, x0 : x0 + WINDOW]
        masks[i] = disc[y0 : y0 + WINDOW, x0 : x0 + WINDOW]
    objects = np.array([_row(*item) for item in found], OBJECT_DTYPE)
    crops = np.zeros((sum(item[3] == 0 for item in found), 64, 64), np.uint8)
    return pixels, FrameResult(frame, captured(frame), objects, crops, windows, masks, 0)


def truth_of(cells: Sequence[Cell]) -> FlowTruth:
    objects, sightings = [], []
    for number, cell in enumerate(cells):
        junction = captured(cell.frame + 2) + 600 * MS
        kind = KINDS.index(cell.kind)
        y_um = cell.y_px * 0.25
        entry = captured(cell.frame) - 7 * MS
        objects.append((number, kind, 8.0, y_um, 1500.0, entry, junction, 0.0, False, False, (0, 0, 0)))
        sightings += [(cell.frame + look, number, (40 + look * STEP_PX) * 0.25, y_um, 0.0, False) for look in range(3)]
    return FlowTruth(KINDS, np.array(objects, TRUTH_DTYPE), np.array(sightings, SIGHTING_DTYPE))


def settings_of(replay: str | None) -> RunSettings:
    gate = ScoreGate(class_name="LT-HSC", min=0.5)
    settings = RunSettings(
        sorter=SimulatedSorter(kind="simulated"), sort=SortSettings(outlets=(Outlet(name="LT-HSC", gate=gate),))
    )
    return (
        settings
        if replay is None
        else settings.model_copy(update={"camera": ReplayCamera(kind="replay", path=Path(replay))})
    )


WriteRun = Callable[..., Path]


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Writes a run's folder: `cells` go by, with or without truth and sorter, frames kept or not."""

    def write(
        cells: Sequence[Cell] = CELLS, *, truth: bool = True, frames: bool = True, replay: str | None = None,
        model: str = CAMERA.model, card: str = "",
    ) -> Path:  # fmt: skip
        folder = tmp_path / "run"
        folder.mkdir()
        writer = RecordingWriter.create(
            folder / "recording.rtdc",
            run_id="20240607T000000Z-abcdef",
            settings_json=settings_of(replay).model_dump_json(),
            camera=replace(CAMERA, model=model),
            classes=CLASSES,
            card_yaml=card,
            pipeline_id="0" * 64,
            versions={"hspc_live": "0"},
            window=(WINDOW, WINDOW),
            record_frames=frames,
        )
        rng = np.random.default_rng(7)
        for frame in range(FRAMES):
            pixels, result = result_of(frame, cells, rng)
            writer.write_frame(frame, captured(frame), pixels, 0)
            writer.write_result(result)
        writer.write_cells([record_of(number, cell) for number, cell in enumerate(cells)])
        writer.close({}, {})
        if truth:
            truth_of(cells).save(folder / "truth.npz")
            lines = [to_line(Armed(at_ns=0, on=True))]
            for number, cell in enumerate(cells):
                if cell.outcome is CellOutcome.SORTED:
                    at = captured(cell.frame + 2) + 600 * MS
                    times = (at - 5 * MS, at + 5 * MS)
                    lines.append(to_line(Pulse(number, "LT-HSC", *times, *times)))
            (folder / "pulses.jsonl").write_bytes(b"".join(lines))
        return folder

    return write
