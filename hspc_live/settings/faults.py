"""A fault plan: what shall go wrong in a run, and when. `hspc-live schema --mode faults` prints this as JSON schema.

Every fault strikes once at `at_s` (seconds after the run came under way, by the computer's clock) or again and again at
`per_s` times a second, drawn from the plan's seed; those of frames may be told a frame's number instead.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hspc_live.settings.base import Section

ProcessName = Literal["worker", "record", "sort"]


class When(Section):
    """When a fault strikes: exactly one of `at_s` and `per_s`."""

    at_s: float | None = Field(None, ge=0, description="once, so many seconds after the run came under way")
    per_s: float | None = Field(None, gt=0, le=1000, description="again and again: times a second, drawn from the seed")
    most: int | None = Field(None, ge=1, description="with per_s: not more often than this")

    @model_validator(mode="after")
    def _one(self) -> Self:
        ways = [name for name in ("at_s", "per_s", "at_frame") if getattr(self, name, None) is not None]
        if len(ways) != 1:
            known = "at_s, per_s or at_frame" if "at_frame" in type(self).model_fields else "at_s or per_s"
            raise ValueError(f"say when it strikes: exactly one of {known}, not {' and '.join(ways) or 'none'}")
        if self.most is not None and self.per_s is None:
            raise ValueError("most is for faults that strike again and again: it needs per_s")
        return self

    @property
    def name(self) -> str:
        """What it is counted under."""
        return str(getattr(self, "kind", ""))


class FrameWhen(When):
    """As `When`, or at a frame's number."""

    at_frame: int | None = Field(None, ge=0, description="once, at this frame (in a chamber: picture, move)")


class DropFrame(FrameWhen):
    """The camera counts on without handing `count` frames over."""

    kind: Literal["drop"]
    count: int = Field(1, ge=1, le=10_000)


class DuplicateFrame(FrameWhen):
    """The camera hands a frame over twice."""

    kind: Literal["duplicate"]


class DelayFrame(FrameWhen):
    """A frame, and all behind it, comes late."""

    kind: Literal["delay"]
    by_ms: float = Field(100.0, gt=0, le=60_000)


class ReorderFrame(FrameWhen):
    """A frame comes after the one behind it."""

    kind: Literal["reorder"]


class CorruptFrame(FrameWhen):
    """A frame's pixels are something else."""

    kind: Literal["corrupt"]
    how: Literal["noise", "black", "white"] = "noise"


class ReshapeFrame(FrameWhen):
    """A frame comes in another shape, as if somebody had changed the camera's region of interest."""

    kind: Literal["reshape"]


class CameraStall(FrameWhen):
    """The camera gives nothing for a while."""

    kind: Literal["stall"]
    seconds: float = Field(0.5, gt=0, le=3600)


class CameraDisconnect(FrameWhen):
    """The camera is unplugged."""

    kind: Literal["disconnect"]


class ProcessFault(When):
    """Something happens to a process; `worker` is one of the segment workers, drawn from the seed."""

    process: ProcessName

    @property
    def name(self) -> str:
        """`kill_worker`, `hang_sort` and so on."""
        return f"{getattr(self, 'kind', '')}_{self.process}"


class KillProcess(ProcessFault):
    """`kill -9`."""

    kind: Literal["kill"]


class HangProcess(ProcessFault):
    """Its process stands still, its sockets stay open."""

    kind: Literal["hang"]
    seconds: float | None = Field(None, gt=0, le=3600, description="None: for good")


class SlowProcess(ProcessFault):
    """It gets only a `share` of its time, for a while."""

    kind: Literal["slow"]
    seconds: float = Field(2.0, gt=0, le=3600)
    share: float = Field(0.2, gt=0, lt=1)


class EngineOutOfMemory(When):
    """The engine has no memory for batches of more than `above` crops, for as many batches as `count` says."""

    kind: Literal["out_of_memory"]
    above: int = Field(0, ge=0)
    count: int = Field(1, ge=1)


