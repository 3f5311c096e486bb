"""engine build, check, list: optimised engines, made on this machine and judged against plain torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hspc_live.cli.options import Json
from hspc_live.cli.output import emit, progress, screen
from hspc_live.cli.tables import facts
from hspc_live.core.errors import HspcError, ModelError
from hspc_live.settings.schema import AutoEngine
from hspc_models.card import find_model, load_card
from hspc_models.open_engine import candidates, entry_of, open_proven

app = typer.Typer(no_args_is_help=True, help="Build fast engines for this machine, and check them against plain torch.")

Which = Literal["all", "openvino", "tensorrt", "cuda-graph"]
Model = Annotated[str, typer.Argument(help="Folder of a model, or the name of a shipped one.")]
Only = Annotated[Which, typer.Option("--engine", help="Only this kind of engine.")]
Precision = Annotated[Literal["all", "fp32", "fp16", "int8"], typer.Option(help="Only this precision.")]
Threads = Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Threads of a CPU engine.")]


@app.callback()
def _group() -> None:
    """Build fast engines for this machine, and check them against plain torch."""


@app.command()
def build(
    model: Model = "twin-lsm",
    engine: Only = "all",
    precision: Precision = "all",
    threads: Threads = 2,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Crops of the model's kind (any source of `dataset make`): half calibrate INT8, half judge. A model "
            "of the digital twin needs none.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build every engine that can be had here, judge and time it; one that fails its parity check is not kept."""
    from hspc_models.engine_build import build_engine

    done: list[dict[str, Any]] = []
    first: HspcError | None = None
    for settings in _wanted(model, engine, precision, threads):
        name = {"engine": settings.kind, "precision": getattr(settings, "precision", "fp16")}
        try:
            built = build_engine(settings, calibrate, _say)
        except ModelError as error:
            first = first or error
            done.append({**name, "built": False, "reason": str(error)})
            continue
        entry = built.entry
        done.append(
            {
                **name,
                "built": entry is not None,
                "reason": None if entry is not None else "; ".join(built.parity.failures),
                "build": entry.build if entry is not None else None,
                "folder": str(entry.folder) if entry is not None else None,
                "parity": built.parity.to_json(),
                "cells_per_s": round(built.cells_per_s, 1),
                "eager_cells_per_s": round(built.eager_cells_per_s, 1),
                "times_eager": round(built.times_eager, 2),
            }
        )
        progress.print(f"  {built.parity.sentence()}")
    _finish({"model": model, "engines": done}, as_json)
    if not any(one["built"] for one in done):
        raise first or ModelError("no engine has passed its parity check: plain torch is the one to use")


@app.command()
def check(
    model: Model = "twin-lsm",
    engine: Only = "all",
    precision: Precision = "all",
    threads: Threads = 2,
    as_json: Json = False,
) -> None:
    """Check the engines that were built: whether each still fits this machine, and scores as it must."""
    done: list[dict[str, Any]] = []
    failed: list[str] = []
    card = load_card(find_model(model))
    for settings in _wanted(model, engine, precision, threads):
        name = {"engine": settings.kind, "precision": getattr(settings, "precision", "fp16")}
        try:
            entry = entry_of(settings, card)
        except ModelError as error:
            done.append({**name, "built": False, "reason": str(error)})
            continue
        try:
            opened = open_proven(settings)
        except ModelError as error:
            failed.append(str(error))
            done.append({**name, "built": True, "passed": False, "reason": str(error)})
            continue
        try:
            assert opened.proof is not None, "whatever was built has a proof"
            parity, reason = opened.proof.check(opened.engine)
        finally:
            opened.engine.close()
        if reason is not None:
            failed.append(f"{opened.engine.name}: {reason}")
        done.append(
            {
                **name,
                "built": True,
                "passed": reason is None,
                "reason": reason,
                "build": entry.build,
                "now": parity.to_json(),
                "at_build": entry.about["parity"],
            }
        )
    _finish({"model": model, "engines": done}, as_json)
    if failed:
        raise ModelError("; ".join(failed))


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List what was built on this machine, for any model."""
    from hspc_models.engine_cache import cache_folder, entries

    found: list[dict[str, Any]] = [
        {
            "engine": entry.key.engine,
            "precision": entry.key.precision,
            "model": entry.about.get("model"),
            "made": entry.about.get("made"),
            "build": entry.build,
            "folder": str(entry.folder),
            "device": entry.key.device,
            "versions": dict(entry.key.versions),
            "buckets": list(entry.key.buckets),
            "p99_ms": entry.about.get("p99_ms"),
            "cells_per_s": entry.about.get("cells_per_s"),
            "eager_cells_per_s": entry.about.get("eager_cells_per_s"),
            "parity": entry.about.get("parity"),
        }
        for entry in entries()
    ]
    if as_json:
        emit({"cache": str(cache_folder()), "engines": found})
        return
    if not found:
        screen.print("no engine has been built on this machine: `hspc-live engine build`")
    for one in found:
        times = one["cells_per_s"] / one["eager_cells_per_s"]
        rows = [
            ("model", f"{one['model']}, built {one['made']}, {one['build'][:8]}"),
            ("speed", f"{one['cells_per_s']:.0f} cells/s, {times:.1f} times plain torch in the same run"),
            ("on", one["device"]),
            ("in", one["folder"]),
        ]
        screen.print(facts(rows, f"{one['engine']}, {one['precision']}"))


def _wanted(model: str, engine: Which, precision: str, threads: int) -> list[Any]:
    wanted = [
        settings
        for settings in candidates(AutoEngine(kind="auto", model=model), threads)
        if engine in ("all", settings.kind) and precision in ("all", getattr(settings, "precision", "fp16"))
    ]
    if not wanted:
        raise ModelError(f"there is no {engine} engine in {precision}: openvino has fp32 and int8, the others fp16")
    return wanted


def _say(text: str) -> None:
    progress.print(text)


def _finish(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(result)
        return
    rows = [(f"{one['engine']}, {one['precision']}", _words(one)) for one in result["engines"]]
    screen.print(facts(rows, f"Engines for {result['model']}"))


def _words(one: dict[str, Any]) -> str:
    if one["reason"] is not None:
        return f"{'FAILS' if one.get('built') else 'not built'}: {one['reason']}"
    parity = one.get("parity") or one["at_build"]
    speed = (
        f"{one['cells_per_s']:g} cells/s, {one['times_eager']:g} times plain torch; " if "cells_per_s" in one else ""
    )
    flips = ", ".join(f"{count} at {threshold}" for threshold, count in parity["flips"].items())
    return (
        f"passes: {speed}top-1 agreement {100 * parity['top1_agreement']:.2f} % on {parity['crops']} crops, "
        f"gate flips {flips}"
    )
