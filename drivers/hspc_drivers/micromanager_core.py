"""One Micro-Manager core: in our process by pycromanager or pymmcore-plus, or that of a Micro-Manager that runs.

All drivers of a rig share one session, because the devices of one microscope hang on one core. They speak MMCore's own
names, which both libraries give; only how a picture is fetched differs, and stands here. Every failure is a DeviceError
that names the device or file and the mend.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, assert_never, cast

import numpy as np

from hspc_drivers.micromanager_adapters import adapter_folder, device_failures, load_device, module, strings
from hspc_live.core.errors import DeviceError
from hspc_live.core.values import Pixels
from hspc_live.settings.micromanager import MicroManagerCore, PropertyValue

DEMO_CAMERA, DEMO_STAGE, DEMO_FOCUS = "Camera", "XY", "Z"
DEMO_DEVICES = (("DHub", "DHub"), (DEMO_CAMERA, "DCam"), (DEMO_STAGE, "DXYStage"), (DEMO_FOCUS, "DStage"))
NUMBER, RECEIVED = "ImageNumber", "TimeReceivedByCore"
"""Tags of a frame: how many the camera had inserted before it, and the computer's local time when the core had it."""


class Popped(NamedTuple):
    """One frame out of the core's buffer, (height, width), with its number since the start and the core's local time.

    `received` is like `2026-12-01 11:40:50.592592`.
    """

    pixels: Pixels
    number: int
    received: str


