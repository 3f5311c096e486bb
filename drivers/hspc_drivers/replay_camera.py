"""A recording as a camera: its frames in capture order, on the recording's own time line.

`captured_ns` counts from the first frame, whatever the speed; only `received_ns` is host time. So verdicts follow from
the recording alone, and a replay as fast as it goes and one at the recorded pace decide the same.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from hspc_live.core.clock import NS_PER_S, Clock
from hspc_live.core.errors import DataLoss, DeviceError
from hspc_live.core.protocols import EndOfStream
from hspc_live.core.values import CameraInfo, Frame
from hspc_live.recording.reader import Recording, open_recording
from hspc_live.settings import devices

HALT_NS = NS_PER_S // 2


class ReplayCamera:
    """Replays one file. `speed` None hands frames over as fast as they are asked for, 2.0 at twice the pace."""

    def __init__(self, settings: devices.ReplayCamera, clock: Clock, speed: float | None = None) -> None:
        if speed is not None and not speed > 0:
            raise DeviceError(f"a replay cannot run at speed {speed:g}: give a number above 0, or max")
        self._settings = settings
        self._clock = clock
        self._speed = speed
        self._recording: Recording | None = None
        self._frames: Iterator[Frame] | None = None
        self._next: Frame | None = None
        self._exposed = 0
        self._started_ns = 0
        self._stopped = threading.Event()

    @property
    def recording(self) -> Recording:
        """The open recording: its warnings, its loss, what its run was told."""
        if self._recording is None:
            raise DeviceError(f"{self._settings.path} is not open: call open() first")
        return self._recording

    @property
    def warnings(self) -> list[str]:
        """What is odd about the file, in words for a person."""
        return list(self.recording.warnings)

    def open(self) -> CameraInfo:
        """Open the file. Raises RecordingError."""
        if self._recording is None:
            settings = self._settings
            self._recording = open_recording(
                settings.path, um_per_px=settings.um_per_px, frames_per_s=settings.frames_per_s
            )
            self._recording.check_replayable()
        return self._recording.info

    def start(self) -> None:
        """Begin at the first frame; the pace counts from now."""
        self._stopped.clear()
        self._frames = self.recording.frames()
        self._next = None
        self._exposed = 0
        self._started_ns = self._clock.now_ns()

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, None if it is not due within `timeout_s`.

        Behind the last one raises EndOfStream, or DataLoss where part of the recording could not be read.
        """
        if self._frames is None or self._stopped.is_set():
            raise DeviceError("the replay is not running: call start() first")
        if self._next is None:
            self._next = next(self._frames, None)
        frame = self._next
        if frame is None:
            if self.recording.loss is not None:
                raise DataLoss(f"{self._settings.path}: {self.recording.loss}")
            self._exposed = max(self._exposed, self.recording.captured or 0)
            raise EndOfStream
        if self._speed is not None:
            due_ns = self._started_ns + round(frame.captured_ns / self._speed)
            if (late_ns := self._clock.now_ns() - due_ns) > HALT_NS:  # it was held still: go on from here, do not race
                self._started_ns += late_ns
                due_ns += late_ns
            wait_s = (due_ns - self._clock.now_ns()) / NS_PER_S
            if wait_s > 0:
                self._stopped.wait(min(wait_s, timeout_s))
            if self._stopped.is_set() or self._clock.now_ns() < due_ns:
                return None
        self._next = None
        self._exposed = frame.index + 1
        return Frame(frame.index, frame.captured_ns, self._clock.now_ns(), frame.pixels, frame.background)

    def stop(self) -> None:
        """End the replay; a `read` that waits returns. Harmless when none runs."""
        self._stopped.set()

    @property
    def exposed(self) -> int | None:
        """Read so far; at the end, what the run's books count. None where frames were left out of the file."""
        return self._exposed if self._recording is not None and self._recording.info.counts_gaps else None

    def close(self) -> None:
        """Let go of the file; harmless when called twice. What it said stays readable."""
        self.stop()
        if self._recording is not None:
            self._recording.close()
