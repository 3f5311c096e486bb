"""The composition root: the only module that knows drivers and models together.

It turns settings into cameras, sorters and engines, and into the functions that the processes of a run start with.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, assert_never

import cv2

from hspc_drivers.looped_camera import LoopedCamera
from hspc_drivers.micromanager_camera import MicroManagerCamera
from hspc_drivers.micromanager_core import CoreSession
from hspc_drivers.replay_camera import ReplayCamera
from hspc_drivers.serial_sorter import SerialSorter
from hspc_drivers.simulated_camera import SimulatedFlowCamera
from hspc_drivers.simulated_sorter import ProcessSorter
from hspc_drivers.virtual_sorter import VirtualSorter
from hspc_drivers.zmq_sorter import ZmqSorter
from hspc_live.core.clock import Clock, HostClock, VirtualClock, calendar
from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import ModelError
from hspc_live.core.identity import pipeline_id
from hspc_live.core.protocols import Camera, Sorter
from hspc_live.core.values import CameraInfo
from hspc_live.faults.camera import FaultyCamera
from hspc_live.faults.engine import FaultyEngine
from hspc_live.faults.schedule import Injector
from hspc_live.faults.sorter import FaultySorter
from hspc_live.faults.system import Calendar, FullDisk
from hspc_live.processes.acquire import acquire
from hspc_live.processes.child import Child, run_child
from hspc_live.processes.door import door
from hspc_live.processes.plan import RunPlan
from hspc_live.processes.record import record
from hspc_live.processes.rehearsal import Turn, rehearsing
from hspc_live.processes.segment_worker import segment
from hspc_live.processes.self_test import EngineProof
from hspc_live.processes.sort import SortParts, sort
from hspc_live.processes.supervisor import Target
from hspc_live.settings import devices
from hspc_live.settings.micromanager import MicroManagerCamera as MicroManagerCameraSettings
from hspc_live.settings.schema import Engine, ModelEngine, NullEngine, RunSettings
from hspc_live.settings.sort import TimingSettings
from hspc_live.stages.gate import check_gates
from hspc_live.wire.keys import read_guard
from hspc_models.card import Card, check_fits, find_model, load_card
from hspc_models.gate_numbers import GateNumbers
from hspc_models.open_engine import Opened, open_proven


def version() -> str:
    """The installed version of HSPC Live."""
    return importlib.metadata.version("hspc-live")


def build_camera(settings: RunSettings, clock: Clock, speed: float | None) -> Camera:
    """The camera that the settings name, not yet open."""
    match settings.camera:
        case devices.SimulatedCamera() as simulated:
            return SimulatedFlowCamera(simulated, clock)
        case devices.ReplayCamera() as replay:
            return ReplayCamera(replay, clock, speed)
        case devices.LoopedCamera() as looped:
            return LoopedCamera(looped, clock)
        case MicroManagerCameraSettings() as real:
            return MicroManagerCamera(real, settings.rig, CoreSession(real.core))
        case _:
            assert_never(settings.camera)


def build_sorter(settings: RunSettings, clock: Clock, diary: Path | None) -> Sorter | None:
    """The sorter that the settings name: on a virtual clock a simulated one in virtual time, whatever they name."""
    if isinstance(clock, VirtualClock) and not isinstance(settings.sorter, devices.NoSorter):
        simulated = settings.sorter
        if not isinstance(simulated, devices.SimulatedSorter):
            simulated = devices.SimulatedSorter(kind="simulated")
        # time leaps in a recording: silence there says nothing about the host
        return VirtualSorter(simulated.model_copy(update={"watchdog_ms": 1e12}), clock, diary)
    match settings.sorter:
        case devices.NoSorter():
            return None
        case devices.SimulatedSorter() as simulated:
            return ProcessSorter(simulated, diary)
        case devices.SerialSorter() as serial:
            return SerialSorter(serial, settings.sort.timing.device_lead_ms)
        case devices.ZmqSorter(address=address, start_s=start_s, keys=keys):
            return ZmqSorter(address, start_s, read_guard(keys.secret, keys.allow) if keys is not None else None)
        case _:
            assert_never(settings.sorter)


def model_card(settings: RunSettings) -> Card | None:
    """The card of the model in use; None for the null engine. Raises ModelError."""
    match settings.engine:
        case ModelEngine(model=model):
            return load_card(find_model(model))
        case NullEngine():
            return None
        case _:
            assert_never(settings.engine)


def gate_numbers(engine: Engine) -> GateNumbers:
    """What answers the gates that ask something of the model. Raises ModelError."""
    match engine:
        case ModelEngine(model=model):
            folder = find_model(model)
            return GateNumbers(load_card(folder), folder)
        case NullEngine():
            return GateNumbers(None, None)
        case _:
            assert_never(engine)


def resolve_gates(settings: RunSettings, *, recorded: bool = False, anew: bool = False) -> RunSettings:
    """`settings` with promises, corrections and the stranger limit filled in; asked again it changes nothing.

    `recorded`: settings of a run that has been; `anew`: of one to come, whatever numbers they bring along. Raises
    SettingsError for what cannot be promised, ModelError.
    """
    return gate_numbers(settings.engine).flow(settings, recorded=recorded, anew=anew)


def engine_proof(opened: Opened) -> EngineProof | None:
    """What the engine is held to when somebody arms; None for one that was not built."""
    proof = opened.proof
    if proof is None:
        return None
    return EngineProof(proof.crops[0], lambda engine: proof.check(engine)[1])


def crop_geometry(card: Card | None) -> CropGeometry:
    """The geometry that the model was trained on, or the paper's 64 × 64 at 0.25 µm/px where there is no model."""
    return card.geometry if card is not None else CropGeometry()


