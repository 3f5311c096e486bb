"""demo, run, replay: the commands that drive the whole pipeline."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from hspc_live.cli.again import execute_again
from hspc_live.cli.chamber import run_chamber
from hspc_live.cli.chamber_replay import replay_chamber
from hspc_live.cli.execute import Order, Outcome, execute, gate_edits, new_recording
from hspc_live.cli.options import (
    Affine,
    Faults,
    Fps,
    Json,
    Out,
    Revisit,
    Set,
    Stay,
    UmPerPx,
    calibrated,
    fault_plan,
    mounted,
    seconds,
    speed,
)  # fmt: skip
from hspc_live.cli.output import emit, listener, percent, print_files, print_summary, progress
from hspc_live.cli.score import predicted, score
from hspc_live.core.errors import SettingsError
from hspc_live.recording.own_file import is_chamber
from hspc_live.recording.reader import open_recording
from hspc_live.report.draw import draw
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.devices import LoopedCamera, NoSorter, ReplayCamera, SimulatedCamera, SimulatedSorter
from hspc_live.settings.fault_checks import check_faults
from hspc_live.settings.load import load, load_run, load_text
from hspc_live.settings.schema import RunSettings
from hspc_live.settings.shipped import shipped_config
from hspc_live.stages.gate import check_gates
from hspc_live.stages.gate_words import stated
from hspc_live.wiring import model_card, model_remarks, resolve_gates
from hspc_models.card import Card

SUMMARY = "summary.json"


def demo(
    seconds_: Annotated[
        float, typer.Option("--seconds", min=1, max=3600, metavar="S", help="How many seconds of flow.")
    ] = 20.0,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Number that the simulated cells are drawn from: another one, other cells.")
    ] = 1,
    out: Out = None,
    faults: Faults = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Sort simulated cells: the whole loop on the digital twin with the shipped model, nothing to configure."""
    overrides = [f"camera.twin.seed={seed}", *(set_ or [])]
    settings = load(shipped_config("rigs/twin_flow"), overrides)
    plan = fault_plan(faults)
    settings, card = _checked(settings)
    new_recording(settings, out)  # nothing is promised before it is known that the run can be kept
    say_prediction(settings, card, seconds_, armed=True)
    with _Folder(out) as folder:
        if out is None:
            settings = settings.model_copy(update={"record": settings.record.model_copy(update={"frames": False})})
        order = Order(settings, live=True, arm_by="demo", for_s=seconds_, out=folder, keep_truth=True, faults=plan)
        _finish(execute(order, listener), settings, seconds_, "Demo on the digital twin", out, as_json)


