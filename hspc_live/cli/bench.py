"""bench: throughput and latency of the pipeline, with the bare engine measured in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from hspc_live.cli.execute import Order, execute
from hspc_live.cli.options import Json, Set
from hspc_live.cli.output import emit, latency_rows, listener, percent, progress, screen
from hspc_live.cli.tables import facts, plain
from hspc_live.settings.load import load
from hspc_live.settings.schema import RunSettings
from hspc_live.settings.shipped import shipped_config
from hspc_models.open_engine import open_engine

app = typer.Typer(no_args_is_help=True, help="Measure throughput and latency.")

ENGINE_REPEATS = 30


@app.callback()
def _group() -> None:
    """Measure throughput and latency."""


@app.command()
def pipeline(
    engine: Annotated[
        Literal["null", "torch"],
        typer.Option(help="Who classifies: nobody (null answers at once, so that the rest is measured), or the model."),
    ] = "null",
    repeats: Annotated[
        int, typer.Option(min=1, max=100, metavar="N", help="How often to run it; the median is reported.")
    ] = 5,
    frames: Annotated[
        int | None,
        typer.Option(min=100, metavar="N", help="Frames in each run. Default: as the settings say."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Settings file of the bench. Default: the shipped benchmarks/pipeline_null. --engine overrules its "
            "engine.",
        ),
    ] = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Run the whole pipeline on a film played as fast as it is taken: cells and frames a second, time per stage."""
    overrides = list(set_ or [])
    if frames is not None:
        overrides.append(f"camera.frames={frames}")
    settings = load(config or shipped_config("benchmarks/pipeline_null"), [*_engine(engine), *overrides])
    runs: list[dict[str, Any]] = []
    for number in range(1, repeats + 1):
        progress.print(f"run {number} of {repeats} …")
        runs.append(_one(settings))
        progress.print(
            f"  {runs[-1]['cells']} cells in {runs[-1]['frames']} frames, {runs[-1]['cells_per_s']:.0f} cells/s"
        )
    progress.print("the engine alone …")
    result = _median(runs)
    result["engine_cells_per_s"] = _bare_engine(settings)
    result["overhead_fraction"] = _overhead(result)
    result["repeats"] = repeats
    if as_json:
        emit(result)
        return
    screen.print(facts(_rows(result), "bench pipeline"))


def _rows(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The result in words."""
    runs = f"median of {result['repeats']} runs" if result["repeats"] > 1 else "one run"
    for key in ("cells_per_s", "frames_per_s", "views_per_s"):
        low, high = result[f"{key}_range"]
        yield f"{key.removesuffix('_per_s')} a second", f"{result[key]:.1f} ({runs}, {low:.1f} to {high:.1f})"
    yield "engine alone", f"{result['engine_cells_per_s']:.1f} views a second"
    yield "beyond the engine", f"{percent(result['overhead_fraction'])} of the time"
    yield from ((f"{plain(stage)}, a view", f"{us:.2f} µs") for stage, us in result["us_per_cell"].items())
    yield from latency_rows(result["latency_ms"])
    yield "in each run", f"{result['cells']} cells in {result['frames']} frames"


def _engine(name: str) -> list[str]:
    return ["engine.kind=null"] if name == "null" else ["engine.kind=torch", "engine.model=twin-lsm"]


def _one(settings: RunSettings) -> dict[str, Any]:
    """One run; figures are over the span from the first frame's result to the last one's."""
    outcome = execute(Order(settings, live=False), listener)
    if outcome.error is not None:
        raise outcome.error
    sort = outcome.report.reports["sort"]
    acquire = outcome.report.reports["acquire"]
    span_s = sort["span_ns"] / 1e9
    cells = outcome.summary["cells"]["tracked"]
    views = max(1, sort["engine"]["views"])  # what the engine scored: a "cell" to it is one crop
    workers = [r for name, r in outcome.report.reports.items() if name.startswith("segment-")]
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
        "latency_ms": outcome.summary["latency_ms"],
        "cells": cells,
        "frames": sort["frames_fed"],
    }


def _median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the runs, with the least and the greatest of the rates."""
    result: dict[str, Any] = {}
    for key in ("cells_per_s", "frames_per_s", "views_per_s"):
        values = [run[key] for run in runs]
        result[key] = round(statistics.median(values), 1)
        result[f"{key}_range"] = [round(min(values), 1), round(max(values), 1)]
    result["us_per_cell"] = {
        stage: round(statistics.median(run["us_per_cell"][stage] for run in runs), 2)
        for stage in runs[0]["us_per_cell"]
    }
    middle = sorted(runs, key=lambda run: run["cells_per_s"])[len(runs) // 2]
    return result | {key: middle[key] for key in ("latency_ms", "cells", "frames")}


def _bare_engine(settings: RunSettings) -> float:
    """Cells a second of the engine alone, in batches of its largest bucket."""
    engine = open_engine(settings.engine)
    try:
        engine.warm_up()
        size = engine.buckets[-1]
        crops = np.random.default_rng(1).integers(0, 255, (size, 64, 64), dtype=np.uint8)
        seconds: list[float] = []
        for _ in range(ENGINE_REPEATS):
            started = time.perf_counter()
            engine.infer(crops)
            seconds.append(time.perf_counter() - started)
        return round(size / statistics.median(seconds), 1)
    finally:
        engine.close()


def _overhead(result: dict[str, Any]) -> float:
    """What the pipeline takes beyond the bare engine's time for as many cells, as a share of the whole."""
    pipeline_s, engine_s = 1.0 / result["views_per_s"], 1.0 / result["engine_cells_per_s"]
    return float(round(max(0.0, 1.0 - engine_s / pipeline_s), 4))
