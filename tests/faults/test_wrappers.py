"""Devices with faults: each does what its fault says, tells it, and is the plain device otherwise."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest

from hspc_drivers.chamber_world import ChamberWorld
from hspc_drivers.simulated_camera import SimulatedFlowCamera
from hspc_drivers.simulated_stage import SimulatedStage
from hspc_drivers.virtual_sorter import VirtualSorter
from hspc_live.core.clock import HostClock, VirtualClock
from hspc_live.core.errors import DeviceError
from hspc_live.core.protocols import EndOfStream
from hspc_live.core.values import Frame, ReceiptKind, SortCommand, StageTarget
from hspc_live.faults.camera import FaultyCamera
from hspc_live.faults.engine import FaultyEngine
from hspc_live.faults.schedule import Injector
from hspc_live.faults.sorter import FaultySorter
from hspc_live.faults.stage import FaultyStage
from hspc_live.settings.chamber_twin import TwinChamberSettings, TwinStageSettings
from hspc_live.settings.devices import SimulatedCamera, SimulatedSorter
from hspc_live.settings.faults import FaultPlan
from hspc_live.settings.twin import TwinFlowSettings
from hspc_models.engines.null import ImmediateEngine

MS = 1_000_000
SECOND = 1_000_000_000
TWIN = TwinFlowSettings(height_px=64, width_px=128, um_per_px=0.34, events_per_s=1.0, dust=0)


def made(*faults: dict[str, object]) -> tuple[Injector, Counter[str]]:
    counted = Counter[str]()
    plan = FaultPlan.model_validate({"faults": faults})
    return Injector(plan, lambda: 0.0, lambda fault, _: counted.update([fault])), counted


# ---- cameras ---------------------------------------------------------------------------------------------------------


def filmed(*faults: dict[str, object], frames: int = 8) -> tuple[list[Frame], Counter[str]]:
    injector, counted = made(*faults)
    twin = SimulatedFlowCamera(SimulatedCamera(twin=TWIN, frames=frames), HostClock(), paced=False)
    camera = FaultyCamera(twin, injector)
    camera.open()
    camera.start()
    out: list[Frame] = []
    try:
        while True:
            frame = camera.read(0.1)
            if frame is not None:
                out.append(frame)
    except EndOfStream:
        pass
    finally:
        camera.stop()
        camera.close()
    assert camera.exposed == frames
    return out, counted


@pytest.mark.parametrize(
    ("fault", "indices"),
    [
        ({"kind": "drop", "at_frame": 3, "count": 2}, [0, 1, 2, 5, 6, 7]),
        ({"kind": "duplicate", "at_frame": 3}, [0, 1, 2, 3, 3, 4, 5, 6, 7]),
        ({"kind": "reorder", "at_frame": 3}, [0, 1, 2, 4, 3, 5, 6, 7]),
        ({"kind": "corrupt", "at_frame": 3}, list(range(8))),
    ],
)
def test_frames_go_missing_double_or_wander(fault, indices):
    frames, counted = filmed(fault)
    assert [frame.index for frame in frames] == indices and counted == {fault["kind"]: 1}


def test_only_the_frame_that_was_meant_is_spoilt():
    plain, _ = filmed({"kind": "drop", "at_frame": 100})
    spoilt, _ = filmed({"kind": "corrupt", "at_frame": 3, "how": "black"})
    same = [bool(np.array_equal(a.pixels, b.pixels)) for a, b in zip(plain, spoilt, strict=True)]
    assert same == [True, True, True, False, True, True, True, True] and spoilt[3].pixels.max() == 0


def test_a_camera_that_is_unplugged_stays_so():
    injector, counted = made({"kind": "disconnect", "at_frame": 2})
    camera = FaultyCamera(SimulatedFlowCamera(SimulatedCamera(twin=TWIN), HostClock(), paced=False), injector)
    camera.open()
    camera.start()
    camera.read(0.1)
    camera.read(0.1)
    for _ in range(2):
        with pytest.raises(DeviceError, match="fault plan"):
            camera.read(0.1)
    assert camera.exposed is None and counted == {"disconnect": 1}
    camera.close()


# ---- engines ---------------------------------------------------------------------------------------------------------


def test_an_engine_fails_as_often_as_planned_and_then_works():
    injector, counted = made({"kind": "out_of_memory", "at_s": 0, "above": 1}, {"kind": "nan", "at_s": 0, "count": 2})
    engine = FaultyEngine(ImmediateEngine(("a", "b")), injector)
    crops = np.zeros((2, 8, 8), np.uint8)
    assert np.isnan(engine.infer(crops[:1])).all(), "one crop is not above the limit"
    with pytest.raises(MemoryError):
        engine.infer(crops)
    assert np.isnan(engine.infer(crops)).all()
    assert np.isfinite(engine.infer(crops)).all()
    assert counted == {"out_of_memory": 1, "nan": 2}


def test_scores_wander_and_drift():
    class Numbered(ImmediateEngine):
        def infer(self, crops):
            share = np.arange(len(crops), dtype=np.float32) / 10
            return np.stack((share, 1 - share), axis=1)

    crops = np.zeros((3, 8, 8), np.uint8)
    wrong = FaultyEngine(Numbered(("a", "b")), made({"kind": "wrong_rows", "at_s": 0})[0])
    np.testing.assert_allclose(wrong.infer(crops)[:, 0], [0.2, 0.0, 0.1], atol=1e-6)
    off = FaultyEngine(Numbered(("a", "b")), made({"kind": "drift", "at_s": 0, "by": 0.3})[0])
    np.testing.assert_allclose(off.infer(crops), [[0.3, 0.7], [0.4, 0.6], [0.5, 0.5]], atol=1e-6)


# ---- sorters ---------------------------------------------------------------------------------------------------------


def sorter(*faults: dict[str, object]) -> tuple[FaultySorter, VirtualSorter, Counter[str]]:
    injector, counted = made(*faults)
    device = VirtualSorter(SimulatedSorter(kind="simulated", watchdog_ms=1e12), HostClock())
    wrapped = FaultySorter(device, injector)
    wrapped.open()
    wrapped.arm()
    return wrapped, device, counted


def command(number: int, in_ms: float) -> SortCommand:
    at_ns = time.perf_counter_ns() + round(in_ms * MS)
    return SortCommand(number, number, "left", at_ns, 4 * MS, at_ns - 10 * MS, 0)


def receipts(wrapped: FaultySorter, seconds: float) -> dict[int, tuple[ReceiptKind, str]]:
    found: dict[int, tuple[ReceiptKind, str]] = {}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for receipt in wrapped.poll():
            assert receipt.command not in found, "one answer for each command"
            found[receipt.command] = (receipt.kind, receipt.reason)
        time.sleep(0.005)
    return found


def test_what_is_refused_or_late_is_not_fired_and_not_tried_again():
    wrapped, device, counted = sorter({"kind": "nak", "at_s": 0}, {"kind": "late", "at_s": 0, "by_ms": 200})
    for number, in_ms in enumerate((100.0, 100.0, 600.0)):
        wrapped.send(command(number, in_ms))
    found = receipts(wrapped, 0.9)
    assert found[0] == (ReceiptKind.REFUSED, "nak")
    assert found[1] == (ReceiptKind.REFUSED, "too_late") and found[2][0] is ReceiptKind.FIRED
    assert [pulse.command for pulse in device.diary.pulses] == [2]
    assert counted == {"nak": 1, "late": 1}


def test_a_dead_wire_is_said_and_nothing_goes_over_it():
    wrapped, device, counted = sorter({"kind": "silence", "at_s": 0, "seconds": 60})
    wrapped.send(command(0, 100.0))
    with pytest.raises(DeviceError, match="silent"):
        receipts(wrapped, 5.0)
    with pytest.raises(DeviceError, match="does not answer"):
        wrapped.arm()
    wrapped.disarm()
    wrapped.close()
    assert not device.diary.pulses and counted == {"silence": 1}


# ---- stages ----------------------------------------------------------------------------------------------------------


def test_a_slipped_table_is_not_where_its_stage_says():
    steady = TwinStageSettings(slip_chance=0, backlash_um=0, drift_um_per_min=0, ringing_um=0)
    twin = TwinChamberSettings(height_px=64, width_px=128, width_mm=0.1, height_mm=0.1, stage=steady)
    world = ChamberWorld(twin, VirtualClock(SECOND))
    injector, counted = made({"kind": "slip", "at_frame": 1, "x_um": 7.0, "y_um": -2.0})
    stage = FaultyStage(SimulatedStage(world), injector, world.slip)
    stage.open()
    for move, off in enumerate([(0.0, 0.0), (7.0, -2.0), (7.0, -2.0)]):
        stage.move_to(StageTarget(move, 100.0 + move, 50.0))
        receipt = stage.wait(10.0)
        assert receipt is not None and (receipt.x_um, receipt.y_um) == pytest.approx((100.0 + move, 50.0))
        world.expose(world.channels[0], None)
        assert tuple(world.truth().stage_error_um(world.now_ns())) == pytest.approx(off, abs=0.06)
    assert counted == {"slip": 1}
    stage.close()
