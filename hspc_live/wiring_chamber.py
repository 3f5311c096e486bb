"""The composition root of a chamber run: stage, camera, engine and sinks out of settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from hspc_drivers.chamber_world import ChamberWorld
from hspc_drivers.micromanager_adapters import module
from hspc_drivers.micromanager_core import CoreSession
from hspc_drivers.micromanager_focus import MicroManagerFocus
from hspc_drivers.micromanager_snap import MicroManagerSnapCamera
from hspc_drivers.micromanager_stage import MicroManagerStage
from hspc_drivers.simulated_chamber_camera import SimulatedChamberCamera
from hspc_drivers.simulated_focus import SimulatedFocus
from hspc_drivers.simulated_stage import SimulatedStage
from hspc_live.core.chamber import GLOW
from hspc_live.core.clock import NS_PER_S, Clock, HostClock, VirtualClock
from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import ModelError, SettingsError
from hspc_live.core.identity import pipeline_id
from hspc_live.core.protocols import Engine, Focus, SnapCamera, Stage
from hspc_live.core.values import Pixels
from hspc_live.faults.camera import FaultySnapCamera
from hspc_live.faults.engine import FaultyEngine
from hspc_live.faults.schedule import Injector
from hspc_live.faults.stage import FaultyStage
from hspc_live.processes.chamber_io import FieldSink
from hspc_live.processes.chamber_record import ChamberRecorder
from hspc_live.processes.chamber_replay import RecordedFields
from hspc_live.processes.chamber_source import LiveFields
from hspc_live.processes.chamber_values import ChamberParts
from hspc_live.settings.chamber_run import ChamberRunSettings, MountedStage, SimulatedRig, TwinMicroManager
from hspc_live.settings.chamber_twin import TwinChamberSettings
from hspc_live.settings.focus import MicroManagerFocus as FocusSettings
from hspc_live.settings.focus import MountedFocus
from hspc_live.settings.micromanager import MicroManagerSnapCamera as MicroManagerSnapSettings
from hspc_live.settings.micromanager import MicroManagerStage as MicroManagerStageSettings
from hspc_live.settings.schema import ModelEngine, NullEngine
from hspc_live.settings.sort import Outlet, SortSettings
from hspc_live.stages.gate import check_gates, features_asked
from hspc_live.twin.chamber_truth import ChamberTruth
from hspc_live.wiring import engine_proof, gate_numbers, version, versions
from hspc_models.card import Card, check_fits, find_model, load_card
from hspc_models.open_engine import open_proven


@dataclass(frozen=True, slots=True)
class ChamberDevices:
    """Stage, camera and focus drive, not yet open, and the clock that they go by.

    `focus` is None where it is not motorised; `truth` tells what they really film, None where nobody knows.
    """

    stage: Stage
    camera: SnapCamera
    clock: Clock
    truth: Callable[[], ChamberTruth] | None
    focus: Focus | None = None
    slip: Callable[[float, float], None] | None = None  # of the simulated table, for fault plans


def build_chamber_devices(settings: ChamberRunSettings) -> ChamberDevices:
    """The stage and the camera that the settings name."""
    match settings.camera, settings.stage:
        case SimulatedRig() as rig, MountedStage():
            clock: Clock = VirtualClock(NS_PER_S) if rig.time == "virtual" else HostClock()
            world = ChamberWorld(rig.twin, clock)
            camera = SimulatedChamberCamera(world)
            focus = SimulatedFocus(settings.focus, world) if isinstance(settings.focus, MountedFocus) else None
            return ChamberDevices(SimulatedStage(world), camera, clock, camera.truth, focus, world.slip)
        case TwinMicroManager(twin=twin), MicroManagerStageSettings() as stage:
            return _twin_by_micromanager(twin, stage, settings)
        case MicroManagerSnapSettings() as real, MicroManagerStageSettings() as stage:
            clock, session = HostClock(), CoreSession(real.core)
            return ChamberDevices(
                MicroManagerStage(stage, settings.chamber.limits, session, clock),
                MicroManagerSnapCamera(real, settings.rig, session, clock),
                clock,
                None,
                _focus(settings, session),
            )
        case camera, stage:  # the settings' check has said so before, with file and line
            raise SettingsError(f"stage.kind: {stage.kind!r} does not carry a camera of kind {camera.kind!r}")


def _twin_by_micromanager(
    twin: TwinChamberSettings, stage: MicroManagerStageSettings, settings: ChamberRunSettings
) -> ChamberDevices:
    """The twin behind a real core; imported only here, since it needs the extra `rig`."""
    load = module("hspc_drivers.micromanager_twin")
    clock = HostClock()
    world = ChamberWorld(twin, clock)
    films = load.twin_camera(twin, world.channels)
    session = CoreSession(films.core, load.twin_devices(world))
    return ChamberDevices(
        MicroManagerStage(stage, settings.chamber.limits, session, clock),
        MicroManagerSnapCamera(films, settings.rig, session, clock),
        clock,
        world.truth,
        _focus(settings, session),
        world.slip,
    )


def _focus(settings: ChamberRunSettings, session: CoreSession) -> Focus | None:
    return MicroManagerFocus(settings.focus, session) if isinstance(settings.focus, FocusSettings) else None


def chamber_card(settings: ChamberRunSettings) -> Card | None:
    """The card of the model in use; None for the null engine. Raises ModelError."""
    match settings.engine:
        case ModelEngine(model=model):
            return load_card(find_model(model))
        case NullEngine():
            return None
        case _:
            assert_never(settings.engine)


def resolve_chamber_gates(
    settings: ChamberRunSettings, *, recorded: bool = False, anew: bool = False
) -> ChamberRunSettings:
    """`settings` with promises, corrections and the stranger limit filled in, as `wiring.resolve_gates` does it."""
    return gate_numbers(settings.engine).chamber(settings, recorded=recorded, anew=anew)


def check_chamber_gates(settings: ChamberRunSettings, classes: tuple[str, ...]) -> None:
    """Refuse gates that model or channels cannot serve. Raises SettingsError naming the outlet."""
    outlets = tuple(Outlet(name=o.name, gate=o.gate, priority=o.priority) for o in settings.sort.outlets)
    check_gates(SortSettings(outlets=outlets, abstain=settings.sort.abstain), classes, settings.exposure.fluorescence)


def chamber_remarks(settings: ChamberRunSettings, card: Card | None, um_per_px: float | None = None) -> list[str]:
    """Where card and rig disagree (modality, shear axis, scale), in words. `um_per_px` is that of a recording."""
    if card is None:
        return []
    # a scale that stands only in the microscope's own configuration is not known before the camera is open
    return check_fits(card, settings.rig, um_per_px or settings.camera.um_per_px or card.um_per_px)


def chamber_pipeline_id(settings: ChamberRunSettings, card: Card | None) -> str:
    """One hash over everything that may change a verdict."""
    return pipeline_id(settings.model_dump(mode="json"), card.weights.sha256 if card is not None else "", version())


def chamber_recorder(settings: ChamberRunSettings, card: Card | None, path: Path, run: str) -> ChamberRecorder:
    """The sink that writes the run's recording."""
    return ChamberRecorder(
        path,
        run_id=run,
        settings_json=json.dumps(settings.model_dump(mode="json")),
        card_yaml=card.model_dump_json() if card is not None else "{}",
        pipeline_id=chamber_pipeline_id(settings, card),
        versions=versions(),
        crop_px=_geometry(card).size_px,
        pictures=settings.record.frames,
    )


