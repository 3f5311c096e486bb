"""All that a run's folder holds, read once for all pictures: recording, truth, the sorter's diary, settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError

from hspc_live.core.values import CellRecord
from hspc_live.recording.layout import RESULT_DTYPE, STORED_OBJECT_DTYPE, VIEW_DTYPE
from hspc_live.recording.reader import Recording, open_recording
from hspc_live.recording.tables import cell_records
from hspc_live.settings.devices import ReplayCamera
from hspc_live.settings.schema import RunSettings
from hspc_live.twin.pulses import Diary, read_diary
from hspc_live.twin.truth import FlowTruth

RECORDING = "recording.rtdc"
TRUTH = "truth.npz"
DIARY = "pulses.jsonl"
TWIN = "digital twin"
"""What the twin's camera calls itself; it goes from recording to recording when one is replayed."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One run. `source` says whose data it is and stands in every title.

    `objects` and `results` are the recording's tables ordered by frame; `row_of` finds the row of `/events`, and of
    `views`, that shows a view. `measured` is False where times were virtual (a replay): they are no latency then.
    """

    recording: Recording
    source: str
    classes: tuple[str, ...]
    records: tuple[CellRecord, ...]
    objects: NDArray[np.void]
    results: NDArray[np.void]
    views: NDArray[np.void]
    row_of: Mapping[tuple[int, int], int]
    settings: RunSettings | None
    truth: FlowTruth | None
    diary: Diary | None
    summary: Mapping[str, Any]
    measured: bool

    @property
    def begin_ns(self) -> int:
        """Mid-exposure of the first frame with a result: the zero of all time axes."""
        return int(self.results["captured_ns"][0]) if len(self.results) else 0

    def in_frame(self, frame: int) -> NDArray[np.void]:
        """The detections of one frame."""
        low, high = np.searchsorted(self.objects["frame"], (frame, frame + 1))
        return self.objects[low:high]


@contextmanager
def gather(folder: Path, summary: Mapping[str, Any]) -> Iterator[Evidence]:
    """Open what lies in `folder`; truth and diary may be missing.

    Raises RecordingError when the recording, or a truth or diary that is there, cannot be read.
    """
    with open_recording(folder / RECORDING) as recording:
        settings = _settings(recording)
        views = _table(recording, "views", VIEW_DTYPE)
        latency_from = summary.get("latency_ms", {}).get("from") or (recording.summary or {}).get("latency_from")
        yield Evidence(
            recording=recording,
            source=_source(recording, settings, summary),
            classes=recording.classes,
            records=tuple(cell_records(recording)),
            objects=_table(recording, "objects", STORED_OBJECT_DTYPE),
            results=_table(recording, "results", RESULT_DTYPE),
            views=views,
            row_of={(frame, view): row for row, (frame, view, *_) in enumerate(views.tolist())},
            settings=settings,
            truth=FlowTruth.load(folder / TRUTH) if (folder / TRUTH).exists() else None,
            diary=read_diary(folder / DIARY) if (folder / DIARY).exists() else None,
            summary=summary,
            measured=latency_from in (None, "mid-exposure"),
        )


def _table(recording: Recording, name: str, dtype: np.dtype[Any]) -> NDArray[np.void]:
    rows = recording.table(name)
    if rows is None:
        return np.empty(0, dtype)
    return rows if name == "views" else rows[np.argsort(rows["frame"], kind="stable")]


def _settings(recording: Recording) -> RunSettings | None:
    """The run's settings; None where they are of another version of this program."""
    text = recording.settings_json
    try:
        return None if text is None else RunSettings.model_validate_json(text)
    except ValidationError:
        return None


def _source(recording: Recording, settings: RunSettings | None, summary: Mapping[str, Any]) -> str:
    replayed = settings.camera.path.name if settings and isinstance(settings.camera, ReplayCamera) else ""
    if recording.info.model == TWIN:
        source = "Digital twin, simulated cells" + (f" (replay of {replayed})" if replayed else "")
    elif replayed:
        source = f"Recording {replayed}"
    else:
        sample = settings.record.sample.name if settings else "sample"
        source = f"{sample}, run {recording.attributes.get('run_id', recording.path.name)}"
    if summary.get("engine", {}).get("name") == "null":
        source += " · null engine: says the first class of every cell"
    trained_on = _card(recording).get("modality", recording.info.modality)
    if trained_on != recording.info.modality:
        source += f" · {recording.info.modality}, but the model knows only {trained_on}: its verdicts mean nothing"
    return source


def _card(recording: Recording) -> dict[str, Any]:
    """The model's card as plain values; empty where there is none, or none that can be read."""
    try:
        card = yaml.safe_load(recording.card_yaml or "")
    except yaml.YAMLError:
        return {}
    return card if isinstance(card, dict) else {}
