"""Calibration of the sort delay: film beads, sweep the delay, fit, keep the result with its date and flow.

On the twin the beads are filmed, found and tracked for real, once; each trial delay then has a stretch of the film of
its own, with a sort core and a virtual sorter of its own, so no bead is counted at two delays and the fit's counts are
independent. Every bead is commanded; how many pulses caught one is read from the sorter's diary and the twin's truth,
as a rig reads it from the beads that arrive in the outlet.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

import yaml

from hspc_live.core.clock import VirtualClock
from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import OutputError, SettingsError
from hspc_live.core.protocols import Engine, Sorter
from hspc_live.core.values import FrameResult
from hspc_live.processes.offline import OfflineResult, run_offline, segment_frames
from hspc_live.processes.virtual_twin import START_NS, MakeSorter, twin_frames
from hspc_live.settings.devices import SimulatedCamera
from hspc_live.settings.schema import RunSettings
from hspc_live.settings.sort import AbstainSettings, Outlet, RangeGate, SortSettings
from hspc_live.settings.twin import CellMix, Mishaps, TwinFlowSettings
from hspc_live.stages.delay import CalibrationError, DelayFit, SweepPoint, fit_delay
from hspc_live.stages.sort_core import SortCore
from hspc_live.twin.flow import FlowTwin
from hspc_live.twin.score import collected_objects
from hspc_live.twin.truth import FlowTruth

PULSE_MS = 6.0
BEADS_PER_S = 20.0  # thin enough that a pulse at the wrong time rarely catches another bead
STEP_MS = 2.0
REACH_MS = 20.0
LEAD_IN_FRAMES = 60  # the background is still being learnt
EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class DelayCalibration:
    """A measured sort delay: decision line to the point of deflection, at `velocity_um_s`.

    `date` is ISO 8601; `flow` says in words how fast and how dense the beads flowed.
    """

    delay_ms: float
    sd_ms: float
    velocity_um_s: float
    date: str
    flow: str
    fit: DelayFit
    points: tuple[SweepPoint, ...]


@dataclass(frozen=True, slots=True, eq=False)
class BeadFilm:
    """Beads that were filmed and found: every frame's result, their truth, and their median velocity."""

    results: tuple[FrameResult, ...]
    truth: FlowTruth
    velocity_um_s: float
    frames_per_s: float


def film_beads(settings: RunSettings, beads: int, seed: int, engine: Engine) -> BeadFilm:
    """Film about `beads` beads with the camera of `settings` (the twin), find them and measure their velocity."""
    twin_settings = _bead_channel(settings, seed)
    frames = LEAD_IN_FRAMES + math.ceil(beads / twin_settings.events_per_s * twin_settings.frames_per_s)
    twin = FlowTwin(twin_settings)
    geometry = CropGeometry()
    filmed = twin_frames(twin, frames, START_NS)
    results = tuple(islice(segment_frames(filmed, twin.info(), settings, geometry), LEAD_IN_FRAMES, None))
    run = _run(results, settings.sort.model_copy(update={"outlets": ()}), engine, None, VirtualClock())
    velocities = [record.velocity_um_s for record in run.records if record.velocity_um_s is not None]
    if not velocities:
        raise CalibrationError("sort delay: no bead's velocity could be measured; is the flow on, the focus right?")
    return BeadFilm(results, twin.truth(frames, START_NS), median(velocities), twin_settings.frames_per_s)


def sweep(
    settings: RunSettings, film: BeadFilm, delays_ms: Sequence[float], engine: Engine, make_sorter: MakeSorter
) -> tuple[SweepPoint, ...]:
    """Each delay on its own stretch of the film: how many pulses fired, and how many of them caught a bead."""
    points: list[SweepPoint] = []
    stretch = len(film.results) // len(delays_ms)
    for number, delay_ms in enumerate(delays_ms):
        results = film.results[number * stretch : (number + 1) * stretch]
        clock = VirtualClock(results[0].captured_ns)
        sorter = make_sorter(clock)
        sorter.open()
        try:
            _run(results, _sweep_sort(settings.sort, delay_ms, film.velocity_um_s), engine, sorter, clock)
        finally:
            sorter.close()
        caught = collected_objects(sorter.diary.pulses, film.truth)
        points.append(SweepPoint(delay_ms, sum(bool(rows) for rows in caught.values()), len(caught)))
    return tuple(points)