def build_chamber(
    settings: ChamberRunSettings, sinks: tuple[FieldSink, ...] = (), injector: Injector | None = None
) -> tuple[ChamberParts, ChamberDevices]:
    """A live run, ready to start, and the devices that it uses; `injector` has the faults of a fault plan.

    Raises ModelError, SettingsError.
    """
    card = chamber_card(settings)
    engine, canary = _open_engine(settings)
    check_chamber_gates(settings, engine.classes)
    devices = build_chamber_devices(settings)
    stage, camera, sound = devices.stage, devices.camera, engine
    if injector is not None:
        engine = FaultyEngine(engine, injector)
        stage = stage if devices.slip is None else FaultyStage(stage, injector, devices.slip)
        camera = FaultySnapCamera(camera, injector)
    source = LiveFields(stage, camera, settings)
    return ChamberParts(source, engine, _geometry(card), sinks, devices.clock, canary, sound), devices


def build_chamber_replay(
    settings: ChamberRunSettings, recording: Path, sinks: tuple[FieldSink, ...] = ()
) -> tuple[ChamberParts, RecordedFields]:
    """A replay, ready to start, and the source that says afterwards what was missing. Raises as `build_chamber`."""
    engine, canary = _open_engine(settings)
    check_chamber_gates(settings, engine.classes)
    needed = {name.removeprefix(GLOW) for name in _features_asked(settings) if name.startswith(GLOW)}
    source = RecordedFields(recording, settings.exposure.fluorescence, needed)
    return ChamberParts(source, engine, _geometry(chamber_card(settings)), sinks, canary=canary), source


def _open_engine(settings: ChamberRunSettings) -> tuple[Engine, Pixels | None]:
    """The engine, if it scores what it must, and a crop that it is known by. Raises ModelError."""
    opened = open_proven(settings.engine)
    proof = engine_proof(opened)
    if proof is not None and (problem := proof.check(opened.engine)) is not None:
        opened.engine.close()
        raise ModelError(f"{opened.engine.name} must not be used: {problem}")
    return opened.engine, None if proof is None else proof.crop


def _features_asked(settings: ChamberRunSettings) -> list[str]:
    return [name for outlet in settings.sort.outlets for name in features_asked(outlet.gate)]


def _geometry(card: Card | None) -> CropGeometry:
    return card.geometry if card is not None else CropGeometry()
