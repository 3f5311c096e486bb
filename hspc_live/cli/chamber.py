"""A chamber run from settings to picking list, summary and exit code."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from hspc_live.cli.chamber_progress import FieldProgress
from hspc_live.cli.chamber_tables import print_chamber
from hspc_live.cli.execute import TRUTH, make_out
from hspc_live.cli.faults import chamber_injector, chamber_observed, filling, injected
from hspc_live.cli.output import emit, print_files, progress
from hspc_live.core.chamber import ChamberCell, Phase
from hspc_live.core.errors import DataLoss, HspcError, LedgerError, OutputError
from hspc_live.core.identity import run_id
from hspc_live.processes.chamber import ChamberRun
from hspc_live.processes.chamber_control import run_sockets
from hspc_live.processes.chamber_record import ChamberRecorder
from hspc_live.processes.chamber_showing import ChamberShowing
from hspc_live.processes.chamber_values import ChamberReport
from hspc_live.report.cell_table import write_cells
from hspc_live.report.chamber_draw import draw_chamber
from hspc_live.report.chamber_evidence import RECORDING
from hspc_live.report.picking_list import UM_DIGITS, write_picking_list
from hspc_live.report.position_list import fresh_list, write_position_list
from hspc_live.settings.chamber_run import ChamberRunSettings, MeasuredAffine
from hspc_live.settings.fault_checks import check_chamber_faults
from hspc_live.settings.faults import FaultPlan
from hspc_live.stages.field import NO_CELL
from hspc_live.stages.gate_words import stated
from hspc_live.twin.chamber_score import Listed, Revisit, score_listed, score_revisits
from hspc_live.twin.chamber_truth import ChamberTruth
from hspc_live.wiring_chamber import (
    build_chamber,
    chamber_card,
    chamber_pipeline_id,
    chamber_recorder,
    chamber_remarks,
    resolve_chamber_gates,
)
from hspc_models.open_engine import ready_engine

SUMMARY = "summary.json"
TARGETS = "pick_targets.json"
FRESH = ("listed", "listed_twice", "no_cell", "frame", "position_error_um", "position_error_95_um")
"""What a second visit is scored by: how far the fresh places, to which picks go, are from the cells."""


def run_chamber(
    settings: ChamberRunSettings, *, revisit: bool, stay: bool, out: Path | None, as_json: bool,
    faults: FaultPlan | None = None,
) -> None:  # fmt: skip
    """Run, score against the twin's truth, write, print; then end with the run's error, if it has one.

    With `stay` the stage is kept after that, for people to drive from the screen.
    """
    if faults is not None:
        check_chamber_faults(faults, settings, recording=out is not None or settings.record.path is not None)
        progress.print(faults.in_force, style="bold red", markup=False)
    settings = with_engine(resolve_chamber_gates(settings, anew=True))
    if out is not None:
        make_out(out)
    card = chamber_card(settings)
    remarks = chamber_remarks(settings, card)
    say(remarks)
    say_gates(settings)
    run = run_id()
    counted = Counter[str]()
    injector = None if faults is None else chamber_injector(faults, counted)
    sinks = recorders(settings, out, run)
    parts, devices = build_chamber(settings, sinks, injector)

    def conclude(report: ChamberReport) -> None:
        listen.rest()
        about = {"run": run, "name": settings.name, "pipeline_id": chamber_pipeline_id(settings, card)}
        summary: dict[str, Any] = {**about, **report.summary, "warnings": remarks}
        if faults is not None:
            summary["warnings"] = [faults.in_force, *remarks]
            summary["faults"] = {"injected": injected(faults, counted), "observed": chamber_observed(summary)}
        truth = devices.truth() if devices.truth is not None else None
        if truth is not None:
            summary["truth"] = score_chamber(report, truth, parts.engine.classes)
        finish(report, summary, f"Chamber run {settings.name}", truth, out, as_json)

    with FieldProgress() as listen, run_sockets() as (control, shown):
        if isinstance(settings.calibration, MeasuredAffine):
            listen("chamber", "opening", "measuring first how the camera lies over the stage")
        showing = ChamberShowing(
            shown, settings, run=run, engine=parts.engine.name, live=True, recording=recording_path(settings, out)
        )
        with filling(listen, injector, recording_path(settings, out)) as heard:
            whole = ChamberRun(
                parts, settings, revisit=revisit, listen=heard, control=control, showing=showing,
                stay=conclude if stay else None,
            )  # fmt: skip
            report = asyncio.run(whole.run())
    if not report.handed_over:
        conclude(report)


def recorders(settings: ChamberRunSettings, out: Path | None, run: str) -> tuple[ChamberRecorder, ...]:
    """The recording, where one is wanted. Raises OutputError if its file exists."""
    path = recording_path(settings, out)
    if path is None:
        return ()
    if path.exists():
        raise OutputError(f"{path} exists: nothing is ever overwritten")
    return (chamber_recorder(settings, chamber_card(settings), path, run),)


def recording_path(settings: ChamberRunSettings, out: Path | None) -> Path | None:
    """Where the recording goes, if one is wanted."""
    return settings.record.path or (None if out is None else out / RECORDING)


def with_engine(settings: ChamberRunSettings) -> ChamberRunSettings:
    """`settings` that name the engine which the run will use, and its build; what was chosen is said."""
    engine = ready_engine(settings.engine, lambda text: progress.print(text))
    return settings.model_copy(update={"engine": engine})


def say(remarks: Sequence[str]) -> None:
    """Notes for the person at the keyboard."""
    for remark in remarks:
        progress.print(f"note: {remark}", style="yellow", markup=False)


def say_gates(settings: ChamberRunSettings) -> None:
    """What the gates rest on."""
    for sentence in stated(settings.sort.outlets, settings.sort.abstain, chamber=True):
        progress.print(sentence, markup=False)


def finish(
    report: ChamberReport, summary: dict[str, Any], title: str, truth: ChamberTruth | None, out: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Write, draw, print; then end with the run's error, if it has one."""
    files: list[Path] = []
    if out is not None:
        files = _write(out, report, summary, truth)
        kept = summary.get("recording") or {}
        if kept and kept["failure"] is None:
            progress.print("drawing the pictures …")
            files = [Path(kept["path"]), *files, *draw_chamber(out, summary, Path(kept["path"]))]
    if as_json:
        emit(summary)
    else:
        print_chamber(summary, title)
        print_files(files)
    if (error := _error(report, summary)) is not None:
        raise error
    if report.interrupted:
        raise typer.Exit(130)


