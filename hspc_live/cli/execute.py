"""One run from settings to summary: folders, processes, and the JSON that other tools read."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hspc_live.cli.faults import injected, observed
from hspc_live.core.errors import (
    ArmingError,
    DataLoss,
    DeviceError,
    HspcError,
    LedgerError,
    ModelError,
    OutputError,
    RecordingError,
    StoppedError,
)
from hspc_live.core.identity import run_id
from hspc_live.processes.plan import GateEdit, RunPlan
from hspc_live.processes.run_report import RunReport
from hspc_live.processes.supervisor import Listener, Supervisor
from hspc_live.recording.inspect import summarise as inspect
from hspc_live.settings.fault_checks import check_faults
from hspc_live.settings.faults import FaultPlan
from hspc_live.settings.schema import RunSettings
from hspc_live.wire.links import endpoint, open_router, private_folder
from hspc_live.wire.messages import CONTROL_BYTES
from hspc_live.wire.ring import pixel_folder
from hspc_live.wiring import check_keys, resolve_gates, settings_json, targets
from hspc_models.open_engine import ready_engine

RECORDING = "recording.rtdc"
TRUTH = "truth.npz"
DIARY = "pulses.jsonl"


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run. `out` is the folder of results (made anew), None keeps nothing."""

    settings: RunSettings
    live: bool
    arm_by: str | None = None
    for_s: float | None = None
    speed: float | None = None
    out: Path | None = None
    keep_truth: bool = False
    gate_edits: tuple[GateEdit, ...] = ()
    faults: FaultPlan | None = None


@dataclass(slots=True)
class Outcome:
    """What a run left: the summary for JSON, and the error that it should end with, if any."""

    summary: dict[str, Any]
    recording: Path | None
    truth: Path | None
    diary: Path | None
    report: RunReport
    error: HspcError | None = None
    remarks: list[str] = field(default_factory=list)


def make_out(out: Path) -> None:
    """Make the folder of results. Raises OutputError if it holds something already or cannot be made."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise OutputError(f"{out} is not empty: give a new folder, nothing is ever overwritten")
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}") from error


def new_file(path: Path) -> None:
    """Say now that a result cannot be written, and not when it is there. Raises OutputError."""
    if path.exists():
        raise OutputError(f"{path} exists: nothing is ever overwritten")
    folder = path.absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path} cannot be written: no folder {folder}, or it is closed to you")


def new_recording(settings: RunSettings, out: Path | None) -> Path | None:
    """Make the folder of results; where the recording goes, if anywhere. Raises OutputError if something is there."""
    recording = settings.record.path
    if out is not None:
        make_out(out)
        recording = recording or out / RECORDING
    if recording is not None and recording.exists():
        raise OutputError(f"{recording} exists: nothing is ever overwritten")
    return recording


def execute(order: Order, listen: Listener) -> Outcome:
    """Run it. Raises what kept the run from starting; what went wrong later is in the outcome's `error`."""
    check_keys(order.settings)
    settings = resolve_gates(order.settings)
    if order.faults is not None:
        recorded = order.out is not None or settings.record.path is not None
        settings = check_faults(order.faults, settings, live=order.live, recording=recorded)
        listen("faults", "fault-plan", order.faults.in_force)
    remarks: list[str] = []

    def say(text: str) -> None:
        remarks.append(text)
        listen("engine", text.removeprefix("engine: "), "")

    settings = settings.model_copy(update={"engine": ready_engine(settings.engine, say)})
    recording = new_recording(settings, order.out)
    truth = order.out / TRUTH if order.out is not None and order.keep_truth else None
    diary = order.out / DIARY if order.out is not None and order.live and settings.sorter.kind != "none" else None
    folder = private_folder()
    run = run_id()
    at = endpoint(folder, "control")
    control = open_router(at, handover=False, max_incoming_bytes=CONTROL_BYTES, max_incoming_parts=1)
    plan = RunPlan(
        run_id=run,
        folder=str(folder),
        ring_folder=str(pixel_folder(folder)),
        control=control.address,
        settings_json=settings_json(settings),
        live=order.live,
        speed=order.speed,
        recording=str(recording) if recording is not None else None,
        truth_path=str(truth) if truth is not None else None,
        pulse_log=str(diary) if diary is not None else None,
        gate_edits=order.gate_edits,
        faults_json=order.faults.model_dump_json() if order.faults is not None else None,
    )
    roles = targets(settings, recording=recording is not None)
    report = asyncio.run(Supervisor(plan, control, roles, listen=listen).run(arm_by=order.arm_by, for_s=order.for_s))
    if "sort" not in report.reports:
        if order.faults is not None:
            struck = injected(order.faults, report.injected)
            known = {"faults": {"injected": struck, "observed": {"processes_died": dict(sorted(report.died.items()))}}}
            report.raise_failure(known)
        report.raise_failure()
        if report.stopped_by is not None:
            kept = f"; what was recorded until then is in {recording}" if recording is not None else ""
            raise StoppedError(f"stopped by {report.stopped_by}{kept}")
        if report.interrupted:
            raise KeyboardInterrupt
        raise HspcError("the run was stopped before it had a result")
    summary = summarise(run, report)
    summary["engine"]["chosen"] = remarks
    if order.faults is not None:
        summary["faults"] = {"injected": injected(order.faults, report.injected), "observed": observed(summary, report)}
    if recording is not None and "record" not in report.reports:
        summary["recording"] = _left_behind(recording, summary)
    return Outcome(summary, recording, truth, diary, report, _error(summary, report))