def this_pipeline_id(settings: RunSettings, card: Card | None) -> str:
    """One hash over everything that may change a verdict."""
    sha256 = card.weights.sha256 if card is not None else ""
    return pipeline_id(settings.model_dump(mode="json"), sha256, version())


def versions() -> dict[str, str]:
    """What the recording says about the software that made it."""
    names = ("hspc-live", "numpy", "torch", "opencv-python-headless", "h5py", "pyzmq")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def model_remarks(settings: RunSettings, card: Card | None, um_per_px: float) -> list[str]:
    """Where card and rig disagree (modality, shear axis, scale), in words."""
    return check_fits(card, settings.rig, um_per_px) if card is not None else []


def delay_problem(timing: TimingSettings, *, simulated: bool, now: datetime) -> str | None:
    """Why the sort delay may not be trusted: never calibrated (on a real sorter) or too old. None if it may."""
    if timing.sort_delay_ms is None:
        return None if simulated else "the sort delay has not been calibrated: run `hspc-live calibrate-delay`"
    if timing.sort_delay_date is None:
        return "the sort delay carries no date: calibrate it anew"
    made = timing.sort_delay_date
    made = made if made.tzinfo is not None else made.replace(tzinfo=UTC)
    age_h = (now - made).total_seconds() / 3600
    if age_h < 0:
        return f"the sort delay is dated {-age_h:.1f} h in the future: check the clock, calibrate it anew"
    if age_h > timing.sort_delay_max_age_h:
        return f"the sort delay is {age_h:.1f} h old (at most {timing.sort_delay_max_age_h:g} h): calibrate it anew"
    return None


def targets(settings: RunSettings, *, recording: bool) -> dict[str, Target]:
    """The processes of a run by role, in starting order."""
    roles: dict[str, Target] = {"sort": sort_process, "acquire": acquire_process}
    if recording:
        roles["record"] = record_process
    for number in range(settings.pipeline.workers):
        roles[f"segment-{number}"] = segment_process
    if settings.door is not None:
        roles["door"] = door_process
    return roles


# ---- what the processes start with (module functions, because `spawn` looks them up by name) ------------------------


def acquire_process(plan: RunPlan, role: str) -> None:
    """acquire; a simulated camera leaves its truth behind when the run is over."""

    async def main(child: Child) -> dict[str, Any]:
        settings = plan.settings
        clock: Clock = HostClock()
        camera = build_camera(settings, clock, plan.speed)
        async with rehearsing(child) as rehearsal:
            report = await acquire(child, camera if rehearsal is None else FaultyCamera(camera, rehearsal[0]))
        if isinstance(camera, SimulatedFlowCamera) and plan.truth_path is not None:
            camera.truth().save(Path(plan.truth_path))
        if isinstance(camera, ReplayCamera):
            report["warnings"] = [*camera.warnings, *report["warnings"]]
        return report

    run_child(plan, role, main)


def segment_process(plan: RunPlan, role: str) -> None:
    """One segment worker."""
    run_child(plan, role, segment)


