"""The focus drive (Z) of a Micro-Manager core.

The core moves a drive wherever it is told, through the glass if need be, so every height is checked before anything
moves. A drive that says it has arrived is asked where it is.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import Any

from hspc_drivers.micromanager_adapters import told
from hspc_drivers.micromanager_core import CoreSession
from hspc_live.core.errors import DeviceError
from hspc_live.core.values import FocusInfo
from hspc_live.settings.focus import MicroManagerFocus as Settings

STAGE = 5  # MM::DeviceType: a stage of one axis
POLL_S = 2e-3


class MicroManagerFocus:
    """A `core.protocols.Focus`. The session is shared with camera and stage."""

    def __init__(self, settings: Settings, session: CoreSession) -> None:
        self._settings, self._session = settings, session
        self._opened = False
        self._label = ""

    def open(self) -> FocusInfo:
        """Load the devices; nothing moves. Raises DeviceError."""
        if not self._opened:
            self._session.open()
            self._opened = True
        try:
            self._label = str(self._settings.device or self._session.core.getFocusDevice())
            drives = self._session.labels(STAGE)
            if self._label not in drives:
                wanted = repr(self._label) if self._label else "(the configuration makes none the default one)"
                raise DeviceError(f"there is no focus drive {wanted}; there are: {', '.join(drives) or 'none'}")
            with told(f"focus {self._label}"):
                model = self._session.model(self._label)
                self._where(self._session.core)
        except BaseException:
            self.close()
            raise
        return FocusInfo((self._settings.z_min_um, self._settings.z_max_um), model, self._label)

    def move_to(self, z_um: float) -> float:
        """Go there and wait. Raises DeviceError before anything moves: not finite, beyond the limits, not open."""
        core, timeout_s = self._open_core("move_to"), self._settings.arrive_timeout_s
        if (why := self._settings.refusal(z_um)) is not None:
            raise DeviceError(f"the focus did not move: {why}")
        try:
            with told(f"focus {self._label} did not move"):
                core.setPosition(self._label, z_um)
                until = time.monotonic() + timeout_s
                while core.deviceBusy(self._label):
                    if time.monotonic() >= until:
                        raise DeviceError(f"focus {self._label} did not arrive at {z_um:g} µm in {timeout_s:g} s")
                    time.sleep(POLL_S)
                time.sleep(self._settings.settle_ms / 1e3)
                here = self._where(core)
        except BaseException:  # Ctrl-C, too
            self._halt()
            raise
        if not abs(here - z_um) <= self._settings.tolerance_um:
            raise DeviceError(
                f"focus {self._label} says it has arrived at {z_um:g} µm, but it is at {here:g}: look for an obstacle, "
                "or for an autofocus that holds it"
            )
        return here

    def position(self) -> float:
        """Where it says it is."""
        core = self._open_core("position")
        with told(f"focus {self._label} stopped answering"):
            return self._where(core)

    def close(self) -> None:
        """Halt and let go; it stays where it is."""
        self._halt()
        self._label = ""
        if self._opened:
            self._opened = False
            self._session.close()

    def _where(self, core: Any) -> float:
        z_um = float(core.getPosition(self._label))
        if not math.isfinite(z_um):
            raise DeviceError(f"focus {self._label} says it is at {z_um}, which is no height")
        return z_um

    def _halt(self) -> None:
        if not (self._opened and self._label):
            return
        with suppress(Exception):  # a drive that is gone does not stop, and not every adapter can
            if self._session.core.deviceBusy(self._label):
                self._session.core.stop(self._label)

    def _open_core(self, call: str) -> Any:
        if not self._opened:
            raise DeviceError(f"the Micro-Manager focus drive is not open: call open() before {call}()")
        return self._session.core
