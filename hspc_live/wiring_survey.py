"""What `doctor` asks the devices: Micro-Manager's adapters, and each device of a rig opened once. Nothing moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hspc_drivers.micromanager_survey import survey
from hspc_live.core.clock import HostClock
from hspc_live.core.errors import HspcError
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.micromanager import MicroManagerCamera, MicroManagerCore, MicroManagerSnapCamera
from hspc_live.settings.schema import RunSettings
from hspc_live.wiring import build_camera, build_sorter
from hspc_live.wiring_chamber import build_chamber_devices

DEMO = RunSettings(
    camera=MicroManagerCamera(kind="micromanager", um_per_px=1.0, properties={"PixelType": "16bit", "FastImage": 1})
)
"""The camera that needs no hardware: what it gives is what this computer and its Micro-Manager hold."""


def micromanager(settings: RunSettings | ChamberRunSettings | None) -> dict[str, Any] | None:
    """What there is of Micro-Manager, for a rig that uses it or for none in particular; None for another rig."""
    match settings:
        case None:
            core = MicroManagerCore()
        case RunSettings(camera=MicroManagerCamera(core=core)):
            pass
        case ChamberRunSettings(camera=MicroManagerSnapCamera(core=core)):
            pass
        case _:
            return None
    return survey(core)


def devices(settings: RunSettings | ChamberRunSettings) -> tuple[dict[str, Any], list[str]]:
    """Open every device of the rig once and close it: what each says of itself, and all that failed, in words."""
    clock = HostClock()
    found: dict[str, Any] = {}
    problems: list[str] = []
    if isinstance(settings, ChamberRunSettings):
        pair = build_chamber_devices(settings)
        _try("camera", pair.camera.open, pair.camera.close, found, problems)
        _try("stage", pair.stage.open, pair.stage.close, found, problems)
        if pair.focus is not None:
            _try("focus", pair.focus.open, pair.focus.close, found, problems)
        return found, problems
    camera = build_camera(settings, clock, None)
    _try("camera", camera.open, camera.close, found, problems)
    sorter = build_sorter(settings, clock, None)
    if sorter is not None:
        _try("sorter", sorter.open, sorter.close, found, problems)
    return found, problems


def _try(
    name: str, open_it: Callable[[], Any], close: Callable[[], None], found: dict[str, Any], problems: list[str]
) -> None:
    try:
        info = open_it()
        found[name] = {} if info is None else {key: getattr(info, key) for key in type(info).__slots__}
    except HspcError as error:
        problems.extend(f"{name}: {line}" for line in str(error).splitlines())
    finally:
        close()