def run(
    config: Annotated[Path, typer.Argument(help="Settings file of the rig, e.g. configs/rigs/twin_flow.yaml.")],
    for_: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="TIME", help="Flow: end after this long, e.g. 30s, 5min or 1h. Default: until Ctrl-C."
        ),
    ] = None,
    delay: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Flow: the sort delay, in the file that `calibrate-delay` wrote."),
    ] = None,
    arm: Annotated[
        bool, typer.Option("--arm", help="Flow: let the sorter deflect cells, once the self-test has passed.")
    ] = False,
    out: Out = None,
    affine: Affine = None,
    revisit: Revisit = False,
    stay: Stay = False,
    faults: Faults = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Run live on a rig: sort from a flow (only if --arm), or scan a chamber (`mode: chamber`) into a picking list."""
    settings = load_run(config, [*calibrated(delay), *mounted(affine), *(set_ or [])])
    if isinstance(settings, ChamberRunSettings):
        if arm or delay is not None or for_ is not None:
            raise SettingsError(f"{config}: --arm, --delay and --for are for a flow, and this is a chamber")
        run_chamber(settings, revisit=revisit, stay=stay, out=out, as_json=as_json, faults=fault_plan(faults))
        return
    if revisit or stay or affine is not None:
        raise SettingsError(f"{config}: --revisit, --stay and --affine are for a chamber, and this is a flow")
    if isinstance(settings.camera, ReplayCamera):
        raise SettingsError(f"{config}: camera.kind is replay; use `hspc-live replay RECORDING --config {config}`")
    if isinstance(settings.camera, LoopedCamera):
        raise SettingsError(f"{config}: camera.kind is looped; use `hspc-live bench pipeline --config {config}`")
    duration = seconds(for_)
    plan = fault_plan(faults)
    if plan is not None:  # before anything is made or promised
        check_faults(plan, settings, live=True, recording=out is not None or settings.record.path is not None)
    settings, card = _checked(settings)
    new_recording(settings, out)
    if duration is not None:
        say_prediction(settings, card, duration, armed=arm)
    simulated = isinstance(settings.camera, SimulatedCamera)
    with _Folder(out) as folder:
        if out is None:
            settings = settings.model_copy(update={"record": settings.record.model_copy(update={"frames": False})})
        order = Order(
            settings,
            live=True,
            arm_by="command line" if arm else None,
            for_s=duration,
            out=folder,
            keep_truth=simulated,
            faults=plan,
        )

        def keep(outcome: Outcome, into: Path | None) -> None:
            if out is not None and into is not None:
                _written(outcome, settings, duration or 0.0, into)

        outcome, last = execute_again(order, listener, keep)
        shown = None if out is None else last
        _finish(outcome, settings, duration or 0.0, f"Run of {settings.name}", shown, as_json)


def replay(
    recording: Annotated[Path, typer.Argument(help="A recording of HSPC Live, flow or chamber, or any RT-DC file.")],
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Settings file to replay with. Default: the settings kept in the recording, or for an RT-DC file from "
            "elsewhere the shipped replay_rtdc.",
        ),
    ] = None,
    speed_: Annotated[
        str,
        typer.Option(
            "--speed", metavar="SPEED", help="max (as fast as possible), or times the recorded speed: 1, 0.5."
        ),
    ] = "max",
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=64, metavar="N", help="Processes that look for cells. Default: as the settings say."),
    ] = None,
    um_per_px: UmPerPx = None,
    fps: Fps = None,
    out: Out = None,
    faults: Faults = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Send a recording through the pipeline again. Same recording and settings: same decisions, at any speed."""
    overrides = list(set_ or [])
    if is_chamber(recording):
        given = {
            "--speed": speed_ != "max",
            "--workers": workers,
            "--um-per-px": um_per_px,
            "--fps": fps,
            "--faults": faults,
        }
        flow_options = [name for name, value in given.items() if value]
        replay_chamber(recording, config, overrides, flow_options=flow_options, out=out, as_json=as_json)
        return
    with open_recording(recording, um_per_px=um_per_px, frames_per_s=fps) as opened:
        own = opened.settings_json
        info = opened.info
        loss = opened.loss
        edits = gate_edits(opened.lines("notes"))
    if config is not None:
        settings = load(config, overrides)
    elif own is not None:
        settings = load_text(own, f"the settings in {recording}", overrides)
    else:
        settings = load(shipped_config("replay_rtdc"), overrides)
    asked_for = config is not None or _given("door", overrides)
    settings = _as_replay(settings, recording, workers, um_per_px, fps, door=asked_for)
    settings = resolve_gates(settings, recorded=config is None and own is not None)
    _say_gates(settings)
    remarks = model_remarks(settings, model_card(settings), info.um_per_px)
    for remark in remarks:
        progress.print(f"note: {remark}", style="yellow", markup=False)
    if remarks:
        meant = "on pictures it was not made for its verdicts show that the pipeline works, nothing about the cells"
        progress.print(f"note: {meant}", style="yellow")
    if loss is not None:
        progress.print(f"note: {recording}: {loss}", style="yellow", markup=False)
    if edits and (config is not None or _given("sort.outlets", overrides)):
        edits = ()
        remarks.append("the gates that were set during the recorded run are left out: other gates were asked for")
        progress.print(f"note: {remarks[-1]}", style="yellow", markup=False)
    armed = None if isinstance(settings.sorter, NoSorter) else "replay (virtual sorter)"
    plan = fault_plan(faults)
    order = Order(settings, live=False, arm_by=armed, speed=speed(speed_), out=out, gate_edits=edits, faults=plan)
    outcome = execute(order, listener)
    outcome.summary["warnings"] = [*remarks, *outcome.summary["warnings"]]
    _finish(outcome, settings, 0.0, f"Replay of {recording.name}", out, as_json)


def _given(path: str, overrides: list[str]) -> bool:
    """Whether an override says anything of `path`: of itself, of a part, or of what holds it."""
    keys = [text.partition("=")[0].strip() + "." for text in overrides]
    return any(key.startswith(f"{path}.") or f"{path}.".startswith(key) for key in keys)


