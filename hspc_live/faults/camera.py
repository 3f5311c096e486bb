"""A camera with faults: what it hands over is dropped, doubled, late, out of order, spoilt, or does not come at all."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from typing import Literal, assert_never, cast

import numpy as np

from hspc_live.core.clock import NS_PER_S
from hspc_live.core.errors import DeviceError
from hspc_live.core.protocols import Camera, SnapCamera
from hspc_live.core.values import CameraInfo, Frame, Pixels
from hspc_live.faults.schedule import Injector
from hspc_live.settings.faults import (
    CameraClock,
    CameraDisconnect,
    CameraStall,
    CorruptFrame,
    DelayFrame,
    DropFrame,
    DuplicateFrame,
    FrameFault,
    ReorderFrame,
    ReshapeFrame,
)

UNPLUGGED = "the camera does not answer any more (fault plan: disconnect)"
FRAMES: tuple[type[FrameFault | CameraStall | CameraDisconnect], ...] = (
    DropFrame, DuplicateFrame, DelayFrame, ReorderFrame, CorruptFrame, ReshapeFrame, CameraStall, CameraDisconnect,
)  # fmt: skip
SNAPS: tuple[type[CorruptFrame | DelayFrame | CameraDisconnect], ...] = (CorruptFrame, DelayFrame, CameraDisconnect)


class FaultyCamera:
    """A `core.protocols.Camera` around another one. Use it from one thread, as the other."""

    def __init__(self, camera: Camera, injector: Injector) -> None:
        self._camera = camera
        self._injector = injector
        self._next: deque[Frame] = deque()  # handed over before the camera is asked again
        self._held: Frame | None = None  # comes after the one behind it
        self._dropping = 0
        self._stalled_until = 0.0
        self._unplugged = False
        self._ahead_ns = 0
        self._noise = np.random.default_rng(injector.seed)

    def open(self) -> CameraInfo:
        """As the camera's."""
        return self._camera.open()

    def start(self) -> None:
        """As the camera's."""
        self._camera.start()

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame as the faults leave it. Raises DeviceError once it is unplugged, and as the camera's."""
        if self._unplugged:
            raise DeviceError(UNPLUGGED)
        if self._next:
            return self._next.popleft()
        if (left_s := self._stalled_until - time.monotonic()) > 0:
            time.sleep(min(left_s, timeout_s))
            return None
        frame = self._camera.read(timeout_s)
        if frame is None:
            return None
        for jump in self._injector.due(CameraClock, frame.index):
            self._ahead_ns += round(jump.by_s * NS_PER_S)
            self._injector.done(jump, f"frame {frame.index}: by {jump.by_s:g} s")
        if self._ahead_ns:
            frame = replace(frame, captured_ns=frame.captured_ns + self._ahead_ns)
        return self._spoilt(frame)

    def _spoilt(self, frame: Frame) -> Frame | None:
        out: Frame | None = frame
        for fault in self._injector.due(FRAMES, frame.index):
            match fault:
                case DropFrame(count=count):
                    self._dropping += count
                case DuplicateFrame():
                    self._next.append(frame)
                case DelayFrame(by_ms=by_ms):
                    time.sleep(by_ms / 1e3)
                    out = frame = replace(frame, received_ns=time.perf_counter_ns())
                case ReorderFrame():
                    self._held, out = frame, None
                case CorruptFrame(how=how):
                    out = frame = replace(frame, pixels=spoilt(frame.pixels, how, self._noise))
                case ReshapeFrame():
                    out = frame = replace(frame, pixels=frame.pixels[:-8])
                case CameraStall(seconds=seconds):
                    self._stalled_until = time.monotonic() + seconds
                case CameraDisconnect():
                    self._unplugged = True
                case _:
                    assert_never(fault)
            self._injector.done(fault, f"frame {frame.index}")
        if self._unplugged:
            raise DeviceError(UNPLUGGED)
        if out is not None and self._dropping:
            self._dropping -= 1
            return None
        if out is not None and self._held is not None:
            self._next.append(self._held)
            self._held = None
        return out

    def stop(self) -> None:
        """As the camera's."""
        self._camera.stop()

    @property
    def exposed(self) -> int | None:
        """As the camera's; an unplugged one does not tell."""
        return None if self._unplugged else self._camera.exposed

    def close(self) -> None:
        """As the camera's."""
        self._camera.close()


class FaultySnapCamera:
    """A `core.protocols.SnapCamera` around another one: a picture is spoilt, late, or does not come."""

    def __init__(self, camera: SnapCamera, injector: Injector) -> None:
        self._camera = camera
        self._injector = injector
        self._unplugged = False
        self._noise = np.random.default_rng(injector.seed)

    def open(self) -> CameraInfo:
        """As the camera's."""
        return self._camera.open()

    @property
    def channels(self) -> tuple[str, ...]:
        """As the camera's."""
        return self._camera.channels

    def snap(self, channel: str, exposure_ms: float | None = None) -> Frame:
        """A picture as the faults leave it. Raises DeviceError once it is unplugged, and as the camera's."""
        if self._unplugged:
            raise DeviceError(UNPLUGGED)
        frame = self._camera.snap(channel, exposure_ms)
        for fault in self._injector.due(SNAPS, frame.index):
            match fault:
                case CorruptFrame(how=how):
                    frame = replace(frame, pixels=spoilt(frame.pixels, how, self._noise))
                case DelayFrame(by_ms=by_ms):
                    time.sleep(by_ms / 1e3)
                case CameraDisconnect():
                    self._unplugged = True
                case _:
                    assert_never(fault)
            self._injector.done(fault, f"picture {frame.index}")
        if self._unplugged:
            raise DeviceError(UNPLUGGED)
        return frame

    def close(self) -> None:
        """As the camera's."""
        self._camera.close()


def spoilt(pixels: Pixels, how: Literal["noise", "black", "white"], noise: np.random.Generator) -> Pixels:
    """A picture of the same shape and type that shows nothing."""
    top = int(np.iinfo(pixels.dtype).max)
    match how:
        case "noise":
            return cast("Pixels", noise.integers(0, top, pixels.shape, dtype=pixels.dtype, endpoint=True))
        case "black":
            return np.zeros_like(pixels)
        case "white":
            return np.full_like(pixels, top)
        case _:
            assert_never(how)