def gate_edits(notes: list[dict[str, Any]]) -> tuple[GateEdit, ...]:
    """What a recording's notes say about gates that were set during the run."""
    made = [json.loads(note["detail"]) for note in notes if note["kind"] == "gates"]
    return tuple(GateEdit(edit["first_frame"], edit["by"], json.dumps({"outlets": edit["outlets"]})) for edit in made)


def summarise(run: str, report: RunReport) -> dict[str, Any]:
    """The summary's JSON from what the processes reported."""
    sort = report.reports["sort"]
    acquire = report.reports.get("acquire", {})
    record = report.reports.get("record")
    summary: dict[str, Any] = {
        "run": run,
        **sort["ledgers"],
        "classes": sort["classes"],
        "abstained": sort["abstained"],
        "latency_ms": {**sort["latency_ms"], "from": sort["latency_from"]},
        "deadline": sort["deadline"],
        "ledger": sort["ledger"],
        "decisions_sha256": sort["decisions_sha256"],
        "outcomes_sha256": sort["outcomes_sha256"],
        "alarms": sort["alarms"],
        "disarmed": sort["disarmed"],
        "arming_refused": sort["arming_refused"],
        "gates": sort["gates"],
        "engine": sort["engine"],
        "sorter": sort["sorter"],
        "camera": {"out_of_order": acquire.get("out_of_order", 0)},
        "warnings": [*acquire.get("warnings", []), *report.warnings],
        "workers": {"replaced": report.replaced_workers, "leased_again": acquire.get("leased_again", 0)},
        "work_ns": sort["work_ns"],
        "shown": sort["shown"],
        "frames_per_s": sort["frames_fed"] * 1e9 / sort["span_ns"] if sort["span_ns"] else None,
        "refused": _refused(report),
        "interrupted": report.interrupted,
    }
    if sort["stream_error"]:
        summary["stream_error"] = sort["stream_error"]
    if record is not None:
        unrecorded = {"frames": acquire.get("unrecorded_frames", 0), "messages": sort["unrecorded_messages"]}
        summary["recording"] = {**record, "unrecorded": unrecorded}
    return summary


def _refused(report: RunReport) -> dict[str, int]:
    """Messages that had no effect, as `socket.reason`: nobody who belongs to a run sends any."""
    counts = {"control": report.refused} | {role: body.get("refused", {}) for role, body in report.reports.items()}
    return {f"{at}.{why}": n for at, found in sorted(counts.items()) for why, n in sorted(found.items())}


def _left_behind(recording: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """What a recorder that died has left: the frames that are safe, and how many are not."""
    handed_over = summary["frames"]["captured"] - sum(summary["frames"]["dropped"].values())
    try:
        found = inspect(recording)
    except RecordingError as error:
        return {"frames": 0, "view_rows": 0, "unrecorded": {"frames": handed_over}, "loss": str(error)}
    frames = found["readable_frames"]
    unrecorded = {"frames": max(0, handed_over - frames)}
    return {"frames": frames, "view_rows": found["events"], "unrecorded": unrecorded, "loss": found["loss"]}


def _error(summary: dict[str, Any], report: RunReport) -> HspcError | None:
    """How the run should end: the worst thing first."""
    if report.failures:
        try:
            report.raise_failure()
        except HspcError as error:
            return error
    if report.stopped_by is not None:
        return StoppedError(f"stopped by {report.stopped_by}")
    if report.stopped_now:
        return None  # exit code 130 says it; what was given up is in the summary
    if not summary["ledger"]["balanced"]:
        return LedgerError("a ledger does not balance: " + "; ".join(summary["ledger"]["violations"]))
    stream_error = summary.get("stream_error", "")
    if stream_error.startswith("data loss"):
        return DataLoss(stream_error)
    if stream_error:
        return DeviceError(f"the stream ended early: {stream_error}")
    if summary["engine"]["failure"]:
        return ModelError(f"the engine failed, the run went on disarmed: {summary['engine']['failure']}")
    if summary["sorter"]["failure"]:
        failure = summary["sorter"]["failure"].removeprefix("sorter: ")
        return DeviceError(f"the sorter failed, the run went on disarmed: {failure}")
    if summary["arming_refused"] and not report.interrupted:
        return ArmingError(f"arming was refused, the run went on disarmed: {summary['arming_refused']}")
    return None
