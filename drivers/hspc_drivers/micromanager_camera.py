"""A camera of Micro-Manager as a source of frames for a flow: a sequence without end, popped as it comes.

When the core's buffer fills, the core throws what is in it away and goes on, and its overflow flag stays false. Only
the frames' own numbers tell: they become the frame's index, so a gap is a dropped frame in the ledger.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from hspc_drivers.micromanager_adapters import told
from hspc_drivers.micromanager_core import CoreSession, Popped
from hspc_drivers.micromanager_info import camera_info, camera_label, measured_rate, set_roi
from hspc_drivers.micromanager_time import behind_ns, residency_ns, time_sd_us
from hspc_live.core.errors import DeviceError
from hspc_live.core.protocols import EndOfStream
from hspc_live.core.values import CameraInfo, Frame
from hspc_live.settings.devices import RigSettings
from hspc_live.settings.micromanager import MicroManagerCamera as Settings

POLLS = 10.0  # looks at the buffer in a frame period …
POLL_S = 100e-6, 1e-3  # … but not more often or more rarely than this


class MicroManagerCamera:
    """A `core.protocols.Camera`. The session may be shared with the drivers of other devices."""

    def __init__(self, settings: Settings, rig: RigSettings, session: CoreSession) -> None:
        self._settings, self._rig, self._session = settings, rig, session
        self._opened = False
        self._label = ""
        self._info: CameraInfo | None = None
        self._exposure_ms = settings.exposure_ms
        self._behind_ns = 0  # from mid-exposure until the core has the frame
        self._running = False
        self._stopped = threading.Event()
        self._last_number = -1
        self._last_captured_ns = 0
        self._exposed = 0
        self._quiet_s = 0.0  # time without a frame in which somebody looked

    def open(self) -> CameraInfo:
        """Load the devices, set the camera up, measure its rate. Raises DeviceError."""
        if not self._opened:
            self._session.open()
            self._opened = True
        try:
            self._label = camera_label(self._session, self._settings.device)
            with told(f"camera {self._label}"):
                self._info = self._set_up(self._session.core)
        except BaseException:
            self.close()
            raise
        return self._info

    def _set_up(self, core: Any) -> CameraInfo:
        settings, label = self._settings, self._label
        core.setCameraDevice(label)
        for name, value in settings.properties.items():
            self._session.set_property(label, name, value)
        if settings.binning is not None:
            self._session.set_property(label, "Binning", settings.binning)
        set_roi(core, label, settings.roi)
        core.setExposure(label, settings.exposure_ms)
        self._exposure_ms = float(core.getExposure(label))
        self._behind_ns = behind_ns(self._exposure_ms, settings.transfer_ms or 0.0)
        fps, jitter_ms = self._rate(core)
        transfer_ms = settings.transfer_ms
        return camera_info(
            self._session,
            self._rig,
            label,
            settings.um_per_px,
            frames_per_s=fps,
            exposure_ms=self._exposure_ms,
            time_sd_us=time_sd_us(transfer_ms, settings.transfer_sd_ms, fps, jitter_ms),
        )

    def _rate(self, core: Any) -> tuple[float, float]:
        """Frames a second and the jitter of their times in ms: as measured, or as given."""
        if (given := self._settings.frames_per_s) is not None:
            return given, 0.0
        rate, jitter_ms = measured_rate(self._session, self._label, self._exposure_ms)
        return rate, jitter_ms

    def start(self) -> None:
        """Begin the sequence. Raises DeviceError if the camera is not open, or does not start."""
        if self._info is None:
            raise DeviceError("the Micro-Manager camera is not open: call open() before start()")
        self.stop()
        core = self._session.core
        with told(f"camera {self._label} did not start"):
            core.clearCircularBuffer()
            if self._settings.frames is None:
                core.startContinuousSequenceAcquisition(0)
            else:
                core.startSequenceAcquisition(self._settings.frames, 0, False)
        self._last_number, self._last_captured_ns, self._exposed, self._quiet_s = -1, 0, 0, 0.0
        self._stopped.clear()
        self._running = True

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, or None if none comes within `timeout_s` or the camera is stopped meanwhile.

        Raises EndOfStream after the settings' last frame. Raises DeviceError if the camera was not started, stops by
        itself, fails, or gives nothing for `stall_periods` frame periods in which this was waiting.
        """
        if self._info is None or not (self._running or self._stopped.is_set()):
            raise DeviceError("the Micro-Manager camera is not running: call open() and start() before read()")
        core = self._session.core
        try:
            if core.getRemainingImageCount() > 0 and not self._stopped.is_set():  # under load one always waits
                return self._frame(self._session.pop())
            return self._wait(core, timeout_s)
        except IndexError:  # the core threw the buffer away in just this moment
            return None
        except (DeviceError, EndOfStream):
            raise
        except Exception as error:
            raise DeviceError(f"camera {self._label} stopped answering: {error}") from error

    def _wait(self, core: Any, timeout_s: float) -> Frame | None:
        """Look again and again, asleep in between."""
        assert self._info is not None
        period_s = max(1 / self._info.frames_per_s, self._exposure_ms / 1e3)
        poll_s = min(max(period_s / POLLS, POLL_S[0]), POLL_S[1])
        before = time.perf_counter()
        until = before + timeout_s
        while not self._stopped.is_set():
            if core.getRemainingImageCount() > 0:
                return self._frame(self._session.pop())
            now = time.perf_counter()
            # a computer that was busy elsewhere has not looked: only the time of looking counts as the camera's silence
            self._quiet_s += min(now - before, 3 * poll_s)
            before = now
            if self._quiet_s > period_s:
                self._expect_more(period_s)
            if now >= until:
                return None
            time.sleep(min(poll_s, until - now))  # a millisecond at most: an event to wait for would cost more
        return None

    def _frame(self, popped: Popped) -> Frame:
        self._quiet_s = 0.0
        waited_ns, now_ns = residency_ns(popped.received)
        captured_ns = now_ns - waited_ns - self._behind_ns
        if popped.number <= self._last_number:
            raise DeviceError(
                f"camera {self._label} numbered a frame {popped.number} after {self._last_number}: its adapter does "
                "not count as Micro-Manager does, so that dropped frames would not be seen"
            )
        self._last_number = popped.number
        self._last_captured_ns = max(captured_ns, self._last_captured_ns + 1)  # a clock may be set; order must stay
        return Frame(popped.number, self._last_captured_ns, now_ns, popped.pixels)

    def _expect_more(self, period_s: float) -> None:
        """Nothing came for a period: is there anything to come?"""
        core = self._session.core
        if not core.isSequenceRunning(self._label):
            if core.getRemainingImageCount() > 0:  # it ended in between, and left its last frames
                return
            if self._settings.frames is not None:
                raise EndOfStream(f"camera {self._label} has filmed its {self._settings.frames} frames")
            raise DeviceError(f"camera {self._label} has stopped its sequence by itself: look at its cable and power")
        if self._quiet_s > self._settings.stall_periods * period_s:
            raise DeviceError(
                f"camera {self._label} has given no frame for {1e3 * self._quiet_s:.0f} ms, its frame period is "
                f"{1e3 * period_s:.1f} ms: look at cable, power and trigger"
            )

    def stop(self) -> None:
        """End the sequence; a `read` that waits in another thread returns."""
        self._stopped.set()
        if not self._running:
            return
        self._running = False
        self._exposed = self._last_number + 1  # what is known even if the camera answers no more
        core = self._session.core
        with told(f"camera {self._label} did not stop"):
            if core.isSequenceRunning(self._label):
                core.stopSequenceAcquisition(self._label)
            newest = self._session.newest_number()
        self._exposed = 1 + max(self._last_number, newest if newest is not None else -1)

    @property
    def exposed(self) -> int:
        """Frames that reached the core, handed over or not. Those that never did, nobody counts."""
        return self._exposed if not self._running else self._last_number + 1

    def close(self) -> None:
        """End the sequence, and let go of the camera."""
        with suppress(DeviceError):  # a camera that is gone does not stop; whoever read it has been told
            self.stop()
        self._info = None
        if self._opened:
            self._opened = False
            self._session.close()
