"""The camera of the simulated chamber rig: single pictures on demand, in transmitted light or fluorescence."""

from __future__ import annotations

from hspc_drivers.chamber_world import ChamberWorld
from hspc_live.core.errors import DeviceError
from hspc_live.core.values import CameraInfo, Frame
from hspc_live.twin.chamber_truth import ChamberTruth


class SimulatedChamberCamera:
    """A `core.protocols.SnapCamera` over the table of `world`: it films where that truly is, still moving or not."""

    def __init__(self, world: ChamberWorld) -> None:
        self._world = world
        self._opened = False

    def open(self) -> CameraInfo:
        """Switch on; says what the pictures will be."""
        self._opened = True
        return self._world.info()

    @property
    def channels(self) -> tuple[str, ...]:
        """Transmitted light, then fluorescence."""
        return self._world.channels

    def snap(self, channel: str, exposure_ms: float | None = None) -> Frame:
        """Expose now and wait for the picture. Raises DeviceError: not open, no such channel or exposure."""
        if not self._opened:
            raise DeviceError("the simulated camera is not open: call open() before snap()")
        return self._world.expose(channel, exposure_ms)

    def close(self) -> None:
        """Let go. What was filmed can still be told by `truth`."""
        self._opened = False

    def truth(self) -> ChamberTruth:
        """What really lay there, and what every picture showed. For the scorer, after the run."""
        return self._world.truth()