def calibrate(
    settings: RunSettings,
    engine: Engine,
    make_sorter: MakeSorter,
    date: str,
    *,
    delays_ms: Sequence[float] = (),
    beads_per_delay: int = 25,
    seed: int = 1,
) -> DelayCalibration:
    """The whole calibration on the twin. Without `delays_ms`, ± 20 ms around what geometry says, in steps of 2 ms.

    Raises CalibrationError when the sweep does not determine the delay, SettingsError without a simulated camera.
    """
    count = len(delays_ms) or 2 * round(REACH_MS / STEP_MS) + 1
    film = film_beads(settings, beads_per_delay * count, seed, engine)
    trials = tuple(delays_ms) or _around(settings, film.velocity_um_s, count)
    points = sweep(settings, film, trials, engine, make_sorter)
    fit = fit_delay(points, PULSE_MS)
    flow = f"{film.velocity_um_s:.0f} µm/s, {fit.beads} beads at {BEADS_PER_S:g}/s"
    return DelayCalibration(fit.delay_ms, fit.sd_ms, film.velocity_um_s, date, flow, fit, points)


def read_counts(path: Path) -> tuple[SweepPoint, ...]:
    """Beads that a person has counted, a line a delay: CSV with the columns delay_ms, deflected, total.

    Raises SettingsError for a file that cannot be read or is none.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        points = tuple(SweepPoint(float(row["delay_ms"]), int(row["deflected"]), int(row["total"])) for row in rows)
        if not all(math.isfinite(point.delay_ms) for point in points):
            raise ValueError("a delay is no number")
        return points
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise SettingsError(
            f"{path}: wants the columns delay_ms,deflected,total with a number in each ({error})"
        ) from error


def calibrate_counts(
    points: tuple[SweepPoint, ...], pulse_ms: float, velocity_um_s: float, date: str
) -> DelayCalibration:
    """The calibration from beads counted on a rig: pulses of `pulse_ms`, beads at `velocity_um_s`.

    Raises CalibrationError when the counts do not determine the delay.
    """
    fit = fit_delay(points, pulse_ms)
    flow = f"{velocity_um_s:.0f} µm/s, {fit.beads} beads counted"
    return DelayCalibration(fit.delay_ms, fit.sd_ms, velocity_um_s, date, flow, fit, points)


def write_calibration(path: Path, found: DelayCalibration) -> None:
    """Write what a run's settings take, as YAML. Raises OutputError if `path` exists or cannot be written."""
    timing = {
        "sort_delay_ms": round(found.delay_ms, 3),
        "sort_delay_velocity_um_s": round(found.velocity_um_s, 1),
        "sort_delay_date": found.date,
    }
    note = (
        f"# Sort delay {found.delay_ms:.2f} ± {found.sd_ms:.2f} ms, measured {found.date} at {found.flow}.\n"
        f"# Arrivals spread by {found.fit.spread_ms:.2f} ms; {found.fit.plateau:.0%} of the beads deflected at best; "
        f"goodness of fit p = {found.fit.p_value:.2g}.\n"
    )
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(note + yaml.safe_dump({"sort": {"timing": timing}}, sort_keys=False))
    except OSError as error:
        raise OutputError(f"{path}: cannot write the calibration: {error.strerror}") from error


def _around(settings: RunSettings, velocity_um_s: float, count: int) -> tuple[float, ...]:
    """Delays around the geometric one, evenly spaced."""
    sort = settings.sort
    middle = (sort.timing.junction_um - sort.close.decision_line_um) / velocity_um_s * 1e3
    return tuple(round(middle, 1) + STEP_MS * (number - count // 2) for number in range(count))


def _bead_channel(settings: RunSettings, seed: int) -> TwinFlowSettings:
    """The channel of `settings`, with nothing but beads in it and nothing going wrong."""
    if not isinstance(settings.camera, SimulatedCamera):
        raise SettingsError("camera.kind: calibrating on the twin needs the simulated camera")
    mix = CellMix(**dict.fromkeys(CellMix.model_fields, 0.0) | {"bead": 1.0})
    return settings.camera.twin.model_copy(
        update={"seed": seed, "mix": mix, "mishaps": Mishaps(), "events_per_s": BEADS_PER_S, "blurred_share": 0.0}
    )


def _sweep_sort(sort: SortSettings, delay_ms: float, velocity_um_s: float) -> SortSettings:
    """The sort settings of one trial: everything wanted, a pulse of fixed width, the trial delay."""
    timing = sort.timing.model_copy(
        update={
            "sort_delay_ms": delay_ms,
            "sort_delay_velocity_um_s": velocity_um_s,
            "k_sigma": 1e-3,  # the pulse is as wide as the shortest one, whatever a bead's uncertainty
            "min_pulse_ms": PULSE_MS,
            "max_pulse_ms": PULSE_MS,
        }
    )
    whatever = Outlet(name=EVERYTHING, gate=RangeGate(kind="range", feature="diameter_um"), mode="recovery")
    return sort.model_copy(
        update={
            "timing": timing,
            "outlets": (whatever,),
            "abstain": AbstainSettings(min_score=0.0),
            "total_limit": None,
        }
    )


def _run(
    results: Sequence[FrameResult], sort: SortSettings, engine: Engine, sorter: Sorter | None, clock: VirtualClock
) -> OfflineResult:
    core = SortCore(sort, engine.classes)
    return run_offline(results, engine, core, clock, sorter, counts_gaps=False)
