"""The digital twin as a camera: frames at their own moments, as a real one hands them over, or as fast as asked.

Paced, frame k belongs to a moment (mid-exposure, k + ½ periods after the start) and is handed over when its exposure is
over. Rendering is a matter of the simulation, not of the camera, so frames are rendered before that moment, up to one
ahead. When the computer or the reader cannot keep up, frames are dropped (a gap in the index); time is never slowed.
"""

from __future__ import annotations

import threading
from collections import deque

from hspc_live.core.clock import NS_PER_S, NS_PER_US, Clock
from hspc_live.core.errors import DeviceError
from hspc_live.core.protocols import EndOfStream
from hspc_live.core.values import CameraInfo, Frame, Pixels
from hspc_live.settings.devices import SimulatedCamera
from hspc_live.twin.flow import FlowTwin, mid_exposure_ns
from hspc_live.twin.truth import FlowTruth

_HELD = 2  # pictures the camera can hold: the one that is due, and the next


class SimulatedFlowCamera:
    """A `core.protocols.Camera` that films a `FlowTwin`. `paced` needs a clock that runs by itself.

    Unpaced, the clock's time at `start` is taken as the start of a virtual run: `captured_ns` and `received_ns` follow
    from the frame's index, no frame is dropped.
    """

    def __init__(self, settings: SimulatedCamera, clock: Clock, paced: bool = True) -> None:
        self._settings = settings
        self._clock = clock
        self._paced = paced
        self._half_exposure_ns = round(settings.twin.exposure_us * NS_PER_US / 2)
        self._twin: FlowTwin | None = None
        self._start_ns: int | None = None
        self._next = 0  # the first frame that is neither rendered nor dropped
        self._ready: deque[tuple[int, Pixels]] = deque()
        self._took_ns: deque[int] = deque((0, 0), maxlen=2)  # how long the last renderings took
        self._stopped = threading.Event()
        self._stopped_ns = 0

    def open(self) -> CameraInfo:
        """Build the channel; says what its frames will be."""
        if self._twin is None:
            self._twin = FlowTwin(self._settings.twin)
        return self._twin.info()

    def start(self) -> None:
        """Begin filming at the clock's now. Raises DeviceError if the camera is not open."""
        if self._twin is None:
            raise DeviceError("the simulated camera is not open: call open() before start()")
        self._start_ns = self._clock.now_ns()
        self._next = 0
        self._ready.clear()
        self._stopped.clear()

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, or None if its moment does not come within `timeout_s` or the camera is stopped meanwhile.

        Raises EndOfStream after the settings' last frame, DeviceError if the camera was not started.
        """
        if self._twin is None or self._start_ns is None:
            raise DeviceError("the simulated camera is not running: call open() and start() before read()")
        if not self._paced:
            return self._at_once(self._twin)
        until_ns = self._clock.now_ns() + round(timeout_s * NS_PER_S)
        while not self._stopped.is_set():
            self._forget_overwritten()
            if not self._ready and not self._render(self._twin):
                if self._clock.now_ns() >= until_ns:
                    return None
                continue
            index = self._ready[0][0]
            if len(self._ready) < _HELD and self._clock.now_ns() + 2 * self._render_ns() < self._due_ns(index):
                self._render(self._twin)  # idle until the frame is due: prepare its successor
            wait_ns = min(self._due_ns(index), until_ns) - self._clock.now_ns()
            if wait_ns > 0 and self._stopped.wait(wait_ns / NS_PER_S):
                return None
            now_ns = self._clock.now_ns()
            if now_ns >= self._due_ns(index):
                _, pixels = self._ready.popleft()
                return Frame(index, self._captured_ns(index), now_ns, pixels)
            if now_ns >= until_ns:
                return None
        return None

    def stop(self) -> None:
        """End the sequence; a `read` that waits in another thread returns."""
        if not self._stopped.is_set():
            self._stopped_ns = self._clock.now_ns()
            self._stopped.set()

    @property
    def exposed(self) -> int:
        """Frames handed over, dropped, or (paced) exposed by now and not fetched yet."""
        count = self._next - len(self._ready)
        if self._paced and self._start_ns is not None:
            now_ns = self._stopped_ns if self._stopped.is_set() else self._clock.now_ns()
            while (self._settings.frames is None or count < self._settings.frames) and self._due_ns(count) <= now_ns:
                count += 1
        return count

    def close(self) -> None:
        """Stop. What was filmed can still be told by `truth`."""
        self.stop()

    def truth(self) -> FlowTruth:
        """What really flowed past until the last frame that was exposed. For the scorer, after the run.

        Raises DeviceError if nothing was ever filmed.
        """
        if self._twin is None or self._start_ns is None:
            raise DeviceError("the simulated camera has filmed nothing: there is no truth to tell")
        return self._twin.truth(self.exposed, self._start_ns)

    def _at_once(self, twin: FlowTwin) -> Frame | None:
        if self._stopped.is_set():
            return None
        self._expect_more()
        index = self._next
        self._next += 1
        return Frame(index, self._captured_ns(index), self._due_ns(index), twin.render(index))

    def _render(self, twin: FlowTwin) -> bool:
        """Render the next frame that can be ready before its successor is due; False if even that came too late."""
        begun_ns = self._clock.now_ns()
        while self._has_more() and self._due_ns(self._next + 1) < begun_ns + self._render_ns():
            self._next += 1  # dropped
        if not self._ready:
            self._expect_more()
        elif not self._has_more():
            return False
        index = self._next
        self._next += 1
        pixels = twin.render(index)
        ended_ns = self._clock.now_ns()
        self._took_ns.append(ended_ns - begun_ns)
        if ended_ns > self._due_ns(index + 1):
            return False
        self._ready.append((index, pixels))
        return True

    def _render_ns(self) -> int:
        """What a rendering takes, to be reckoned with; one that was held up by chance does not count."""
        return min(self._took_ns)

    def _forget_overwritten(self) -> None:
        """A picture that nobody fetched in time has been overwritten by the one after the next."""
        while self._ready and self._clock.now_ns() > self._due_ns(self._ready[0][0] + _HELD):
            self._ready.popleft()

    def _has_more(self) -> bool:
        return self._settings.frames is None or self._next < self._settings.frames

    def _expect_more(self) -> None:
        if not self._has_more():
            raise EndOfStream(f"the simulated camera has filmed its {self._settings.frames} frames")

    def _captured_ns(self, index: int) -> int:
        assert self._start_ns is not None
        return self._start_ns + mid_exposure_ns(self._settings.twin, index)

    def _due_ns(self, index: int) -> int:
        return self._captured_ns(index) + self._half_exposure_ns
