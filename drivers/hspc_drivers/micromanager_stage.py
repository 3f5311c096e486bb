"""The XY stage of a Micro-Manager core.

The core sends a stage wherever it is told and knows of no limits, so every place is checked before anything moves. A
stage that says it has arrived is asked where it is: one that is not there has lost steps or met an obstacle.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

from hspc_drivers.micromanager_adapters import told
from hspc_drivers.micromanager_core import CoreSession
from hspc_live.core.clock import Clock
from hspc_live.core.errors import DeviceError
from hspc_live.core.values import StageInfo, StagePosition, StageReceipt, StageTarget
from hspc_live.settings.chamber import StageLimits
from hspc_live.settings.micromanager import MicroManagerStage as Settings

XY_STAGE = 6  # MM::DeviceType
POLL_S = 2e-3
Place = tuple[float, float]


class MicroManagerStage:
    """A `core.protocols.Stage`. The session is shared with the camera over it."""

    def __init__(self, settings: Settings, limits: StageLimits, session: CoreSession, clock: Clock) -> None:
        self._settings, self._limits, self._session, self._clock = settings, limits, session, clock
        self._opened = False
        self._label = ""
        self._lock = threading.Lock()
        self._halted = threading.Event()
        self._target: StageTarget | None = None
        self._sent_ns = 0
        self._legs: deque[Place] = deque()  # what is still to be set out for
        self._receipt: StageReceipt | None = None

    def open(self) -> StageInfo:
        """Load the devices; nothing moves. Raises DeviceError."""
        if not self._opened:
            self._session.open()
            self._opened = True
        try:
            core = self._session.core
            self._label = str(self._settings.device or core.getXYStageDevice())
            stages = self._session.labels(XY_STAGE)
            if self._label not in stages:
                wanted = repr(self._label) if self._label else "(the configuration makes none the default one)"
                raise DeviceError(f"there is no XY stage {wanted}; there are: {', '.join(stages) or 'none'}")
            with told(f"stage {self._label}"):
                model = self._session.model(self._label)
                self._where(core)
        except BaseException:
            self.close()
            raise
        soft, back = self._limits, self._settings.backlash_um  # a place is reached from `back` before it
        return StageInfo(
            (soft.x_min_um + back, soft.x_max_um),
            (soft.y_min_um + back, soft.y_max_um),
            self._settings.resolution_um,
            model,
            self._label,
        )

    def move_to(self, target: StageTarget) -> None:
        """Set out for `target`. Raises DeviceError before anything moves: not finite, out of the limits, not open."""
        core = self._open_core("move_to")
        back = self._settings.backlash_um
        ways = [(target.x_um - back, target.y_um - back)] if back > 0 else []
        ways.append((target.x_um, target.y_um))
        for way in ways:
            self._refuse(way, target.target)
        with self._lock, told(f"stage {self._label} did not move"):
            self._halted.clear()
            if core.deviceBusy(self._label):
                with suppress(RuntimeError):  # not every stage can; most take a new target on the way
                    core.stop(self._label)
            self._target, self._receipt = target, None
            self._sent_ns = self._clock.now_ns()
            self._legs = deque(ways)
            self._set_out(core)

    def _refuse(self, place: Place, number: int) -> None:
        soft = self._limits
        for name, value, low, high in (
            ("x_um", place[0], soft.x_min_um, soft.x_max_um),
            ("y_um", place[1], soft.y_min_um, soft.y_max_um),
        ):
            if not math.isfinite(value):
                raise DeviceError(f"the stage did not move: {name} is {value}, which is no place (target {number})")
            if not low <= value <= high:
                raise DeviceError(
                    f"the stage did not move: {name} = {value:g} is out of chamber.limits, {low:g} to {high:g} µm "
                    f"(target {number}, come to from {self._settings.backlash_um:g} µm before it)"
                )

    def _set_out(self, core: Any) -> None:
        x_um, y_um = self._legs.popleft()
        core.setXYPosition(self._label, x_um, y_um)

    def wait(self, timeout_s: float) -> StageReceipt | None:
        """The receipt once the stage stands at the target, or None if it does not within `timeout_s`.

        Raises DeviceError where no target was set, after `stop`, on failure, and where it stands elsewhere.
        """
        core = self._open_core("wait")
        until = time.monotonic() + timeout_s
        while True:
            with self._lock, told(f"stage {self._label} stopped answering"):
                if self._target is None:
                    raise DeviceError(
                        "the stage was stopped on its way"
                        if self._halted.is_set()
                        else "the stage has no target: call move_to() before wait()"
                    )
                if self._receipt is not None:
                    return self._receipt
                if not core.deviceBusy(self._label):
                    if not self._legs:
                        self._receipt = self._arrived(core, self._target)
                        return self._receipt
                    self._set_out(core)
            left_s = until - time.monotonic()
            if left_s <= 0:
                return None
            self._halted.wait(min(POLL_S, left_s))

    def _arrived(self, core: Any, target: StageTarget) -> StageReceipt:
        x_um, y_um = self._where(core)
        off_um = math.hypot(x_um - target.x_um, y_um - target.y_um)
        if not off_um <= self._settings.tolerance_um:
            raise DeviceError(
                f"stage {self._label} says it has arrived at ({target.x_um:g}, {target.y_um:g}) µm, but it is at "
                f"({x_um:g}, {y_um:g}): look for an obstacle, or for lost steps"
            )
        return StageReceipt(target.target, x_um, y_um, self._sent_ns, self._clock.now_ns())

    def _where(self, core: Any) -> Place:
        x_um, y_um = core.getXPosition(self._label), core.getYPosition(self._label)
        if not (math.isfinite(x_um) and math.isfinite(y_um)):
            raise DeviceError(f"stage {self._label} says it is at ({x_um}, {y_um}), which is no place")
        return float(x_um), float(y_um)

    def position(self) -> StagePosition:
        """Where it says it is, and whether it is on its way."""
        core = self._open_core("position")
        with self._lock, told(f"stage {self._label} stopped answering"):
            moving = bool(core.deviceBusy(self._label)) or (bool(self._legs) and self._receipt is None)
            x_um, y_um = self._where(core)
            return StagePosition(x_um, y_um, self._clock.now_ns(), moving)

    def stop(self) -> None:
        """Halt at once and forget the target; a `wait` in another thread ends."""
        self._halted.set()
        with self._lock:
            self._target, self._receipt = None, None
            self._legs.clear()
            if self._opened and self._label:
                with told(f"stage {self._label} did not stop"):
                    if self._session.core.deviceBusy(self._label):
                        self._session.core.stop(self._label)

    def close(self) -> None:
        """Halt and let go."""
        with suppress(DeviceError):  # a stage that is gone does not stop; whoever moved it has been told
            self.stop()
        self._label = ""
        if self._opened:
            self._opened = False
            self._session.close()

    def _open_core(self, call: str) -> Any:
        if not self._opened:
            raise DeviceError(f"the Micro-Manager stage is not open: call open() before {call}()")
        return self._session.core