class CoreSession:
    """A core, open while at least one driver uses it. One process can hold one of pycromanager's only."""

    _pycromanager_held = False

    def __init__(self, settings: MicroManagerCore, prepare: Callable[[Any], None] | None = None) -> None:
        """`prepare` loads devices into the fresh core in place of configuration and demo: the twin's, in Python."""
        self._settings = settings
        self._prepare = prepare
        self._core: Any = None
        self._metadata: Any = None
        self._users = 0

    @property
    def core(self) -> Any:
        """The core, by MMCore's names. Raises DeviceError if it is not open."""
        if self._core is None:
            raise DeviceError("Micro-Manager's core is not open: call open() first")
        return self._core

    def open(self) -> None:
        """Start the core and load the devices, for the first of its users. Raises DeviceError."""
        if self._users == 0:
            self._core = self._start()
            try:
                self._load(self._core)
            except BaseException:
                self._end()
                raise
        self._users += 1

    def close(self) -> None:
        """One user less; the last one unloads the devices."""
        self._users = max(0, self._users - 1)
        if self._users == 0 and self._core is not None:
            self._end()

    def _start(self) -> Any:
        match self._settings.backend:
            case "pycromanager":
                return self._pycromanager()
            case "pymmcore-plus":
                return self._pymmcore_plus()
            case "java":
                return _java_core(self._settings.port)
            case _:
                assert_never(self._settings.backend)

    def _pycromanager(self) -> Any:
        pycromanager, launcher = module("pycromanager"), module("mmpycorex.launcher")
        if CoreSession._pycromanager_held or launcher.is_pymmcore_active():
            raise DeviceError(
                "this process holds a core of pycromanager already, and it can hold only one: close that one first, "
                "or set core.backend to pymmcore-plus"
            )
        self._metadata = module("pymmcore").Metadata
        folder = str(adapter_folder(self._settings))
        # the configuration is loaded by `_load`, whose errors name the mend
        pycromanager.start_headless(folder, None, python_backend=True, buffer_size_mb=self._settings.buffer_mb)
        CoreSession._pycromanager_held = True
        return pycromanager.Core()

    def _pymmcore_plus(self) -> Any:
        self._metadata = module("pymmcore").Metadata
        if self._prepare is not None:
            core = module("pymmcore_plus.experimental.unicore").UniMMCore()
        else:
            core = module("pymmcore_plus").CMMCorePlus()
        core.setDeviceAdapterSearchPaths([str(adapter_folder(self._settings))])
        core.setCircularBufferMemoryFootprint(self._settings.buffer_mb)
        return core

    def _load(self, core: Any) -> None:
        if self._prepare is not None:
            self._prepare(core)
        elif self._settings.backend == "java":
            return  # whoever runs Micro-Manager has loaded the devices
        elif self._settings.config is not None:
            self._load_config(core, self._settings.config)
        else:
            for label, name in DEMO_DEVICES:
                load_device(core, adapter_folder(self._settings), label, "DemoCamera", name)
            core.setCameraDevice(DEMO_CAMERA)
            core.setXYStageDevice(DEMO_STAGE)
            core.setFocusDevice(DEMO_FOCUS)

    def _load_config(self, core: Any, config: Path) -> None:
        if not config.is_file():
            raise DeviceError(f"core.config: {config}: there is no such file; Micro-Manager's wizard writes one")
        try:
            core.loadSystemConfiguration(str(config))
        except Exception as error:
            # each device by itself, so that all which fail are told together
            failures = [*device_failures(core, config, adapter_folder(self._settings))] or [str(error)]
            raise DeviceError("\n".join(f"{config}: {failure}" for failure in failures)) from error

    def _end(self) -> None:
        core, self._core = self._core, None
        if self._settings.backend == "java":
            return
        try:
            core.unloadAllDevices()
        except Exception as error:
            raise DeviceError(f"Micro-Manager's devices could not be unloaded: {error}") from error
        finally:
            if self._settings.backend == "pycromanager":
                CoreSession._pycromanager_held = False
                module("pycromanager").stop_headless()

    # ---- pictures ----------------------------------------------------------------------------------------------------

    def pop(self) -> Popped:
        """The oldest frame that waits. Raises IndexError where none does; other errors are the core's."""
        if self._settings.backend == "java":
            image = self.core.popNextTaggedImage()
            return _java_frame(image)
        tags = self._metadata()
        pixels = cast("Pixels", self.core.popNextImageMD(tags))
        value = tags.GetSingleTag
        return Popped(pixels, int(value(NUMBER).GetValue()), value(RECEIVED).GetValue())

    def newest_number(self) -> int | None:
        """The number of the newest frame that waits; None where none does."""
        if self.core.getRemainingImageCount() == 0:
            return None
        if self._settings.backend == "java":
            return _java_frame(self.core.getLastTaggedImage()).number
        tags = self._metadata()
        self.core.getLastImageMD(tags)
        return int(tags.GetSingleTag(NUMBER).GetValue())

    def snapped(self) -> Pixels:
        """The picture of the last `snapImage`, (height, width), a copy."""
        if self._settings.backend == "java":
            return _java_frame(self.core.getTaggedImage()).pixels
        return cast("Pixels", self.core.getImage().copy())

    # ---- devices -----------------------------------------------------------------------------------------------------

    def labels(self, kind: int) -> tuple[str, ...]:
        """Labels of the loaded devices of a kind (MM::DeviceType); by way of Java those of all kinds."""
        if self._settings.backend == "java":
            return strings(self.core.getLoadedDevices())  # its enumeration takes no number
        return strings(self.core.getLoadedDevicesOfType(kind))

    def set_property(self, device: str, name: str, value: PropertyValue) -> None:
        """Set a property. Raises DeviceError naming what the device would take."""
        core = self.core
        known = strings(core.getDevicePropertyNames(device))
        if name not in known:
            raise DeviceError(f"{device} has no property {name!r}; it has {', '.join(sorted(known))}")
        try:
            core.setProperty(device, name, str(value))
        except Exception as error:
            allowed = strings(core.getAllowedPropertyValues(device, name))
            takes = f": it takes {', '.join(allowed)}" if allowed else ""
            raise DeviceError(f"{device} does not take {name} = {value}{takes} ({error})") from error

    def model(self, device: str) -> str:
        """Adapter and device by name; a device written in Python has no adapter."""
        name = str(self.core.getDeviceName(device))
        return name if self._prepare is not None else f"{self.core.getDeviceLibrary(device)}/{name}"

    def about(self, device: str) -> dict[str, str]:
        """What the recording keeps of a device: versions, adapter, and every property as it is now."""
        core = self.core
        found = {"core": str(core.getVersionInfo()), "interface": str(core.getAPIVersionInfo())}
        for name, call in (("adapter", core.getDeviceLibrary), ("device", core.getDeviceName)):
            found[name] = str(call(device))
        for name in strings(core.getDevicePropertyNames(device)):
            try:
                found[f"{device}-{name}"] = str(core.getProperty(device, name))
            except Exception as error:  # some properties cannot be read at all times
                found[f"{device}-{name}"] = f"not readable: {error}"
        return found


# ---- Java: a Micro-Manager that runs, with its server switched on --------------------------------------------------


def _java_core(port: int) -> Any:
    launcher = module("mmpycorex.core")
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2.0).close()  # pyjavaz would wait in a thread of its own
        return launcher.ZMQRemoteMMCoreJ(port=port, convert_camel_case=False)
    except Exception as error:
        raise DeviceError(
            f"no Micro-Manager answers at port {port}: start it and switch on Tools > Options > Run server on port "
            f"{port}, or set core.port ({error})"
        ) from error


def _java_frame(image: Any) -> Popped:
    """A TaggedImage: pixels in one row, tags as a dictionary."""
    tags, pixels = image.tags, np.asarray(image.pix)
    shaped = pixels.reshape(int(tags["Height"]), int(tags["Width"]))
    return Popped(cast("Pixels", shaped), int(tags.get(NUMBER, 0)), str(tags.get(RECEIVED, "")))
