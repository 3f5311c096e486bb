"""Settings that are each fine and together impossible: found before a camera is opened, not by the first cell.

Pure functions from settings to (key path, sentence). What needs the model's card (a gate naming a class that the model
lacks) is checked where the card is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import assert_never

from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.devices import LoopedCamera, ReplayCamera, SerialSorter, SimulatedCamera, ZmqSorter
from hspc_live.settings.document import KeyPath
from hspc_live.settings.micromanager import MicroManagerCamera
from hspc_live.settings.schema import ModelEngine, NullEngine, RunSettings
from hspc_live.settings.twin import TwinFlowSettings

Problem = tuple[KeyPath, str]


def contradictions(settings: RunSettings) -> list[Problem]:
    """Every contradiction in `settings`; an empty list if they fit together."""
    checks: tuple[Callable[[RunSettings], Iterator[Problem]], ...] = (
        _geometry,
        _timing,
        _outlets,
        _wired,
        _reachable,
        _rig,
        _camera,
        engine_problems,
        population_problems,
    )
    return [problem for check in checks for problem in check(settings)]


def _geometry(settings: RunSettings) -> Iterator[Problem]:
    line, junction = settings.sort.close.decision_line_um, settings.sort.timing.junction_um
    if junction <= line:
        yield (
            ("sort", "timing", "junction_um"),
            f"must lie beyond sort.close.decision_line_um ({line:g} µm), found {junction:g}",
        )
    if (twin := _twin(settings)) is not None:
        width_um = twin.width_px * twin.um_per_px
        if line > width_um:
            yield (
                ("sort", "close", "decision_line_um"),
                f"must lie inside the frame, which is {width_um:g} µm wide, found {line:g}",
            )


def _reachable(settings: RunSettings) -> Iterator[Problem]:
    if isinstance(settings.sorter, ZmqSorter) and settings.sorter.keys is None:
        address = settings.sorter.address
        if address.startswith("tcp://") and not address.startswith(("tcp://127.", "tcp://localhost:")):
            yield (("sorter", "keys"), f"missing; {address} can be reached from other computers (hspc-live keygen)")


def _timing(settings: RunSettings) -> Iterator[Problem]:
    timing = settings.sort.timing
    at: KeyPath = ("sort", "timing")
    if timing.commit_lead_ms < timing.device_lead_ms:
        yield (
            (*at, "commit_lead_ms"),
            f"must be at least sort.timing.device_lead_ms ({timing.device_lead_ms:g} ms), or every command comes too "
            f"late, found {timing.commit_lead_ms:g}",
        )
    if timing.min_pulse_ms > timing.max_pulse_ms:
        yield (
            (*at, "min_pulse_ms"),
            f"must be at most sort.timing.max_pulse_ms ({timing.max_pulse_ms:g}), found {timing.min_pulse_ms:g}",
        )
    if (timing.sort_delay_ms is None) != (timing.sort_delay_velocity_um_s is None):
        missing = "sort_delay_ms" if timing.sort_delay_ms is None else "sort_delay_velocity_um_s"
        yield (*at, missing), "missing; a calibrated delay and the velocity it was measured at belong together"
    if settings.sorter.kind == "simulated" and settings.sorter.min_lead_ms > timing.device_lead_ms:
        yield (
            (*at, "device_lead_ms"),
            f"must be at least sorter.min_lead_ms ({settings.sorter.min_lead_ms:g} ms), or the sorter refuses every "
            f"command, found {timing.device_lead_ms:g}",
        )


def _outlets(settings: RunSettings) -> Iterator[Problem]:
    counts = Counter(outlet.name for outlet in settings.sort.outlets)
    seen: set[str] = set()
    for number, outlet in enumerate(settings.sort.outlets):
        if counts[outlet.name] > 1 and outlet.name in seen:
            yield ("sort", "outlets", number, "name"), f"the name {outlet.name!r} is taken by another outlet"
        seen.add(outlet.name)


def _wired(settings: RunSettings) -> Iterator[Problem]:
    """Every outlet has an output of its own at a sorter whose outputs are numbered."""
    if not isinstance(settings.sorter, SerialSorter):
        return
    numbers = settings.sorter.outlets
    for number, outlet in enumerate(settings.sort.outlets):
        if outlet.name not in numbers:
            yield (
                ("sort", "outlets", number, "name"),
                f"{outlet.name!r} has no output at the sorter: give it one in sorter.outlets, e.g. {outlet.name}: 1",
            )
    for name, number in numbers.items():
        others = [other for other, its in numbers.items() if its == number and other != name]
        if others:
            yield ("sorter", "outlets", name), f"output {number} is that of {', '.join(others)}, too"


def _rig(settings: RunSettings) -> Iterator[Problem]:
    twin = _twin(settings)
    if twin is not None and twin.modality != settings.rig.modality.value:
        yield (
            ("rig", "modality"),
            f"is {settings.rig.modality.value!r}, but camera.twin.modality films {twin.modality!r}",
        )


def _camera(settings: RunSettings) -> Iterator[Problem]:
    twin = _twin(settings)
    if twin is None:
        return
    if not any(share for _, share in twin.mix):
        yield ("camera", "twin", "mix"), "all shares are 0, so nobody would flow past"
    if twin.exposure_us * twin.frames_per_s > 1e6:
        yield (
            ("camera", "twin", "exposure_us"),
            f"must be at most the {1e6 / twin.frames_per_s:g} µs between two frames, found {twin.exposure_us:g}",
        )


def _twin(settings: RunSettings) -> TwinFlowSettings | None:
    """What the camera films, if that is a digital twin."""
    match settings.camera:
        case SimulatedCamera(twin=twin) | LoopedCamera(twin=twin):
            return twin
        case ReplayCamera() | MicroManagerCamera():
            return None
        case _:
            assert_never(settings.camera)


def engine_problems(settings: RunSettings | ChamberRunSettings) -> Iterator[Problem]:
    """What contradicts itself in the engine's section."""
    match settings.engine:
        case NullEngine(classes=classes):
            if len(set(classes)) < max(2, len(classes)):
                yield ("engine", "classes"), "needs at least two classes, each named once"
        case ModelEngine(buckets=buckets):
            if not buckets or min(buckets) < 1 or list(buckets) != sorted(set(buckets)):
                yield ("engine", "buckets"), "must be batch sizes of at least 1, growing, each once"


def population_problems(settings: RunSettings | ChamberRunSettings) -> Iterator[Problem]:
    """What contradicts itself, or the engine, in the declared population."""
    population = settings.population
    at: KeyPath = ("population", "prevalence")
    for name, share in population.prevalence.items():
        if not 0 <= share <= 1:
            yield (*at, name), f"a share lies between 0 and 1, found {share:g}"
    match settings.engine:
        case NullEngine(classes=classes) if population.prevalence:
            for name in sorted(population.prevalence.keys() - set(classes)):
                yield (*at, name), f"no class of the engine; it knows {', '.join(classes)}"
        case _:
            pass  # the classes of a trained model stand in its card
