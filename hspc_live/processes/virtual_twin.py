"""A whole run on the digital twin in virtual time, judged against truth: for seeds, cards and calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from hspc_live.core.clock import NS_PER_S, VirtualClock
from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import SettingsError
from hspc_live.core.protocols import Engine, Sorter
from hspc_live.core.values import Frame
from hspc_live.processes.offline import OfflineResult, run_offline, segment_frames
from hspc_live.settings.devices import SimulatedCamera
from hspc_live.settings.schema import RunSettings
from hspc_live.stages.sort_core import SortCore
from hspc_live.twin.flow import FlowTwin, mid_exposure_ns
from hspc_live.twin.pulses import Diary
from hspc_live.twin.score import Filmed, score_cells, score_sort
from hspc_live.twin.truth import FlowTruth

START_NS = NS_PER_S


class DiarySorter(Sorter, Protocol):
    """A sorter that keeps a diary of what it physically did."""

    @property
    def diary(self) -> Diary:
        """What the device did so far."""
        ...


MakeSorter = Callable[[VirtualClock], DiarySorter]


@dataclass(frozen=True, slots=True, eq=False)
class TwinRun:
    """One run: what the pipeline did, what was true, and the two joined (`twin.score`)."""

    result: OfflineResult
    truth: FlowTruth
    diary: Diary
    sort: dict[str, Any]
    cells: dict[str, Any]


def twin_frames(twin: FlowTwin, frames: int, start_ns: int) -> Iterator[Frame]:
    """Frames 0 … frames - 1 of the twin as a camera without delay gives them; the stream begins at `start_ns`."""
    for index in range(frames):
        at_ns = start_ns + mid_exposure_ns(twin.settings, index)
        yield Frame(index, at_ns, at_ns, twin.render(index))


def run_twin(
    settings: RunSettings, engine: Engine, geometry: CropGeometry, make_sorter: MakeSorter, seconds: float, seed: int
) -> TwinRun:
    """Film `seconds` of the simulated camera's channel with another `seed`, armed throughout.

    `geometry` is that of the engine's crops. Raises SettingsError if the camera is not the simulated one.
    """
    if not isinstance(settings.camera, SimulatedCamera):
        raise SettingsError("camera.kind: a run on the twin needs the simulated camera")
    twin = FlowTwin(settings.camera.twin.model_copy(update={"seed": seed}))
    frames = math.ceil(seconds * twin.settings.frames_per_s)
    results = segment_frames(twin_frames(twin, frames, START_NS), twin.info(), settings, geometry)
    clock = VirtualClock(START_NS)
    core = SortCore(settings.sort, engine.classes)
    sorter = make_sorter(clock)
    sorter.open()
    try:
        batch = settings.pipeline.batch_frames
        result = run_offline(results, engine, core, clock, sorter, batch_frames=batch)
    finally:
        sorter.close()
    truth = twin.truth(frames, START_NS)
    width_um = twin.settings.width_px * twin.settings.um_per_px
    filmed = Filmed(result.first_ns or START_NS, result.last_ns or START_NS, width_um)
    return TwinRun(
        result=result,
        truth=truth,
        diary=sorter.diary,
        sort=score_sort(sorter.diary, truth, settings.sort.outlets, filmed),
        cells=score_cells(result.records, truth, engine.classes),
    )
