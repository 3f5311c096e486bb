"""Settings of what Micro-Manager drives: the core and its devices, cameras and the XY stage."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from hspc_live.settings.base import Section

PropertyValue = str | int | float
"""What a device property may be set to; the core takes text, and `1` in YAML is a number."""


class MicroManagerCore(Section):
    """The core: which library speaks to it, and which devices it loads."""

    backend: Literal["pycromanager", "pymmcore-plus", "java"] = Field(
        "pycromanager",
        description="pycromanager and pymmcore-plus run the core in our process; java asks a Micro-Manager that runs",
    )
    config: Path | None = Field(None, description="Micro-Manager's configuration (.cfg); None loads the demo devices")
    adapters: Path | None = Field(None, description="folder of the device adapters; None looks for Micro-Manager")
    port: int = Field(4827, ge=1, le=65_535, description="java: the port of Micro-Manager's server, on this computer")
    buffer_mb: int = Field(256, ge=1, le=65_536, description="memory for frames that wait to be fetched")


class MicroManagerCamera(Section):
    """A camera of Micro-Manager that films a flow, frame after frame."""

    kind: Literal["micromanager"]
    core: MicroManagerCore = MicroManagerCore()
    device: str = Field("", description="the camera's label; empty takes the one that the configuration makes default")
    exposure_ms: float = Field(10.0, gt=0, le=60_000)
    binning: int | None = Field(None, ge=1, description="None leaves it as it is")
    roi: tuple[int, int, int, int] | None = Field(None, description="left, top, width, height in pixels; None: all")
    properties: dict[str, PropertyValue] = Field(
        default_factory=dict, description="further properties of the camera, by Micro-Manager's names"
    )
    um_per_px: float | None = Field(
        None, gt=0, description="of the pictures as they come, binned; None takes the configuration's pixel size"
    )
    frames_per_s: float | None = Field(
        None, gt=0, description="None measures it at the start; needed where the camera waits for a trigger"
    )
    transfer_ms: float | None = Field(
        None, ge=0, description="from the end of an exposure until the core has the picture; None: not known"
    )
    transfer_sd_ms: float = Field(0.1, ge=0, description="by how much that is uncertain, where it is given")
    stall_periods: float = Field(5.0, ge=2, description="no frame for so many frame periods ends the run")
    frames: int | None = Field(None, ge=1, description="end of the stream after so many frames; None goes on")


class MicroManagerChannel(Section):
    """What shows one thing: a preset of a configuration group, an exposure, or another camera."""

    name: str = Field(min_length=1)
    group: str = Field("", description="configuration group, e.g. Channel; empty switches nothing")
    preset: str = Field("", description="its preset, e.g. DIC or FITC")
    device: str = Field("", description="label of the camera that films it; empty takes that of the first channel")
    exposure_ms: float = Field(10.0, gt=0, le=60_000, description="its usual exposure")


class MicroManagerSnapCamera(Section):
    """A camera of Micro-Manager that takes single pictures in a chamber, in one or more channels."""

    kind: Literal["micromanager"]
    core: MicroManagerCore = MicroManagerCore()
    channels: tuple[MicroManagerChannel, ...] = Field(
        (MicroManagerChannel(name="transmitted"),), min_length=1, description="the first is transmitted light"
    )
    binning: int | None = Field(None, ge=1, description="None leaves it as it is")
    properties: dict[str, PropertyValue] = Field(
        default_factory=dict, description="further properties of every camera used, by Micro-Manager's names"
    )
    um_per_px: float | None = Field(
        None, gt=0, description="of the pictures as they come, binned; None takes the configuration's pixel size"
    )


class MicroManagerStage(Section):
    """The XY stage of the same core. Its travel is what `chamber.limits` allows: the core knows of no limits."""

    kind: Literal["micromanager"]
    device: str = Field("", description="the stage's label; empty takes the one that the configuration makes default")
    arrive_timeout_s: float = Field(30.0, gt=0, description="a move that has not ended by then is a failure")
    resolution_um: float = Field(0.1, gt=0, description="smallest step that it reports")
    tolerance_um: float = Field(1.0, gt=0, description="further than this from the target it has not arrived")
    backlash_um: float = Field(
        0.0, ge=0, description="above 0: each target is come to in +x and +y, from so far before it"
    )
