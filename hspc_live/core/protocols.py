"""What a device and an engine must be able to do. Every implementation passes the same suite in `tests/conformance`.

Blocking calls are allowed: the processes run them in threads. Nothing here knows asyncio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.values import (
    CameraInfo,
    FocusInfo,
    Frame,
    Pixels,
    Receipt,
    SortCommand,
    StageInfo,
    StagePosition,
    StageReceipt,
    StageTarget,
)


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
        """End the sequence; harmless when none runs. Fixes `exposed`."""
        ...

    @property
    def exposed(self) -> int | None:
        """How many frames the sequence has had, those that were never handed over included; final once stopped.

        It shows what a gap cannot: frames dropped behind the last one that was read. None where nobody counts them.
        """
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

    @property
    def armed(self) -> bool:
        """Whether the device, by its own last word, accepts commands."""
        ...

    @property
    def clock_bound_ns(self) -> int:
        """How far the estimate of the device's clock can be off now, in ns; 0 where both share one."""
        ...

    @property
    def faults(self) -> Mapping[str, int]:
        """What went wrong between host and device so far, counted by name; what is nobody's concern is left out."""
        ...

    def arm(self) -> None:
        """Let commands through, and have the device say so. Raises DeviceError if it does not."""
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
        """Scores (n, classes), rows summing to 1, for crops (n, S, S) as cut by `core.crop` (any n ≥ 1).

        Raises MemoryError where there is no memory for so many: fewer may do.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds."""
        ...


class Stage(Protocol):
    """A motorised XY stage. One move at a time; a new target while it moves takes it from where it is."""

    def open(self) -> StageInfo:
        """Connect and say how far it travels. Raises DeviceError."""
        ...

    def move_to(self, target: StageTarget) -> None:
        """Set out for `target` and return at once.

        Raises DeviceError before anything moves where the target is not finite or out of the limits, or it is not open.
        """
        ...

    def wait(self, timeout_s: float) -> StageReceipt | None:
        """The receipt of the last target once the stage reports arrival, or None if it did not arrive in time.

        Asked again, it answers the same. Raises DeviceError where no target was set, after `stop`, and on failure.
        """
        ...

    def position(self) -> StagePosition:
        """Where it says it is, now. Raises DeviceError if it is not open."""
        ...

    def stop(self) -> None:
        """Halt at once and forget the target; harmless when it stands still; works from another thread."""
        ...

    def close(self) -> None:
        """Halt and let go; harmless when called twice."""
        ...


class Focus(Protocol):
    """A motorised focus drive. Larger z lifts the plane of focus, or whatever the drive calls up."""

    def open(self) -> FocusInfo:
        """Connect and say where it may go; nothing moves. Raises DeviceError."""
        ...

    def move_to(self, z_um: float) -> float:
        """Go to `z_um` and return when it stands there, with what it says of itself, µm.

        Raises DeviceError before anything moves where `z_um` is not finite or beyond the limits, or it is not open; and
        where it does not arrive.
        """
        ...

    def position(self) -> float:
        """Where it says it is, µm. Raises DeviceError if it is not open."""
        ...

    def close(self) -> None:
        """Halt and let go; harmless when called twice. It stays where it is."""
        ...


class SnapCamera(Protocol):
    """A camera that takes single pictures on demand, in one of several channels."""

    def open(self) -> CameraInfo:
        """Connect and say what its pictures will be; `um_per_px` is the nominal scale. Raises DeviceError."""
        ...

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of what it can show; the first is transmitted light, in which cells are found and classified."""
        ...

    def snap(self, channel: str, exposure_ms: float | None = None) -> Frame:
        """Expose now, for `exposure_ms` (None: the channel's usual time), and wait for the picture.

        `index` counts the pictures from 0. Raises DeviceError: not open, no such channel, no such exposure, failure.
        """
        ...

    def close(self) -> None:
        """Let go of the device; harmless when called twice."""
        ...