class EngineNan(When):
    """The engine returns no number for `count` batches."""

    kind: Literal["nan"]
    count: int = Field(1, ge=1)


class EngineWrongRows(When):
    """From now on the engine gives every crop the scores of the one beside it."""

    kind: Literal["wrong_rows"]


class EngineDrift(When):
    """From now on the engine's scores are off: a share `by` goes from the best class to all others."""

    kind: Literal["drift"]
    by: float = Field(0.1, gt=0, le=1)


class SorterNak(When):
    """The sorter refuses the next `count` commands."""

    kind: Literal["nak"]
    count: int = Field(1, ge=1)


class SorterSilence(When):
    """The wire to the sorter is dead for a while, both ways."""

    kind: Literal["silence"]
    seconds: float = Field(3.0, gt=0, le=3600)


class SorterLate(When):
    """The next `count` commands reach the sorter late, and those behind them not before them."""

    kind: Literal["late"]
    by_ms: float = Field(1000.0, gt=0, le=60_000)
    count: int = Field(1, ge=1)


class StageSlip(FrameWhen):
    """Chamber: the table slips against what the stage reports."""

    kind: Literal["slip"]
    x_um: float = 5.0
    y_um: float = 0.0


class DiskFull(When):
    """The recording's disk has `left_kb` left from now on."""

    kind: Literal["disk_full"]
    left_kb: int = Field(0, ge=0)


class ClockJump(When):
    """The computer's calendar is set."""

    kind: Literal["clock_jump"]
    by_s: float = 3600.0


class CameraClock(FrameWhen):
    """The times that the camera gives to its frames jump."""

    kind: Literal["camera_clock"]
    by_s: float = 3600.0


class Clog(Section):
    """The twin: a clump sticks in the middle of the view, and the others slow down."""

    kind: Literal["clog"]
    at_s: float = Field(ge=0, description="seconds of filming")
    seconds: float = Field(3.0, gt=0)
    slowing: float = Field(0.4, gt=0, le=1)

    @property
    def name(self) -> str:
        """What it is counted under."""
        return self.kind


class Bubble(Section):
    """The twin: an air bubble passes."""

    kind: Literal["bubble"]
    at_s: float = Field(ge=0, description="seconds of filming")
    diameter_um: float = Field(56.0, gt=0)

    @property
    def name(self) -> str:
        """What it is counted under."""
        return self.kind


class VelocityDrift(Section):
    """The twin: all velocities change, from the start on."""

    kind: Literal["velocity_drift"]
    per_s: float = Field(description="relative change a second")

    @property
    def name(self) -> str:
        """What it is counted under."""
        return self.kind


FrameFault = DropFrame | DuplicateFrame | DelayFrame | ReorderFrame | CorruptFrame | ReshapeFrame
CameraFault = FrameFault | CameraClock | CameraStall | CameraDisconnect
EngineFault = EngineOutOfMemory | EngineNan | EngineWrongRows | EngineDrift
SorterFault = SorterNak | SorterSilence | SorterLate
TwinFault = Clog | Bubble | VelocityDrift
TimedFault = (
    CameraFault | KillProcess | HangProcess | SlowProcess | EngineFault | SorterFault | StageSlip | DiskFull | ClockJump
)
Fault = Annotated[TimedFault | TwinFault, Field(discriminator="kind")]


class FaultPlan(Section):
    """Everything that shall go wrong in one run."""

    seed: int = 1
    real_devices: bool = Field(
        False, description="a sorter or a stage that is not simulated: only if a person says so here"
    )
    faults: tuple[Fault, ...] = Field(min_length=1)

    @property
    def in_force(self) -> str:
        """The line that nobody may overlook."""
        kinds = Counter(fault.name for fault in self.faults)
        told = ", ".join(name if n == 1 else f"{n} x {name}" for name, n in kinds.items())
        return f"A FAULT PLAN IS IN FORCE, things go wrong on purpose: {told} (seed {self.seed})"
