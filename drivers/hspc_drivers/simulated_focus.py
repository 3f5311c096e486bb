"""The focus drive of the simulated chamber rig."""

from __future__ import annotations

from hspc_drivers.chamber_world import ChamberWorld
from hspc_live.core.errors import DeviceError
from hspc_live.core.values import FocusInfo
from hspc_live.settings.focus import MountedFocus


class SimulatedFocus:
    """A `core.protocols.Focus` that moves the plane of focus of `world`."""

    def __init__(self, settings: MountedFocus, world: ChamberWorld) -> None:
        self._settings, self._world = settings, world
        self._opened = False

    def open(self) -> FocusInfo:
        """Switch on; says where it may go."""
        self._opened = True
        return FocusInfo((self._settings.z_min_um, self._settings.z_max_um), "digital twin", "Z")

    def move_to(self, z_um: float) -> float:
        """Go there and wait. Raises DeviceError before anything moves: not finite, beyond the limits, not open."""
        self._expect_open("move_to")
        if (why := self._settings.refusal(z_um)) is not None:
            raise DeviceError(f"the focus did not move: {why}")
        try:
            self._world.focus(z_um)
        except ValueError as error:
            raise DeviceError(f"the focus did not move: {error}") from error
        self._world.wait_for_focus()
        return self.position()

    def position(self) -> float:
        """What the encoder says."""
        self._expect_open("position")
        return self._world.height()[0]

    def close(self) -> None:
        """Let go."""
        self._opened = False

    def _expect_open(self, call: str) -> None:
        if not self._opened:
            raise DeviceError(f"the simulated focus drive is not open: call open() before {call}()")