def door_process(plan: RunPlan, role: str) -> None:
    """The door to other computers."""
    run_child(plan, role, door)


def record_process(plan: RunPlan, role: str) -> None:
    """The recorder."""

    async def main(child: Child) -> dict[str, Any]:
        settings = plan.settings
        card = model_card(settings)
        card_json = card.model_dump_json() if card is not None else "{}"
        async with rehearsing(child) as rehearsal:
            if rehearsal is not None and plan.recording is not None:
                injector, turns = rehearsal
                turns += [FullDisk(injector, Path(plan.recording)).turn, Calendar(injector, counts=False).turn]
            return await record(child, this_pipeline_id(settings, card), card_json, versions())

    run_child(plan, role, main)


def sort_process(plan: RunPlan, role: str) -> None:
    """sort: engine and sorter are opened here, in the process that uses them."""

    async def main(child: Child) -> dict[str, Any]:
        cv2.setNumThreads(1)
        settings = plan.settings
        clock: Clock = HostClock() if plan.live else VirtualClock()
        card = model_card(settings)
        opened = open_proven(settings.engine)
        engine = opened.engine
        check_gates(settings.sort, engine.classes)
        sorter = build_sorter(settings, clock, Path(plan.pulse_log) if plan.pulse_log is not None else None)
        try:
            if sorter is not None:
                sorter.open()
            geometry = crop_geometry(card)
            proof = engine_proof(opened)
            if plan.live and proof is not None and (problem := proof.check(engine)) is not None:
                raise ModelError(f"{engine.name} must not be used: {problem}")
            facts = {
                "classes": list(engine.classes),
                "geometry": {"size_px": geometry.size_px, "um_per_px": geometry.um_per_px},
                "engine": engine.name,
            }
            numbers = gate_numbers(settings.engine)
            if plan.live:
                numbers.preload(settings.sort.close.views)
            problems = partial(_arming_problems, plan, card)
            parts = SortParts(engine, sorter, clock, facts, problems, numbers.flow, proof)
            async with rehearsing(child) as rehearsal:
                return await sort(child, parts if rehearsal is None else _faulty(parts, *rehearsal))
        finally:  # also when the run is called off before it began
            if sorter is not None:
                sorter.close()
            engine.close()

    run_child(plan, role, main)


def _faulty(parts: SortParts, injector: Injector, turns: list[Turn]) -> SortParts:
    """Engine and sorter with the faults of a plan."""
    turns.append(Calendar(injector, counts=True).turn)
    faulty = replace(parts, engine=FaultyEngine(parts.engine, injector))
    # a replay's sorter lives in virtual time, where a plan has no seconds
    if parts.sorter is None or isinstance(parts.clock, VirtualClock):
        return faulty
    return replace(faulty, sorter=FaultySorter(parts.sorter, injector))


def _arming_problems(plan: RunPlan, card: Card | None, camera: CameraInfo) -> tuple[str, ...]:
    """Reasons not to arm. A replay sorts nothing real, so nothing keeps it from being armed."""
    return arming_problems(plan.settings, card, camera) if plan.live else ()


def arming_problems(settings: RunSettings, card: Card | None, camera: CameraInfo | None) -> tuple[str, ...]:
    """Reasons not to arm a live run; without a camera those that the settings show by themselves."""
    simulated = isinstance(settings.sorter, devices.SimulatedSorter)
    stale = delay_problem(settings.sort.timing, simulated=simulated, now=calendar())
    problems = [stale] if stale is not None else []
    if not settings.population.prevalence:
        problems.append("no population is declared (population.prevalence): the purity cannot be predicted")
    if camera is None:
        return tuple(problems)
    problems += model_remarks(settings, card, camera.um_per_px)
    if camera.modality is not settings.rig.modality:
        problems.append(f"the camera films {camera.modality}, the rig is declared as {settings.rig.modality}")
    return tuple(problems)


def check_keys(settings: RunSettings) -> None:
    """Read the key files that the settings name. Raises SettingsError for those that are none, or no secret."""
    sorter = settings.sorter
    for owner in (settings.door, sorter if isinstance(sorter, devices.ZmqSorter) else None):
        if owner is not None and owner.keys is not None:
            read_guard(owner.keys.secret, owner.keys.allow)


def settings_json(settings: RunSettings) -> str:
    """Settings as they travel to the processes and into the recording."""
    return json.dumps(settings.model_dump(mode="json"))
