"""Whether a fault plan fits a run: what cannot strike is a mistake that is told before anything starts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

from hspc_live.core.errors import SettingsError
from hspc_live.settings.chamber_run import ChamberRunSettings, SimulatedRig, TwinMicroManager
from hspc_live.settings.devices import NoSorter, SimulatedCamera, SimulatedSorter
from hspc_live.settings.faults import (
    Bubble,
    CameraClock,
    CameraDisconnect,
    ClockJump,
    Clog,
    CorruptFrame,
    DelayFrame,
    DiskFull,
    DuplicateFrame,
    EngineDrift,
    EngineNan,
    EngineOutOfMemory,
    EngineWrongRows,
    Fault,
    FaultPlan,
    ProcessFault,
    ReorderFrame,
    SorterLate,
    SorterNak,
    SorterSilence,
    StageSlip,
    VelocityDrift,
)
from hspc_live.settings.load import load_section
from hspc_live.settings.schema import RunSettings

CHAMBER = (
    StageSlip, DiskFull, CorruptFrame, DelayFrame, CameraDisconnect,
    EngineOutOfMemory, EngineNan, EngineWrongRows, EngineDrift,
)  # fmt: skip
SORTER = (SorterNak, SorterSilence, SorterLate)
TWIN = (Clog, Bubble, VelocityDrift)
ORDER = (DuplicateFrame, ReorderFrame)


def load_faults(path: Path) -> FaultPlan:
    """A fault plan from a YAML file. Raises SettingsError listing every mistake, a line each."""
    return load_section(path, FaultPlan)


def check_faults(plan: FaultPlan, settings: RunSettings, *, live: bool, recording: bool) -> RunSettings:
    """`settings` in which the plan's mishaps of the twin happen. Raises SettingsError for what cannot be."""
    simulated = isinstance(settings.sorter, NoSorter | SimulatedSorter)
    if live and not simulated and not plan.real_devices:
        raise SettingsError(
            f"a fault plan with a sorter of kind {settings.sorter.kind}: it could deflect wrongly. Simulate the sorter "
            "(--set sorter.kind=simulated), or say `real_devices: true` in the plan"
        )
    _refuse(plan, _flow_problems(plan, settings, live=live, recording=recording))
    if not isinstance(settings.camera, SimulatedCamera):
        return settings
    twin = settings.camera.twin
    for fault in plan.faults:
        match fault:
            case Clog(at_s=at_s, seconds=seconds, slowing=slowing):
                change: dict[str, float] = {"clog_at_s": at_s, "clog_seconds": seconds, "clog_slowing": slowing}
            case Bubble(at_s=at_s, diameter_um=diameter_um):
                change = {"bubble_at_s": at_s, "bubble_diameter_um": diameter_um}
            case VelocityDrift(per_s=per_s):
                change = {"velocity_drift_per_s": per_s}
            case _:
                continue
        twin = twin.model_copy(update={"mishaps": twin.mishaps.model_copy(update=change)})
    return settings.model_copy(update={"camera": settings.camera.model_copy(update={"twin": twin})})


def check_chamber_faults(plan: FaultPlan, settings: ChamberRunSettings, *, recording: bool) -> None:
    """Raises SettingsError for what cannot be in a chamber run."""
    simulated = isinstance(settings.camera, SimulatedRig | TwinMicroManager)
    if not simulated and not plan.real_devices:
        raise SettingsError(
            "a fault plan with a stage that is not simulated: it would move where nobody expects it. Use the simulated "
            "rig, or say `real_devices: true` in the plan"
        )
    _refuse(plan, _chamber_problems(plan, simulated=simulated, recording=recording))


def _refuse(plan: FaultPlan, problems: Iterator[tuple[int, str]]) -> None:
    told = [f"fault plan: faults.{place} ({plan.faults[place].name}): {why}" for place, why in problems]
    if told:
        raise SettingsError("\n".join(told))


def _flow_problems(plan: FaultPlan, settings: RunSettings, *, live: bool, recording: bool) -> Iterator[tuple[int, str]]:
    for place, fault in enumerate(plan.faults):
        if isinstance(fault, StageSlip):
            yield place, "there is no stage in a flow"
        elif isinstance(fault, TWIN) and not (live and isinstance(settings.camera, SimulatedCamera)):
            yield place, "only the simulated camera can film it (camera.kind: simulated)"
        elif isinstance(fault, SORTER) and (not live or isinstance(settings.sorter, NoSorter)):
            yield place, "there is no sorter that works in real time"
        elif (why := _anywhere(fault, recording=recording)) is not None:
            yield place, why
        elif isinstance(fault, ClockJump | CameraClock) and not live:
            yield place, "a replay goes by the recording's time"
        elif isinstance(fault, ORDER) and not live:
            yield place, "a recording's frames have their order: only a live camera can lose it"


def _chamber_problems(plan: FaultPlan, *, simulated: bool, recording: bool) -> Iterator[tuple[int, str]]:
    for place, fault in enumerate(plan.faults):
        if not isinstance(fault, CHAMBER):
            yield (
                place,
                "a chamber run cannot do that; it knows slip, disk_full, corrupt, delay, disconnect and engine's",
            )
        elif isinstance(fault, StageSlip) and not simulated:
            yield place, "only the table of the simulated rig slips on demand"
        elif (why := _anywhere(fault, recording=recording)) is not None:
            yield place, why


def _anywhere(fault: Fault, *, recording: bool) -> str | None:
    match fault:
        case DiskFull() if not recording:
            return "nothing is recorded: give --out"
        case DiskFull() if not _has_file_limits():
            return "this system knows no limit on a file"
        case ProcessFault(process="record") if not recording:
            return "nothing is recorded: give --out"
        case ProcessFault() if not hasattr(signal, "SIGSTOP"):
            return "this system knows no such signals"
        case _:
            return None


def _has_file_limits() -> bool:
    try:
        import resource
    except ImportError:  # Windows
        return False
    return hasattr(resource, "RLIMIT_FSIZE")
