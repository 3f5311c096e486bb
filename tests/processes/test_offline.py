"""The whole path in virtual time: the same answer every time, nothing lost, and a sorter that really sorts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from hspc_drivers.virtual_sorter import VirtualSorter
from hspc_live.core.clock import VirtualClock
from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import OutputError, SettingsError
from hspc_live.core.events import Gated
from hspc_live.core.values import FrameResult, Pixels
from hspc_live.processes.calibrate import calibrate, write_calibration
from hspc_live.processes.offline import OfflineResult, run_offline, segment_frames
from hspc_live.processes.virtual_twin import twin_frames
from hspc_live.settings.devices import ReplayCamera, SimulatedCamera, SimulatedSorter
from hspc_live.settings.schema import RunSettings
from hspc_live.settings.sort import Outlet, ScoreGate, SortSettings
from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.stages.sort_core import SortCore
from hspc_live.twin.flow import FlowTwin
from hspc_live.twin.pulses import Diary
from hspc_live.twin.score import Filmed, score_sort

START_NS = 1_000_000_000
TWIN = TwinFlowSettings(seed=11, height_px=160, events_per_s=8.0)
SORT = SortSettings(outlets=(Outlet(name="bright", gate=ScoreGate(class_name="bright", min=0.34), mode="recovery"),))
SETTINGS = RunSettings(camera=SimulatedCamera(twin=TWIN), sort=SORT)
FRAMES = 600


@dataclass
class BrightnessEngine:
    """Scores by the crop's spread of grey: any function of the pixels will do."""

    name: str = "brightness"
    precision: str = "fp32"
    classes: tuple[str, ...] = ("bright", "dull")
    buckets: tuple[int, ...] = (1, 64)

    def warm_up(self) -> dict[int, float]:
        return {1: 0.1, 64: 0.1}

    def infer(self, crops: Pixels) -> NDArray[np.float32]:
        share = np.clip(crops.astype(np.float32).std(axis=(1, 2)) / 20.0, 0.0, 1.0)
        return np.stack([share, 1.0 - share], axis=1)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def filmed() -> tuple[FrameResult, ...]:
    twin = FlowTwin(TWIN)
    return tuple(segment_frames(twin_frames(twin, FRAMES, START_NS), twin.info(), SETTINGS, CropGeometry()))


def _run(results: tuple[FrameResult, ...], **sorter: float) -> tuple[OfflineResult, Diary]:
    clock = VirtualClock(START_NS)
    device = VirtualSorter(SimulatedSorter(kind="simulated", **sorter), clock)
    device.open()
    engine = BrightnessEngine()
    result = run_offline(results, engine, SortCore(SORT, engine.classes), clock, device)
    device.close()
    return result, device.diary


def test_the_same_twice_and_the_books_balance(filmed: tuple[FrameResult, ...]) -> None:
    first, diary = _run(filmed)
    second, again = _run(filmed)
    assert first.decisions_sha256 == second.decisions_sha256
    assert first.outcomes_sha256 == second.outcomes_sha256
    assert diary == again
    assert first.violations == [] and first.disarmed == []
    assert len(first.records) == first.ledgers["cells"]["tracked"] > 5
    assert first.ledgers["commands"]["fired"] == len(first.commands) == len(first.receipts) > 3
    assert sum(isinstance(action, Gated) for action in first.actions) > 5


def test_the_pulses_catch_the_cells_they_are_meant_for(filmed: tuple[FrameResult, ...]) -> None:
    truth = FlowTwin(TWIN).truth(FRAMES, START_NS)
    camera = Filmed(filmed[0].captured_ns, filmed[-1].captured_ns, TWIN.width_px * TWIN.um_per_px)
    _, diary = _run(filmed)
    _, off_target = _run(filmed, delay_error_ms=150.0)
    right, wrong = (score_sort(d, truth, SORT.outlets, camera) for d in (diary, off_target))
    assert right["pulses"] == wrong["pulses"] > 3
    assert right["collected"] >= 0.9 * right["pulses"]
    assert wrong["collected"] < 0.6 * wrong["pulses"]


def test_a_gap_in_the_frames_is_a_dropped_frame(filmed: tuple[FrameResult, ...]) -> None:
    result, _ = _run((*filmed[:100], *filmed[103:]))
    assert result.ledgers["frames"]["dropped"] == {"gap": 3}
    assert result.violations == []


def test_no_frames_at_all() -> None:
    result, diary = _run(())
    assert result.records == [] and result.violations == [] and diary.pulses == ()


def test_calibration_finds_the_delay_that_the_sorter_has(tmp_path: Path) -> None:
    settings = RunSettings(camera=SimulatedCamera(twin=TwinFlowSettings(height_px=160)))
    hidden_ms = 7.0

    def sorter(clock: VirtualClock) -> VirtualSorter:
        return VirtualSorter(SimulatedSorter(kind="simulated", delay_error_ms=hidden_ms), clock)

    geometric = (settings.sort.timing.junction_um - settings.sort.close.decision_line_um) / 4.0
    delays = tuple(geometric + step for step in range(-20, 31, 5))
    date = "2024-06-07T12:00:00+00:00"
    found = calibrate(settings, BrightnessEngine(), sorter, date, delays_ms=delays, beads_per_delay=30)
    true_ms = geometric * 4000.0 / found.velocity_um_s + hidden_ms
    assert abs(found.delay_ms - true_ms) < 4 * found.sd_ms + 0.5
    assert found.sd_ms < 2.0
    path = tmp_path / "delay.yaml"
    write_calibration(path, found)
    merged = RunSettings.model_validate(yaml.safe_load(path.read_text()))
    assert merged.sort.timing.sort_delay_ms == pytest.approx(found.delay_ms, abs=1e-3)
    assert merged.sort.timing.sort_delay_velocity_um_s == pytest.approx(found.velocity_um_s, abs=0.1)
    assert merged.sort.timing.sort_delay_date == datetime.fromisoformat(date)
    with pytest.raises(OutputError, match=r"delay\.yaml"):
        write_calibration(path, found)


def test_a_recording_cannot_be_calibrated_on() -> None:
    settings = RunSettings(camera=ReplayCamera(kind="replay", path=Path("some.rtdc")))

    def sorter(clock: VirtualClock) -> VirtualSorter:
        return VirtualSorter(SimulatedSorter(kind="simulated"), clock)

    with pytest.raises(SettingsError, match="simulated camera"):
        calibrate(settings, BrightnessEngine(), sorter, "")
