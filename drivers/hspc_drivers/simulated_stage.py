"""The XY stage of the simulated chamber rig."""

from __future__ import annotations

from hspc_drivers.chamber_world import ChamberWorld
from hspc_live.core.errors import DeviceError
from hspc_live.core.values import StageInfo, StagePosition, StageReceipt, StageTarget


class SimulatedStage:
    """A `core.protocols.Stage` that moves the table of `world`. It never learns where the table truly is."""

    def __init__(self, world: ChamberWorld) -> None:
        self._world = world
        self._opened = False
        self._under_way: tuple[StageTarget, int, int] | None = None  # target, when it was sent, when it arrives

    def open(self) -> StageInfo:
        """Switch on; says how far it travels."""
        self._opened = True
        limits = self._world.settings.stage
        return StageInfo(limits.x_limits_um, limits.y_limits_um, limits.resolution_um, "digital twin", "XY")

    def move_to(self, target: StageTarget) -> None:
        """Set out for `target`. Raises DeviceError before anything moves: not finite, out of the travel, not open."""
        self._expect_open("move_to")
        if (why := self._world.stage.refusal(target.x_um, target.y_um)) is not None:
            raise DeviceError(f"the stage did not move: {why} (target {target.target})")
        sent_ns = self._world.now_ns()
        self._under_way = target, sent_ns, self._world.move(target.x_um, target.y_um)

    def wait(self, timeout_s: float) -> StageReceipt | None:
        """The receipt once the encoder has arrived, or None if it has not within `timeout_s`."""
        self._expect_open("wait")
        if self._under_way is None:
            raise DeviceError("the stage has no target: call move_to() before wait()")
        arrived = self._world.wait_for_arrival(timeout_s)
        if self._under_way is None:
            raise DeviceError("the stage was stopped on its way")
        if not arrived:
            return None
        target, sent_ns, arrives_ns = self._under_way
        here = self._world.position()
        return StageReceipt(target.target, here.x_um, here.y_um, sent_ns, arrives_ns)

    def position(self) -> StagePosition:
        """What the encoder says."""
        self._expect_open("position")
        return self._world.position()

    def stop(self) -> None:
        """Halt at once and forget the target; a `wait` in another thread ends."""
        self._under_way = None
        if self._opened:
            self._world.halt()

    def close(self) -> None:
        """Halt and let go."""
        self.stop()
        self._opened = False

    def _expect_open(self, call: str) -> None:
        if not self._opened:
            raise DeviceError(f"the simulated stage is not open: call open() before {call}()")