def _as_replay(
    settings: RunSettings,
    recording: Path,
    workers: int | None,
    um_per_px: float | None,
    fps: float | None,
    *,
    door: bool,
) -> RunSettings:
    """`settings` with the recording as its camera, on a virtual sorter, recording nothing unless asked to.

    The `door` of settings that came in the recording stays shut: no file opens a port, whoever wrote it.
    """
    camera = ReplayCamera(kind="replay", path=recording.absolute(), um_per_px=um_per_px, frames_per_s=fps)
    pipeline = settings.pipeline
    if workers is not None:
        pipeline = pipeline.model_copy(update={"workers": workers})
    sorter = settings.sorter if isinstance(settings.sorter, SimulatedSorter) else SimulatedSorter(kind="simulated")
    record = settings.record.model_copy(update={"path": None})
    update = {"camera": camera, "pipeline": pipeline, "sorter": sorter, "record": record}
    return settings.model_copy(update=update if door else {**update, "door": None})


def _checked(settings: RunSettings) -> tuple[RunSettings, Card | None]:
    """Settings with the gates' numbers, and the model's card, known to serve the gates. SettingsError, ModelError."""
    card = model_card(settings)
    settings = resolve_gates(settings, anew=True)
    if card is not None:
        check_gates(settings.sort, card.classes)
    _say_gates(settings)
    return settings, card


def _say_gates(settings: RunSettings) -> None:
    for sentence in stated(settings.sort.outlets, settings.sort.abstain):
        progress.print(sentence, markup=False)


def say_prediction(settings: RunSettings, card: Card | None, duration: float, *, armed: bool) -> None:
    """What the run promises, before it starts."""
    before = predicted(settings, card, duration)
    table = card.cell_confusion if card is not None else None
    if before is not None and table is not None and table.views != settings.sort.close.views:
        taken = settings.sort.close.views
        note = f"the card's table was made with {table.views} views a cell, the rig takes {taken} (sort.close.views)"
        progress.print(f"note: {note}: the prediction is for the former", style="yellow")
    if before is not None and before.purity is not None and before.interval is not None:
        low, high = before.interval
        cells = f"{before.sorted_cells:.0f} cell" + ("" if round(before.sorted_cells) == 1 else "s")
        progress.print(
            f"predicted before the run: purity {percent(before.purity)} (95 % of such runs: {percent(low)} to "
            f"{percent(high)}), recovery {percent(before.recovery)}, about {cells} "
            + ("sorted" if armed else "would be sorted if armed")
        )


def _finish(
    outcome: Outcome, settings: RunSettings, duration: float, title: str, out: Path | None, as_json: bool
) -> None:
    """Score, print, draw, write; then end with the run's error, if it has one."""
    files = _written(outcome, settings, duration, out)
    summary = outcome.summary
    if as_json:
        emit(summary)
    else:
        print_summary(summary, title)
        print_files(files)
    if outcome.error is not None:
        raise outcome.error
    if summary["interrupted"]:
        raise typer.Exit(130)


def _written(outcome: Outcome, settings: RunSettings, duration: float, out: Path | None) -> list[Path]:
    """Score, draw and write the results into `out`, if they are to be kept."""
    summary = outcome.summary
    summary.update(score(settings, model_card(settings), outcome, duration))
    if "sort" not in summary:
        summary["sort"] = None
    files: list[Path] = []
    if out is not None:
        summary["out"] = str(out)
        path = out / SUMMARY
        path.write_text(json.dumps(summary, indent=2, default=str) + "\n", encoding="utf-8")
        files = [path, *_drawn(out, summary)]
        if outcome.recording is not None:
            files.insert(0, outcome.recording)
    return files


def _drawn(out: Path, summary: dict[str, Any]) -> list[Path]:
    progress.print("drawing the pictures …")
    return draw(out, summary)


class _Folder:
    """The folder of results: the one asked for, or a temporary one that goes when the command ends."""

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self._temporary: Path | None = None

    def __enter__(self) -> Path:
        if self._out is not None:
            return self._out
        self._temporary = Path(tempfile.mkdtemp(prefix="hspc-live-"))
        return self._temporary

    def __exit__(self, *_: object) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
