"""A camera of Micro-Manager that takes single pictures: transmitted light, and fluorescence beside it.

A channel is a preset of a configuration group (filters and light), or another camera, or both. Before each picture the
core is brought to its channel and waited for; the settings of a channel are checked when the camera is opened.
"""

from __future__ import annotations

import math
from typing import Any

from hspc_drivers.micromanager_adapters import strings, told
from hspc_drivers.micromanager_core import CoreSession
from hspc_drivers.micromanager_info import camera_info, camera_label
from hspc_live.core.clock import NS_PER_MS, Clock
from hspc_live.core.errors import DeviceError
from hspc_live.core.values import CameraInfo, Frame, Pixels
from hspc_live.settings.devices import RigSettings
from hspc_live.settings.micromanager import MicroManagerChannel
from hspc_live.settings.micromanager import MicroManagerSnapCamera as Settings

LONGEST_MS = 60_000


class MicroManagerSnapCamera:
    """A `core.protocols.SnapCamera`. The session is shared with the stage under it."""

    def __init__(self, settings: Settings, rig: RigSettings, session: CoreSession, clock: Clock) -> None:
        self._settings, self._rig, self._session, self._clock = settings, rig, session, clock
        self._by_name = {channel.name: channel for channel in settings.channels}
        self._opened = False
        self._info: CameraInfo | None = None
        self._shown: str | None = None
        self._default = ""  # label of the first channel's camera
        self._exposure_ms = 0.0
        self._count = 0

    @property
    def channels(self) -> tuple[str, ...]:
        """By the settings; the first is transmitted light."""
        return tuple(self._by_name)

    def open(self) -> CameraInfo:
        """Load the devices, try every channel, and take one picture to see how long that takes. Raises DeviceError."""
        if not self._opened:
            self._session.open()
            self._opened = True
        try:
            with told("camera"):
                self._info = self._set_up(self._session.core)
        except BaseException:
            self.close()
            raise
        return self._info

    def _set_up(self, core: Any) -> CameraInfo:
        self._default = camera_label(self._session, self._settings.channels[0].device)
        label = self._default
        for used in dict.fromkeys(
            camera_label(self._session, channel.device or label) for channel in self._settings.channels
        ):
            for name, value in self._settings.properties.items():
                self._session.set_property(used, name, value)
            if self._settings.binning is not None:
                self._session.set_property(used, "Binning", self._settings.binning)
        shapes = {}
        for channel in reversed(self._settings.channels):  # the first one last, so that it is the one that is shown
            self._show(core, channel, None)
            shapes[channel.name] = (core.getImageHeight(), core.getImageWidth(), core.getBytesPerPixel())
        if len(set(shapes.values())) > 1:
            told_all = ", ".join(f"{name} {h} x {w} of {b} bytes" for name, (h, w, b) in shapes.items())
            raise DeviceError(f"the channels differ in their pictures ({told_all}): set the cameras alike")
        _, open_ns, ready_ns = self._expose()
        unsure_ms = (ready_ns - open_ns) / NS_PER_MS - self._exposure_ms
        return camera_info(
            self._session,
            self._rig,
            label,
            self._settings.um_per_px,
            frames_per_s=1e9 / (ready_ns - open_ns),
            exposure_ms=self._exposure_ms,
            time_sd_us=1e3 * max(0.0, unsure_ms) / math.sqrt(12),
        )

    def snap(self, channel: str, exposure_ms: float | None = None) -> Frame:
        """Expose now and wait for the picture. Raises DeviceError: not open, no such channel or exposure, failure."""
        info = self._info
        if info is None:
            raise DeviceError("the Micro-Manager camera is not open: call open() before snap()")
        if channel not in self._by_name:
            raise DeviceError(f"the camera has no channel {channel!r}; it has {', '.join(self._by_name)}")
        if exposure_ms is not None and not 0 < exposure_ms <= LONGEST_MS:
            raise DeviceError(f"a camera exposes for more than 0 and up to {LONGEST_MS} ms, not {exposure_ms:g}")
        with told(f"camera, channel {channel}"):
            self._show(self._session.core, self._by_name[channel], exposure_ms)
            pixels, open_ns, ready_ns = self._expose()
        if pixels.shape != (info.height_px, info.width_px) or str(pixels.dtype) != info.dtype:
            raise DeviceError(
                f"channel {channel} is {pixels.dtype} {pixels.shape[0]} x {pixels.shape[1]}, the run began with "
                f"{info.dtype} {info.height_px} x {info.width_px}: start a new run for a new format"
            )
        # the exposure lies somewhere between call and return: its middle is taken, info.time_sd_us says how surely
        number, self._count = self._count, self._count + 1
        return Frame(number, (open_ns + ready_ns) // 2, self._clock.now_ns(), pixels)

    def _expose(self) -> tuple[Pixels, int, int]:
        """The picture, and when the exposure was asked for and had ended, ns."""
        core = self._session.core
        open_ns = self._clock.now_ns()
        core.snapImage()
        ready_ns = self._clock.now_ns()
        return self._session.snapped(), open_ns, ready_ns

    def _show(self, core: Any, channel: MicroManagerChannel, exposure_ms: float | None) -> None:
        """Bring the core to a channel and its exposure, and wait for the devices."""
        if self._shown != channel.name:
            self._shown = None  # in between it is neither
            if channel.group:
                self._switch(core, channel)
            core.setCameraDevice(channel.device or self._default)
            self._shown = channel.name
        wanted = channel.exposure_ms if exposure_ms is None else exposure_ms
        core.setExposure(wanted)
        self._exposure_ms = float(core.getExposure())

    def _switch(self, core: Any, channel: MicroManagerChannel) -> None:
        groups = strings(core.getAvailableConfigGroups())
        if channel.group not in groups:
            raise DeviceError(
                f"channel {channel.name}: there is no configuration group {channel.group!r}; there are: "
                f"{', '.join(groups) or 'none'}"
            )
        presets = strings(core.getAvailableConfigs(channel.group))
        if channel.preset not in presets:
            raise DeviceError(
                f"channel {channel.name}: group {channel.group} has no preset {channel.preset!r}; it has "
                f"{', '.join(presets)}"
            )
        core.setConfig(channel.group, channel.preset)
        core.waitForConfig(channel.group, channel.preset)

    def close(self) -> None:
        """Let go of the camera."""
        self._info, self._shown = None, None
        if self._opened:
            self._opened = False
            self._session.close()
