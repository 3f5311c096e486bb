"""A camera for benchmarks: a strip of film, rendered before the start and played over and over.

It costs next to nothing per frame, so what is measured is the pipeline and not the simulation. Times and indices go on
as if the film were endless.
"""

from __future__ import annotations

from hspc_live.core.clock import Clock
from hspc_live.core.errors import DeviceError
from hspc_live.core.protocols import EndOfStream
from hspc_live.core.values import CameraInfo, Frame, Pixels
from hspc_live.settings import devices
from hspc_live.twin.flow import FlowTwin, mid_exposure_ns
from hspc_live.twin.strip import film_strip


class LoopedCamera:
    """Implements `core.protocols.Camera`; hands a frame over whenever it is asked."""

    def __init__(self, settings: devices.LoopedCamera, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._strip: list[Pixels] = []
        self._next = 0
        self._running = False

    def open(self) -> CameraInfo:
        """Render the strip. Raises SettingsError if so many cells do not fit a frame."""
        self._strip = film_strip(self._settings.twin, self._settings.distinct, self._settings.cells)
        return FlowTwin(self._settings.twin).info()

    def start(self) -> None:
        """Begin at frame 0. Raises DeviceError if the camera is not open."""
        if not self._strip:
            raise DeviceError("the looped camera is not open: call open() before start()")
        self._next = 0
        self._running = True

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, at once. Raises EndOfStream after the last, DeviceError if the camera does not run."""
        if not self._running:
            raise DeviceError("the looped camera is not running: call start() before read()")
        index = self._next
        if index >= self._settings.frames:
            raise EndOfStream
        self._next = index + 1
        pixels = self._strip[index % len(self._strip)]
        return Frame(index, mid_exposure_ns(self._settings.twin, index), self._clock.now_ns(), pixels)

    def stop(self) -> None:
        """End the sequence."""
        self._running = False

    @property
    def exposed(self) -> int:
        """As many as were asked for: this camera drops none."""
        return self._next

    def close(self) -> None:
        """Let the strip go."""
        self._running = False
        self._strip = []
