"""A camera for benchmarks: a strip of film, rendered before the start and played over and over.

It costs next to nothing per frame, so what is measured is the pipeline and not the simulation. Times and indices go on
as if the film were endless. Unpaced it hands a frame over whenever it is asked. Paced it films at its own rate, as a
real camera does: a frame is there when its exposure is over, and who lags too far behind finds frames missing.
"""

from __future__ import annotations

import threading

from hspc_live.core.clock import NS_PER_S, NS_PER_US, Clock
from hspc_live.core.errors import DeviceError
from hspc_live.core.protocols import EndOfStream
from hspc_live.core.values import CameraInfo, Frame, Pixels
from hspc_live.settings import devices
from hspc_live.twin.flow import FlowTwin, mid_exposure_ns
from hspc_live.twin.strip import film_strip

HELD = 32  # frames that a paced camera's driver can hold


class LoopedCamera:
    """Implements `core.protocols.Camera`. Paced it needs a clock that runs by itself."""

    def __init__(self, settings: devices.LoopedCamera, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._half_exposure_ns = round(settings.twin.exposure_us * NS_PER_US / 2)
        self._strip: list[Pixels] = []
        self._start_ns = 0
        self._next = 0
        self._running = False
        self._stopped = threading.Event()
        self._stopped_ns = 0

    def open(self) -> CameraInfo:
        """Render the strip. Raises SettingsError if so many cells do not fit a frame."""
        self._strip = film_strip(self._settings.twin, self._settings.distinct, self._settings.cells)
        return FlowTwin(self._settings.twin).info()

    def start(self) -> None:
        """Begin at frame 0. Raises DeviceError if the camera is not open."""
        if not self._strip:
            raise DeviceError("the looped camera is not open: call open() before start()")
        self._start_ns = self._clock.now_ns() if self._settings.paced else 0
        self._next = 0
        self._stopped.clear()
        self._running = True

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame; paced None if it does not come within `timeout_s` or the camera is stopped meanwhile.

        Raises EndOfStream after the last, DeviceError if the camera does not run.
        """
        if not self._running:
            raise DeviceError("the looped camera is not running: call start() before read()")
        if self._settings.paced:
            self._next = max(self._next, self._exposed() - HELD)
        index = self._next
        if index >= self._settings.frames:
            raise EndOfStream
        if self._settings.paced:
            wait_s = (self._due_ns(index) - self._clock.now_ns()) / NS_PER_S
            if wait_s > timeout_s:
                self._stopped.wait(timeout_s)
                return None
            if wait_s > 0 and self._stopped.wait(wait_s):
                return None
        self._next = index + 1
        return Frame(index, self._captured_ns(index), self._clock.now_ns(), self._strip[index % len(self._strip)])

    def stop(self) -> None:
        """End the sequence; a `read` that waits in another thread returns."""
        if self._running:
            self._stopped_ns = self._clock.now_ns()
            self._stopped.set()
            self._running = False

    @property
    def exposed(self) -> int:
        """Frames handed over; paced also those that were due by now and not fetched."""
        return max(self._next, self._exposed()) if self._settings.paced else self._next

    def close(self) -> None:
        """Let the strip go."""
        self.stop()
        self._strip = []

    def _captured_ns(self, index: int) -> int:
        return self._start_ns + mid_exposure_ns(self._settings.twin, index)

    def _due_ns(self, index: int) -> int:
        return self._captured_ns(index) + self._half_exposure_ns

    def _exposed(self) -> int:
        """How many frames' exposures are over."""
        until_ns = self._stopped_ns if self._stopped.is_set() else self._clock.now_ns()
        count = round((until_ns - self._start_ns) / NS_PER_S * self._settings.twin.frames_per_s)
        while count > 0 and self._due_ns(count - 1) > until_ns:
            count -= 1
        return max(0, min(count, self._settings.frames))
