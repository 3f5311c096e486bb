"""One suite for every focus drive: what a sweep may rely on, whatever stands behind the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hspc_drivers.chamber_world import ChamberWorld
from hspc_drivers.micromanager_core import CoreSession
from hspc_drivers.micromanager_focus import MicroManagerFocus
from hspc_drivers.micromanager_twin import twin_core, twin_devices
from hspc_drivers.simulated_focus import SimulatedFocus
from hspc_live.core.clock import HostClock, VirtualClock
from hspc_live.core.errors import DeviceError
from hspc_live.core.protocols import Focus
from hspc_live.settings.chamber_twin import TwinChamberSettings
from hspc_live.settings.focus import MicroManagerFocus as MicroManagerSettings
from hspc_live.settings.focus import MountedFocus
from hspc_live.settings.micromanager import MicroManagerCore

CHAMBER = TwinChamberSettings(height_px=64, width_px=128, width_mm=0.1, height_mm=0.1)
LIMITS = {"z_min_um": -30.0, "z_max_um": 40.0}


def simulated(virtual: bool) -> Focus:
    return SimulatedFocus(MountedFocus(**LIMITS), ChamberWorld(CHAMBER, VirtualClock(7) if virtual else HostClock()))


def demo(backend: str) -> Focus:
    """The focus drive of Micro-Manager's demo devices, on the real core."""
    session = CoreSession(MicroManagerCore.model_validate({"backend": backend, "buffer_mb": 16}))
    return MicroManagerFocus(MicroManagerSettings(kind="micromanager", settle_ms=1.0, **LIMITS), session)


def twin() -> Focus:
    """The twin's, behind a real core."""
    session = CoreSession(twin_core(), twin_devices(ChamberWorld(CHAMBER, HostClock())))
    return MicroManagerFocus(MicroManagerSettings(kind="micromanager", settle_ms=1.0, **LIMITS), session)


DRIVES: dict[str, Callable[[], Focus]] = {
    "simulated": lambda: simulated(False),
    "simulated, virtual time": lambda: simulated(True),
    "pycromanager": lambda: demo("pycromanager"),
    "pymmcore-plus": lambda: demo("pymmcore-plus"),
    "twin behind a core": twin,
}


@pytest.fixture(params=DRIVES.values(), ids=DRIVES.keys())
def drive(request: pytest.FixtureRequest) -> Iterator[Focus]:
    one: Focus = request.param()
    yield one
    one.close()


def test_it_goes_where_it_is_told_and_stands_there_when_it_returns(drive: Focus) -> None:
    info = drive.open()
    assert info.limits_um == (-30.0, 40.0) and info.label == "Z"
    for z_um in (3.0, -2.25, -2.25, *info.limits_um, 0.0):
        assert drive.move_to(z_um) == pytest.approx(z_um, abs=0.1)
        assert drive.position() == pytest.approx(z_um, abs=0.1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), -30.1, 40.1, 1e9])
def test_a_height_that_is_none_or_beyond_the_limits_is_refused_before_anything_moves(drive: Focus, bad: float) -> None:
    drive.open()
    before = drive.move_to(5.0)
    with pytest.raises(DeviceError, match="did not move: z_um"):
        drive.move_to(bad)
    assert drive.position() == before


def test_it_stays_where_it_is_when_it_is_let_go(drive: Focus) -> None:
    with pytest.raises(DeviceError, match="open"):
        drive.move_to(1.0)
    drive.close()
    drive.open()
    drive.close()
    drive.close()
    with pytest.raises(DeviceError, match="open"):
        drive.position()
