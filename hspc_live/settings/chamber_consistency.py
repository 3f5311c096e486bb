"""Settings of a chamber run that are each fine and together impossible: found before the stage is asked for anything.

Pure functions from settings to (key path, sentence), as in `consistency`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import assert_never

from hspc_live.settings.chamber_run import (
    ChamberRunSettings,
    GivenAffine,
    MountedStage,
    SimulatedRig,
    TwinMicroManager,
)
from hspc_live.settings.chamber_twin import TwinChamberSettings
from hspc_live.settings.consistency import Problem, engine_problems, population_problems
from hspc_live.settings.micromanager import MicroManagerSnapCamera

FLATTEST = 1e-3
UM_PER_PX = 1e-3, 1e3
MOST_OBJECTS = 2_000_000


def chamber_contradictions(settings: ChamberRunSettings) -> list[Problem]:
    """Every contradiction in `settings`; an empty list if they fit together."""
    checks: tuple[Callable[[ChamberRunSettings], Iterator[Problem]], ...] = (
        _rig,
        _channels,
        _calibration,
        _outlets,
        _crowd,
        engine_problems,
        population_problems,
    )
    return [problem for check in checks for problem in check(settings)]


def _rig(settings: ChamberRunSettings) -> Iterator[Problem]:
    camera, stage = settings.camera, settings.stage
    if isinstance(camera, SimulatedRig) != isinstance(stage, MountedStage):
        yield ("stage", "kind"), f"is {stage.kind!r}, which does not carry a camera of kind {camera.kind!r}"
    other = {"simulated": "micromanager", "micromanager": "simulated"}[stage.kind]
    if settings.focus.kind == other:
        yield ("focus", "kind"), f"is {other!r}, which does not go with a stage of kind {stage.kind!r}"
    if (twin := _twin(settings)) is None:
        return
    films = twin.modality
    if films != settings.rig.modality.value:
        yield ("rig", "modality"), f"is {settings.rig.modality.value!r}, but camera.twin.modality films {films!r}"


def _channels(settings: ChamberRunSettings) -> Iterator[Problem]:
    match settings.camera:
        case MicroManagerSnapCamera(channels=channels):
            names = [channel.name for channel in channels]
            for number, name in enumerate(names):
                if name in names[:number]:
                    yield ("camera", "channels", number, "name"), f"the name {name!r} is taken by another channel"
            known, whose = tuple(names[1:]), "camera"
        case SimulatedRig(twin=twin) | TwinMicroManager(twin=twin):
            known, whose = (twin.fluorescence.channel,), "simulated camera"
        case _:
            assert_never(settings.camera)
    for number, channel in enumerate(settings.exposure.fluorescence):
        at = ("exposure", "fluorescence", number)
        if channel not in known:
            yield at, f"the {whose} has no channel {channel!r}; it has {', '.join(known) or 'none but the first'}"
        elif channel in settings.exposure.fluorescence[:number]:
            yield at, f"the channel {channel!r} is named twice"


def _twin(settings: ChamberRunSettings) -> TwinChamberSettings | None:
    """What the camera films, if that is a digital twin."""
    return None if isinstance(settings.camera, MicroManagerSnapCamera) else settings.camera.twin


def _calibration(settings: ChamberRunSettings) -> Iterator[Problem]:
    if isinstance(given := settings.calibration, GivenAffine):
        (a, b), (c, d) = given.x_per_px, given.y_per_px
        largest = max(abs(a), abs(b), abs(c), abs(d))
        if not UM_PER_PX[0] <= largest <= UM_PER_PX[1]:
            low, high = UM_PER_PX
            yield ("calibration", "x_per_px"), f"{largest:g} µm to a pixel is no microscope's: {low:g} to {high:g} are"
        elif abs(a * d - b * c) <= FLATTEST * (a * a + b * b + c * c + d * d):
            yield ("calibration", "x_per_px"), "with calibration.y_per_px it maps the picture onto a line"


def _crowd(settings: ChamberRunSettings) -> Iterator[Problem]:
    if (twin := _twin(settings)) is None:
        return
    objects = (twin.density_per_mm2 + twin.specks_per_mm2) * twin.width_mm * twin.height_mm
    if objects > MOST_OBJECTS:
        yield (
            ("camera", "twin", "density_per_mm2"),
            f"{objects:.3g} objects in the chamber are more than the twin takes",
        )


def _outlets(settings: ChamberRunSettings) -> Iterator[Problem]:
    seen: set[str] = set()
    for number, outlet in enumerate(settings.sort.outlets):
        if outlet.name in seen:
            yield ("sort", "outlets", number, "name"), f"the name {outlet.name!r} is taken by another outlet"
        seen.add(outlet.name)
    if settings.sort.abstain.min_views > 1:
        yield ("sort", "abstain", "min_views"), "must be 1: a cell of the chamber is judged by its best look alone"
