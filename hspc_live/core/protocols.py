"""What a device and an engine must be able to do. Every implementation passes the same suite in `tests/conformance`.

Blocking calls are allowed: the processes run them in threads. Nothing here knows asyncio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.values import CameraInfo, Frame, Pixels, Receipt, SortCommand


class Camera(Protocol):
    """A source of frames in capture order."""

    def open(self) -> CameraInfo:
        """Connect and say what will come. Raises DeviceError (or RecordingError for a file)."""
        ...

    def start(self) -> None:
        """Begin the sequence. Frame indices count from here; a gap is a dropped frame if `counts_gaps`."""
        ...

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, or None if none came in time. Raises EndOfStream at the end, DeviceError on failure."""
        ...

    def stop(self) -> None:
        """End the sequence; harmless when none runs."""
        ...

    def close(self) -> None:
        """Let go of the device; harmless when called twice."""
        ...


class EndOfStream(Exception):
    """The camera has no more frames: a recording came to its end, or a simulated run its last frame."""


class Sorter(Protocol):
    """The host's half of a sorter. The device has its own clock and its own watchdog."""

    def open(self) -> None:
        """Shake hands and estimate the clock offset. Raises DeviceError."""
        ...

    def arm(self) -> None:
        """Let commands through. A disarmed sorter refuses every one."""
        ...

    def disarm(self) -> None:
        """Empty the queue and refuse what comes; must work at any time."""
        ...

    def send(self, command: SortCommand) -> None:
        """Queue one command; never blocks, never retries."""
        ...

    def poll(self) -> Sequence[Receipt]:
        """Receipts that have arrived since the last call. Raises DeviceError if the sorter went silent."""
        ...

    def heartbeat(self) -> None:
        """Tell the device's watchdog that the host is alive."""
        ...

    def close(self) -> None:
        """Disarm and let go; harmless when called twice."""
        ...


class Engine(Protocol):
    """A classifier that turns crops into class scores."""

    @property
    def name(self) -> str:
        """Engine name and device, e.g. `torch-eager/cpu`."""
        ...

    @property
    def precision(self) -> str:
        """Arithmetic used, e.g. `fp32`."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the columns of `infer`."""
        ...

    @property
    def buckets(self) -> tuple[int, ...]:
        """Batch sizes that run without padding, ascending."""
        ...

    def warm_up(self) -> Mapping[int, float]:
        """Run every bucket until its time is steady; returns p99 milliseconds per bucket."""
        ...

    def infer(self, crops: Pixels) -> NDArray[np.float32]:
        """Scores (n, classes), rows summing to 1, for crops (n, S, S) as cut by `core.crop` (any n ≥ 1)."""
        ...

    def close(self) -> None:
        """Free what the engine holds."""
        ...
