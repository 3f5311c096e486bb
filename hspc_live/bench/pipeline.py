"""bench pipeline: how many cells a second the whole pipeline carries, how long a cell waits for its verdict, and where.

First the film is played as fast as it is taken: nothing is dropped, so this is what the pipeline can do. Then it is
played by the clock at shares of that rate, from light to past saturation, as a live run: late cells go to waste, frames
that nobody can take are dropped, and both are counted. The first second of a live run is left out of the latencies.
The engine alone is measured in the same run; what the pipeline takes beyond it is stated for each stage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hspc_live.bench.figures import Began, Figure, Say, digits, result
from hspc_live.bench.load import at_rate, looped, unpaced
from hspc_live.bench.memory import MemoryWatch
from hspc_live.bench.sweep import Point, knee, point
from hspc_live.core.crop import CropGeometry
from hspc_live.settings.schema import RunSettings
from hspc_models.open_engine import open_engine

SHARES: Final = (0.05, 0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5)
ENGINE_RUNS: Final = 30
SOAK_SHARE: Final = 0.5
WARM_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run left: its summary, and what each process reported."""

    summary: dict[str, Any]
    reports: dict[str, dict[str, Any]]


Run = Callable[[RunSettings, bool], Ran]
"""Plays settings to their end, live or not. Raises what a run raises."""


@dataclass(frozen=True, slots=True)
class PipelineOrder:
    """What to measure. `seconds` is a load step's length; `soak_s` None leaves the memory of a long run out."""

    settings: RunSettings
    repeats: int = 3
    shares: tuple[float, ...] = SHARES
    seconds: float = 5.0
    soak_s: float | None = None


def measure_pipeline(order: PipelineOrder, run: Run, say: Say) -> dict[str, Any]:
    """The whole bench as JSON. Raises SettingsError for settings without a looped camera, and what a run raises."""
    began = Began.now()
    cells = looped(order.settings).cells
    runs: list[dict[str, Any]] = []
    for number in range(1, order.repeats + 1):
        say(f"run {number} of {order.repeats} …")
        runs.append(_fastest(run(unpaced(order.settings), False)))
        say(f"  {runs[-1]['cells']} cells in {runs[-1]['frames']} frames, {runs[-1]['cells_per_s']:.0f} cells/s")
    say("the engine alone …")
    engine = _bare_engine(order.settings)
    frames_per_s = Figure.of([one["frames_per_s"] for one in runs], "frames/s").median
    points = [_step(order, share, frames_per_s, cells, engine["single_ms"], run, say) for share in sorted(order.shares)]
    memory = _soak(order, frames_per_s, run, say) if order.soak_s is not None else None
    return _result(order, runs, engine, points, memory, began)


def _step(
    order: PipelineOrder, share: float, frames_per_s: float, cells: int, engine_ms: float, run: Run, say: Say
) -> Point:
    """One load, as often as asked."""
    rate = frames_per_s * share
    say(f"live at {share:g} of that, {rate:.0f} frames/s, {order.repeats} × {order.seconds:g} s …")
    settings = at_rate(order.settings, rate, order.seconds + WARM_S)
    runs = [run(settings, True) for _ in range(order.repeats)]
    settled = [one.reports["sort"]["latency_settled_ms"] for one in runs]
    return point(share, rate, rate * cells, engine_ms, [one.summary for one in runs], settled)


def _fastest(ran: Ran) -> dict[str, Any]:
    """One run at full speed; rates are over the span from the first frame's result to the last one's."""
    sort, acquire = ran.reports["sort"], ran.reports["acquire"]
    span_s = sort["span_ns"] / 1e9
    cells = ran.summary["cells"]["tracked"]
    views = max(1, sort["engine"]["views"])  # what the engine scored: a "cell" to it is one crop
    workers = [report for name, report in ran.reports.items() if name.startswith("segment-")]
    return {
        "cells_per_s": cells / span_s,
        "frames_per_s": sort["frames_fed"] / span_s,
        "views_per_s": views / span_s,
        "us_per_cell": {
            "acquire": acquire["busy_ns"] / views / 1e3,
            "segment": sum(w["busy_ns"] for w in workers) / views / 1e3,
            "receive": sort["work_ns"]["receive"] / views / 1e3,
            "sort_core": sort["work_ns"]["core"] / views / 1e3,
            "engine": sort["engine"]["busy_ns"] / views / 1e3,
        },
        "latency_ms": ran.summary["latency_ms"],
        "cells": cells,
        "frames": sort["frames_fed"],
    }


