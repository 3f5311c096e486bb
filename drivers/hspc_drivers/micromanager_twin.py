"""The digital twin's chamber as devices of a Micro-Manager core: a camera that films where the core's stages stand.

pymmcore-plus lets devices be written in Python. With these a run goes the whole way that it goes on a microscope
(settings, core, stage and camera drivers), and what it finds can still be scored against the truth. Import it only
where the twin is wanted: it needs the extra `rig`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pymmcore_plus.experimental.unicore import CameraDevice, StageDevice, XYStageDevice

from hspc_drivers.chamber_world import ChamberWorld
from hspc_drivers.micromanager_core import DEMO_CAMERA, DEMO_FOCUS, DEMO_STAGE
from hspc_live.core.values import CameraInfo
from hspc_live.settings.chamber_twin import TwinChamberSettings
from hspc_live.settings.micromanager import MicroManagerChannel, MicroManagerCore, MicroManagerSnapCamera

GROUP = "Channel"


class TwinCamera(CameraDevice):
    """Films the table of the twin, in the channel that its property `Channel` names."""

    def __init__(self, world: ChamberWorld) -> None:
        super().__init__()
        self._world = world
        self._info: CameraInfo = world.info()
        self._exposure_ms = self._info.exposure_us / 1e3
        self.register_property(GROUP, default_value=world.channels[0], allowed_values=world.channels)

    @classmethod
    def name(cls) -> str:
        """What reports call the camera by which simulated cells were filmed."""
        return "digital twin"

    def get_exposure(self) -> float:
        """In ms."""
        return self._exposure_ms

    def set_exposure(self, exposure: float) -> None:
        """In ms."""
        self._exposure_ms = exposure

    def shape(self) -> tuple[int, int]:
        """(height, width) in px."""
        return self._info.height_px, self._info.width_px

    def dtype(self) -> DTypeLike:
        """Of a pixel."""
        return np.dtype(self._info.dtype)

    def start_sequence(
        self, n: int | None, get_buffer: Callable[[Sequence[int], DTypeLike], NDArray[Any]]
    ) -> Iterator[Mapping[str, Any]]:
        """Expose `n` pictures one after the other, or on and on."""
        taken = 0
        while n is None or taken < n:
            frame = self._world.expose(str(self.get_property_value(GROUP)), self._exposure_ms)
            get_buffer(self.shape(), self.dtype())[:] = frame.pixels
            taken += 1
            yield {}


class TwinStage(XYStageDevice):
    """Moves the table of the twin; it has limits of its own, like a real one's end switches."""

    def __init__(self, world: ChamberWorld) -> None:
        super().__init__()
        self._world = world

    def set_position_um(self, x: float, y: float) -> None:
        """Set out; raises ValueError out of the travel."""
        self._world.move(x, y)

    def get_position_um(self) -> tuple[float, float]:
        """What the encoder says."""
        here = self._world.position()
        return here.x_um, here.y_um

    def busy(self) -> bool:
        """Whether it is on its way."""
        return self._world.position().moving

    def stop(self) -> None:
        """Halt."""
        self._world.halt()

    def home(self) -> None:
        """Nothing to look for: the twin knows where it is."""

    def set_origin(self) -> None:
        """Raises NotImplementedError: the twin's coordinates are those of its truth."""
        raise NotImplementedError("the twin's stage keeps its origin")

    set_origin_x = set_origin_y = set_origin


class TwinFocus(StageDevice):
    """Moves the twin's plane of focus."""

    def __init__(self, world: ChamberWorld) -> None:
        super().__init__()
        self._world = world

    def set_position_um(self, val: float) -> None:
        """Set out; raises ValueError out of the travel."""
        self._world.focus(val)

    def get_position_um(self) -> float:
        """What the encoder says."""
        return self._world.height()[0]

    def busy(self) -> bool:
        """Whether it is on its way."""
        return self._world.height()[1]

    def stop(self) -> None:
        """Halt."""
        self._world.focus(self._world.height()[0])

    def home(self) -> None:
        """Nothing to look for: the twin knows where it is."""

    def set_origin(self) -> None:
        """Raises NotImplementedError: the twin's heights are those of its truth."""
        raise NotImplementedError("the twin's focus drive keeps its origin")


def twin_core() -> MicroManagerCore:
    """The core that takes Python devices."""
    return MicroManagerCore(backend="pymmcore-plus", buffer_mb=64)


def twin_devices(world: ChamberWorld) -> Callable[[Any], None]:
    """What loads the twin into a fresh core: a camera, two stages, and a configuration group with its channels."""

    def load(core: Any) -> None:
        core.loadPyDevice(DEMO_CAMERA, TwinCamera(world))
        core.loadPyDevice(DEMO_STAGE, TwinStage(world))
        core.loadPyDevice(DEMO_FOCUS, TwinFocus(world))
        core.initializeAllDevices()
        core.setCameraDevice(DEMO_CAMERA)
        core.setXYStageDevice(DEMO_STAGE)
        core.setFocusDevice(DEMO_FOCUS)
        for channel in world.channels:
            core.defineConfig(GROUP, channel, DEMO_CAMERA, GROUP, channel)

    return load


def twin_camera(twin: TwinChamberSettings, channels: Sequence[str]) -> MicroManagerSnapCamera:
    """The settings by which the snap camera films the twin."""
    exposures = (twin.exposure_ms, twin.fluorescence.exposure_ms)
    return MicroManagerSnapCamera(
        kind="micromanager",
        core=twin_core(),
        channels=tuple(
            MicroManagerChannel(name=name, group=GROUP, preset=name, exposure_ms=exposure)
            for name, exposure in zip(channels, exposures, strict=True)
        ),
        um_per_px=twin.um_per_px,
    )
