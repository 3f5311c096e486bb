"""bench: throughput and latency, each figure beside its peer or its limit in the same run; and two results compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hspc_live.bench.compare import compare as held_against
from hspc_live.bench.machine import machine_words
from hspc_live.bench.pipeline import SHARES, PipelineOrder, Ran, measure_pipeline
from hspc_live.bench.words import TITLES, comparison, findings, narrow, table
from hspc_live.cli.execute import Order, execute, make_out
from hspc_live.cli.options import Json, Out, Set, seconds
from hspc_live.cli.output import emit, listener, print_files, progress, screen
from hspc_live.cli.tables import columns
from hspc_live.core.errors import SettingsError
from hspc_live.settings.load import load
from hspc_live.settings.schema import RunSettings
from hspc_live.settings.shipped import shipped_config

app = typer.Typer(no_args_is_help=True, help="Measure throughput and latency.")

QUICK = 0.02
Repeats = Annotated[
    int, typer.Option(min=1, max=100, metavar="N", help="How often all is measured, in turn; medians are reported.")
]
Quick = Annotated[
    bool, typer.Option("--quick", help="A fiftieth of the work: to see that it runs. Its figures are worth nothing.")
]


@app.callback()
def _group() -> None:
    """Measure throughput and latency."""


@app.command()
def engine(
    buckets: Annotated[str, typer.Option(metavar="N,N,…", help="Batch sizes to measure.")] = "1,8,32",
    engines: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME,…",
            help="Engines as settings name them, with or without /PRECISION, e.g. torch. Default: all that can be "
            "built here. Plain eager (torch) is always measured beside them.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME", help="A shipped model, or a folder with card.yaml.")
    ] = "twin-lsm",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the engines run.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads of a CPU engine. Default: the engine's own.")
    ] = None,
    repeats: Repeats = 5,
    crops: Annotated[
        int, typer.Option(min=1, metavar="N", help="Cells whose scores are held against plain eager's.")
    ] = 256,
    duration: Annotated[
        float,
        typer.Option(
            "--seconds", min=0.001, metavar="S", help="How long a batch size is run in each repeat, at least."
        ),
    ] = 0.5,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Cells a second and ms a batch of every engine, beside plain eager and the limit of a large matrix product."""
    from hspc_live.bench.engine import EngineOrder, measure_engines  # torch takes seconds
    from hspc_live.bench.engine_choice import Asked

    asked = Asked(model, device, threads, _numbers(buckets))
    names = None if engines is None else tuple(name.strip() for name in engines.split(","))
    order = EngineOrder(asked, names, repeats, crops, duration)
    _bench(out, as_json, lambda: measure_engines(order, progress.print))


@app.command()
def segment(
    images: Annotated[
        list[Path] | None,
        typer.Argument(help="Still DIC fields of 0.25 µm/px, or folders of them, to be timed as well."),
    ] = None,
    repeats: Repeats = 5,
    quick: Quick = False,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Segmentation, ms a picture, beside a scikit-image pipeline and a bare pass over the memory."""
    from hspc_live.bench.segment import measure_segment

    _bench(out, as_json, lambda: measure_segment(repeats, progress.print, images or (), QUICK if quick else 1.0))


@app.command()
def link(repeats: Repeats = 5, quick: Quick = False, out: Out = None, as_json: Json = False) -> None:
    """Pixels and messages between two processes (ring, ipc, tcp), beside a copy in memory."""
    from hspc_live.bench.link import measure_link

    _bench(out, as_json, lambda: measure_link(repeats, progress.print, QUICK if quick else 1.0))


@app.command()
def record(
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where to write, on the disk to be measured. Default: for temporary files."
        ),
    ] = None,
    repeats: Repeats = 5,
    quick: Quick = False,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Pictures into a recording, beside a plain file and the bare speed of the compression."""
    from hspc_live.bench.record import measure_record

    _bench(out, as_json, lambda: measure_record(folder, repeats, progress.print, QUICK if quick else 1.0))


@app.command()
def pipeline(
    engine: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Who classifies, as settings name it: nobody (null answers at once, so that the rest is measured), "
            "torch, …",
        ),
    ] = "null",
    repeats: Repeats = 3,
    frames: Annotated[
        int | None,
        typer.Option(min=100, metavar="N", help="Frames of a run at full speed. Default: as the settings say."),
    ] = None,
    loads: Annotated[
        str,
        typer.Option(metavar="X,X,…|none", help="Loads of the sweep, as shares of the full speed."),
    ] = ",".join(f"{share:g}" for share in SHARES),
    duration: Annotated[
        float, typer.Option("--seconds", min=0.1, metavar="S", help="How long each load is run, a second apart.")
    ] = 5.0,
    for_: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="Also watch the memory over so long a run, e.g. 10min."),
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
    out: Out = None,
    as_json: Json = False,
) -> None:
    """The whole pipeline: its full speed, time per stage, and the latency under loads from light to past saturation."""
    from hspc_live.bench.engine_choice import engine_overrides

    overrides = [*engine_overrides(engine), *(set_ or [])]
    if frames is not None:
        overrides.append(f"camera.frames={frames}")
    settings = load(config or shipped_config("benchmarks/pipeline_null"), overrides)
    order = PipelineOrder(settings, repeats, _loads(loads), duration, seconds(for_))
    _bench(out, as_json, lambda: measure_pipeline(order, _play, progress.print))


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="An earlier result (its JSON, or its folder).")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="A later one of the same bench.")],
    as_json: Json = False,
) -> None:
    """What changed between two results by more than their repeats differ."""
    found = held_against(before, after)
    for warning in found.warnings:
        progress.print(f"warning: {warning}", style="yellow")
    if as_json:
        emit(dataclasses.asdict(found))
        return
    head, rows = comparison(found)
    screen.print(columns(head, rows, TITLES[found.bench]))
    for name, only in (("before", found.only_before), ("after", found.only_after)):
        if only:
            screen.print(f"only {name}: {', '.join(only)}", soft_wrap=True)


def _bench(out: Path | None, as_json: bool, measure: Callable[[], Mapping[str, Any]]) -> None:
    """Measure, keep, show."""
    if out is not None:
        make_out(out)
    found = measure()
    files: list[Path] = []
    if out is not None:
        from hspc_live.bench.page import write_bench

        files = write_bench(out, found)
    if as_json:
        emit(found)
        return
    head, rows = narrow(table(found))
    screen.print(columns(head, rows, TITLES[found["bench"]]))
    for sentence in findings(found):
        screen.print(sentence)
    screen.print(f"Machine: {machine_words(found['machine'])}.")
    print_files(files)


def _play(settings: RunSettings, live: bool) -> Ran:
    outcome = execute(Order(settings, live=live), listener)
    if outcome.error is not None:
        raise outcome.error
    return Ran(outcome.summary, outcome.report.reports)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"--buckets: {text!r} is no list of batch sizes; say e.g. 1,8,32") from None


def _loads(text: str) -> tuple[float, ...]:
    if text == "none":
        return ()
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"--loads: {text!r} is no list of shares; say e.g. 0.1,0.5,1, or none") from None
    if not all(0 < share <= 10 for share in shares):
        raise SettingsError(f"--loads: {text} must lie above 0 and be at most 10; 1 is the full speed")
    return shares