def _bare_engine(settings: RunSettings) -> dict[str, float]:
    """The engine alone: cells a second in batches of its largest bucket, and milliseconds for a single cell."""
    engine = open_engine(settings.engine)
    try:
        engine.warm_up()
        edge = CropGeometry().size_px
        crops = np.random.default_rng(1).integers(0, 255, (engine.buckets[-1], edge, edge), dtype=np.uint8)
        seconds = {}
        for size in (1, len(crops)):
            taken: list[float] = []
            for _ in range(ENGINE_RUNS):
                started = time.perf_counter()
                engine.infer(crops[:size])
                taken.append(time.perf_counter() - started)
            seconds[size] = float(np.median(taken))
        return {"cells_per_s": digits(len(crops) / seconds[len(crops)]), "single_ms": digits(seconds[1] * 1e3)}
    finally:
        engine.close()


def _soak(order: PipelineOrder, frames_per_s: float, run: Run, say: Say) -> dict[str, Any] | None:
    """Memory of the processes over a long live run at half of the full rate."""
    assert order.soak_s is not None
    rate = frames_per_s * SOAK_SHARE
    say(f"memory: live at {rate:.0f} frames/s for {order.soak_s:g} s …")
    with MemoryWatch(min(1.0, order.soak_s / 20)) as watch:
        summary = run(at_rate(order.settings, rate, order.soak_s), True).summary
    report = watch.report(order.soak_s)
    return None if report is None else {"cells": summary["cells"]["tracked"], **report}


def _result(
    order: PipelineOrder,
    runs: Sequence[dict[str, Any]],
    engine: dict[str, float],
    points: Sequence[Point],
    memory: dict[str, Any] | None,
    began: Began,
) -> dict[str, Any]:
    rates = {
        key: Figure.of([one[key] for one in runs], f"{key.removesuffix('_per_s')}/s")
        for key in ("cells_per_s", "frames_per_s", "views_per_s")
    }
    stages = {
        stage: Figure.of([one["us_per_cell"][stage] for one in runs], "µs/cell", "lower")
        for stage in runs[0]["us_per_cell"]
    }
    middle = sorted(runs, key=lambda one: one["cells_per_s"])[len(runs) // 2]
    details: dict[str, Any] = {
        **{key: figure.median for key, figure in rates.items()},
        **{f"{key}_range": figure.range for key, figure in rates.items()},
        "us_per_cell": {stage: figure.median for stage, figure in stages.items()},
        "us_per_cell_beyond_engine": digits(sum(f.median for name, f in stages.items() if name != "engine")),
        "engine_cells_per_s": engine["cells_per_s"],
        "engine_single_ms": engine["single_ms"],
        "overhead_fraction": round(max(0.0, 1.0 - rates["views_per_s"].median / engine["cells_per_s"]), 4),
        **{key: middle[key] for key in ("latency_ms", "cells", "frames")},
        "repeats": order.repeats,
        "load": [one.to_json() for one in points],
        "knee": knee(points),
        "memory": memory,
    }
    figures = {"full speed": rates["cells_per_s"], "full speed, frames": rates["frames_per_s"]}
    figures |= {f"{stage}, full speed": figure for stage, figure in stages.items()}
    for one in points:
        figures |= one.figures()
    asked = {
        "engine": order.settings.engine.model_dump(mode="json"),
        "name": order.settings.name,
        "repeats": order.repeats,
        "frames": looped(order.settings).frames,
        "shares": sorted(order.shares),
        "seconds": order.seconds,
        "for_s": order.soak_s,
    }
    return result("pipeline", asked, figures, details, began)
