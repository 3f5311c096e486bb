"""One suite for every stage: what a chamber run may rely on, whatever stands behind the protocol."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from hspc_drivers.chamber_world import ChamberWorld
from hspc_drivers.micromanager_core import CoreSession
from hspc_drivers.micromanager_stage import MicroManagerStage
from hspc_drivers.simulated_stage import SimulatedStage
from hspc_live.core.clock import HostClock, VirtualClock
from hspc_live.core.errors import DeviceError
from hspc_live.core.protocols import Stage
from hspc_live.core.values import StageTarget
from hspc_live.settings.chamber import StageLimits
from hspc_live.settings.chamber_twin import TwinChamberSettings, TwinStageSettings
from hspc_live.settings.micromanager import MicroManagerCore
from hspc_live.settings.micromanager import MicroManagerStage as MicroManagerSettings

SHORT = TwinStageSettings(x_limits_um=(-2000.0, 2000.0), y_limits_um=(-1500.0, 1500.0))
CHAMBER = TwinChamberSettings(height_px=64, width_px=128, width_mm=0.1, height_mm=0.1, stage=SHORT)


def simulated(virtual: bool) -> Stage:
    return SimulatedStage(ChamberWorld(CHAMBER, VirtualClock(7) if virtual else HostClock()))


def demo(backend: str, backlash_um: float = 0.0) -> Stage:
    """The stage of Micro-Manager's demo devices, on the real core."""
    session = CoreSession(MicroManagerCore.model_validate({"backend": backend, "buffer_mb": 16}))
    limits = StageLimits(x_min_um=-2000.0, x_max_um=2000.0, y_min_um=-1500.0, y_max_um=1500.0)
    settings = MicroManagerSettings(kind="micromanager", backlash_um=backlash_um)
    return MicroManagerStage(settings, limits, session, HostClock())


STAGES: tuple[tuple[str, Callable[[], Stage]], ...] = (
    ("simulated", lambda: simulated(False)),
    ("simulated, virtual time", lambda: simulated(True)),
    ("pycromanager", lambda: demo("pycromanager")),
    ("pymmcore-plus", lambda: demo("pymmcore-plus")),
    ("one-sided", lambda: demo("pymmcore-plus", backlash_um=5.0)),
)


@pytest.fixture(params=[make for _, make in STAGES], ids=[name for name, _ in STAGES])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    one: Stage = request.param()
    yield one
    one.stop()
    one.close()


def test_it_goes_where_it_is_told_and_says_so(stage: Stage) -> None:
    info = stage.open()
    for number, (x_um, y_um) in enumerate([(300.0, -200.0), (310.0, -200.0), (310.0, -200.0), (0.0, 0.0)]):
        stage.move_to(StageTarget(number, x_um, y_um))
        receipt = stage.wait(10.0)
        assert receipt is not None and receipt.target == number
        assert (receipt.x_um, receipt.y_um) == pytest.approx((x_um, y_um), abs=2 * info.resolution_um)
        assert receipt.sent_ns <= receipt.arrived_ns
        here = stage.position()
        assert not here.moving and here.at_ns >= receipt.arrived_ns
        assert (here.x_um, here.y_um) == (receipt.x_um, receipt.y_um)
        assert stage.wait(0.0) == receipt, "asked again, it answers the same"


def test_a_move_takes_its_time(stage: Stage) -> None:
    info = stage.open()
    stage.move_to(StageTarget(1, info.x_limits_um[1], info.y_limits_um[0]))
    assert stage.position().moving
    assert stage.wait(0.001) is None
    receipt = stage.wait(10.0)
    assert receipt is not None and receipt.arrived_ns - receipt.sent_ns > 1_000_000


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 1e9])
@pytest.mark.parametrize("axis", ["x_um", "y_um"])
def test_a_target_that_is_no_place_is_refused_before_anything_moves(stage: Stage, axis: str, bad: float) -> None:
    stage.open()
    stage.move_to(StageTarget(1, 100.0, 100.0))
    before = stage.wait(10.0)
    where = {"x_um": 120.0, "y_um": 120.0, axis: bad}
    with pytest.raises(DeviceError, match=axis):
        stage.move_to(StageTarget(2, **where))
    here = stage.position()
    assert before is not None and (here.x_um, here.y_um, here.moving) == (before.x_um, before.y_um, False)


def test_the_limits_themselves_can_be_reached(stage: Stage) -> None:
    info = stage.open()
    for x_um, y_um in zip(info.x_limits_um, info.y_limits_um, strict=True):
        stage.move_to(StageTarget(1, x_um, y_um))
        receipt = stage.wait(10.0)
        assert receipt is not None
        assert (receipt.x_um, receipt.y_um) == pytest.approx((x_um, y_um), abs=2 * info.resolution_um)


def test_a_new_target_replaces_the_one_under_way(stage: Stage) -> None:
    info = stage.open()
    stage.move_to(StageTarget(1, info.x_limits_um[1], 0.0))
    stage.move_to(StageTarget(2, 50.0, 25.0))
    receipt = stage.wait(10.0)
    assert receipt is not None and receipt.target == 2
    assert (receipt.x_um, receipt.y_um) == pytest.approx((50.0, 25.0), abs=2 * info.resolution_um)


def test_stop_halts_it_on_the_way(stage: Stage) -> None:
    info = stage.open()
    stage.move_to(StageTarget(1, info.x_limits_um[1], 0.0))
    stage.wait(0.1)
    stage.stop()
    here = stage.position()
    assert not here.moving and here.x_um < info.x_limits_um[1]
    with pytest.raises(DeviceError):
        stage.wait(1.0)
    stage.move_to(StageTarget(2, 10.0, 0.0))
    assert stage.wait(10.0) is not None


def test_stop_from_another_thread_ends_a_wait(stage: Stage) -> None:
    info = stage.open()
    stage.move_to(StageTarget(1, info.x_limits_um[1], info.y_limits_um[1]))
    ended = threading.Event()

    def wait() -> None:
        try:
            stage.wait(30.0)
        except DeviceError:
            pass
        ended.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    stage.stop()
    waiting.join(10.0)
    assert ended.is_set()


def test_misuse_is_said(stage: Stage) -> None:
    for call in (lambda: stage.move_to(StageTarget(1, 0.0, 0.0)), lambda: stage.wait(0.1), stage.position):
        with pytest.raises(DeviceError, match=r"open"):
            call()
    stage.open()
    with pytest.raises(DeviceError, match=r"target"):
        stage.wait(0.1)


def test_stop_and_close_are_harmless_at_any_time(stage: Stage) -> None:
    stage.stop()
    stage.close()
    stage.open()
    stage.stop()
    stage.close()
    stage.close()
    with pytest.raises(DeviceError):
        stage.position()