def score_chamber(report: ChamberReport, truth: ChamberTruth, classes: Sequence[str]) -> dict[str, Any]:
    """Cells found, listed twice and classified rightly, and the second visit, all against the truth, on the glass.

    A list speaks of what the stage would have reported at the end of the scan, a fresh place of what it reports then;
    what the table was off by at those times is added, so that a slip does not count as an error of every cell.
    """
    times = {visit.number: visit.captured_ns for visit in report.visits if visit.captured_ns is not None}
    scanned = [times[visit.number] for visit in report.visits if visit.number in times and visit.phase is Phase.SCAN]
    then = truth.stage_error_um(max(scanned, default=0))
    listed = {cell.cell: _listed(cell, then) for cell in report.cells}
    found = [listed[cell.cell] for cell in report.cells if cell.reason not in NO_CELL]
    picks = [listed[pick.cell] for pick in report.listed.picks]
    scored: dict[str, Any] = {
        "cells": score_listed(found, truth, classes),
        "picks": score_listed(picks, truth, classes),
    }
    if report.revisited:
        last_ns = max(times.values(), default=0)
        visits = []
        for cell in report.revisited:
            at_ns, spot = (last_ns, None) if cell.lost else (times[cell.visit], (cell.x_um, cell.y_um))
            if spot is not None:
                dx, dy = truth.stage_error_um(at_ns)
                spot = (spot[0] + dx, spot[1] + dy)
            visits.append(Revisit(cell.cell, listed[cell.cell].x_um, listed[cell.cell].y_um, at_ns, spot))
        scored["revisit"] = score_revisits(visits, picks, truth)
        fresh = [Listed(one.cell, *one.found_um, one.at_ns) for one in visits if one.found_um is not None]
        places = score_listed(fresh, truth, classes)
        scored["fresh"] = {key: places[key] for key in FRESH}
    return scored


def _listed(cell: ChamberCell, stage_error_um: NDArray[np.float64]) -> Listed:
    said, (dx, dy) = cell.classification, stage_error_um.tolist()
    predicted = None if said is None else said.predicted
    return Listed(cell.cell, cell.x_um + dx, cell.y_um + dy, cell.seen_ns, predicted)


def _write(out: Path, report: ChamberReport, summary: dict[str, Any], truth: ChamberTruth | None) -> list[Path]:
    """Picking list, all cells, targets of the fresh places, truth, summary."""
    about = {"run": summary["run"], "name": summary["name"], "decisions_sha256": summary["decisions_sha256"]}
    files = write_picking_list(report.listed, out, about, complete=summary["picking"]["complete"])
    if label := report.facts.stage.label:  # recordings of an older version do not say it
        files.append(write_position_list(report.listed, out, label, complete=summary["picking"]["complete"]))
    files.append(write_cells(report.cells, report.listed.classes, out, report.listed.channels))
    try:
        if report.revisited:
            fresh = {"targets": [_plain(t) for t in report.targets], "cells": [_plain(c) for c in report.revisited]}
            files.append(out / TARGETS)
            files[-1].write_text(json.dumps(fresh, indent=1) + "\n", encoding="utf-8")
            if label:
                again = fresh_list(report.listed, report.targets)
                files.append(write_position_list(again, out, label, Path(TARGETS).stem))
        if truth is not None:
            truth.save(out / TRUTH)
            files.append(out / TRUTH)
        summary["out"] = str(out)
        files.insert(0, out / SUMMARY)
        files[0].write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}") from error
    return files


def _plain(value: Any) -> dict[str, Any]:
    """A value as JSON: lengths as in the picking list; NaN, which JSON has not, is null."""
    return {
        key: (None if math.isnan(found) else round(found, UM_DIGITS)) if isinstance(found, float) else found
        for key, found in asdict(value).items()
    }


def _error(report: ChamberReport, summary: Mapping[str, Any]) -> HspcError | None:
    if report.failure is not None:
        kind = type(report.failure)
        return kind(f"{report.failure}; what was seen until then is listed")
    if not summary["ledger"]["balanced"]:
        return LedgerError("a ledger does not balance: " + "; ".join(summary["ledger"]["violations"]))
    unkept = (summary.get("recording") or {}).get("failure")
    if unkept:
        return DataLoss(f"the run is not wholly recorded: {unkept}")
    return DataLoss(summary["loss"]) if summary.get("loss") else None
