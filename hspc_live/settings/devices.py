"""Settings of cameras and sorters: tagged unions, one member a driver."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hspc_live.core.values import Modality
from hspc_live.settings.base import Section
from hspc_live.settings.door import KeySettings
from hspc_live.settings.micromanager import MicroManagerCamera
from hspc_live.settings.twin import TwinFlowSettings


class RigSettings(Section):
    """What the microscope is. The model's card must agree, or arming is refused."""

    modality: Modality = Modality.DIC
    shear_axis_deg: float | None = 45.0
    objective: str = ""


class SimulatedCamera(Section):
    """The digital twin as a camera."""

    kind: Literal["simulated"] = "simulated"
    twin: TwinFlowSettings = TwinFlowSettings()
    frames: int | None = Field(None, ge=0, description="end of the stream after so many frames; None goes on")


class ReplayCamera(Section):
    """A recording as a camera. `um_per_px` and `frames_per_s` override what the file says, with a warning."""

    kind: Literal["replay"]
    path: Path
    um_per_px: float | None = Field(None, gt=0)
    frames_per_s: float | None = Field(None, gt=0)


class LoopedCamera(Section):
    """A strip of film, rendered beforehand and played over and over: for benchmarks."""

    kind: Literal["looped"]
    twin: TwinFlowSettings = TwinFlowSettings()
    cells: int = Field(5, ge=1, le=64, description="single cells in every frame, evenly spaced")
    distinct: int = Field(64, ge=1, le=4096, description="frames in the strip")
    frames: int = Field(10_000, ge=1, description="frames played in all")
    paced: bool = Field(
        False,
        description="frames come at the twin's rate, by the host's clock, and are lost when nobody takes them; else as "
        "fast as they are taken",
    )


Camera = Annotated[SimulatedCamera | ReplayCamera | LoopedCamera | MicroManagerCamera, Field(discriminator="kind")]


class NoSorter(Section):
    """Nothing to sort with: verdicts are made and recorded, no command is sent."""

    kind: Literal["none"] = "none"


class SimulatedSorter(Section):
    """A sorter of its own process, with a clock, a queue and a watchdog of its own."""

    kind: Literal["simulated"]
    latency_ms: float = Field(2.0, ge=0, description="from a command's arrival to its place in the queue")
    min_lead_ms: float = Field(5.0, ge=0, description="a command arriving later than this before its pulse is refused")
    max_queue: int = Field(256, ge=1)
    miss_rate: float = Field(0.0, ge=0, le=1, description="pulses that do nothing")
    delay_error_ms: float = Field(0.0, description="true minus assumed sort delay (what calibration has to find)")
    clock_offset_ms: float = Field(12345.0, description="the device's clock minus the host's at the start")
    clock_drift_ppm: float = 20.0
    watchdog_ms: float = Field(200.0, gt=0, description="host silence after which the queue is emptied")
    seed: int = 1


class SerialSorter(Section):
    """A sorter at a serial port that speaks the line protocol (docs/serial-protocol.md)."""

    kind: Literal["serial"]
    port: str = Field(min_length=1, description="/dev/ttyACM0, /dev/serial/by-id/…, COM5; or an emulator's link")
    baud: int = Field(500_000, ge=9600, description="as in the device; of no meaning where the device has USB itself")
    outlets: dict[str, Annotated[int, Field(ge=1, le=255)]] = Field(
        min_length=1, description="number that the device gives to each outlet"
    )


class ZmqSorter(Section):
    """A sorter whose own process calls this computer over ZeroMQ. `address` is where it is waited for."""

    kind: Literal["zmq"]
    address: str = Field(pattern=r"^(tcp|ipc)://.+", description="tcp://127.0.0.1:5570, or ipc:// in a private folder")
    start_s: float = Field(30.0, gt=0, description="how long its first word is waited for")
    keys: KeySettings | None = Field(
        None, description="needed where other computers can reach the address; the device's public key is the list"
    )


Sorter = Annotated[NoSorter | SimulatedSorter | SerialSorter | ZmqSorter, Field(discriminator="kind")]
