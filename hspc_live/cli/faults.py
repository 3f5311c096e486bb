"""What a fault plan did to a run: what was injected, by those who did it, and what the run itself saw of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hspc_live.faults.schedule import Injector
from hspc_live.faults.system import FullDisk
from hspc_live.processes.run_report import RunReport
from hspc_live.settings.faults import Bubble, Clog, FaultPlan, VelocityDrift


def injected(plan: FaultPlan, counted: Mapping[str, int]) -> dict[str, int]:
    """How often each fault was done; those of the twin are part of its film."""
    counts = Counter(counted)
    counts.update(fault.name for fault in plan.faults if isinstance(fault, Clog | Bubble | VelocityDrift))
    return {name: counts[name] for name in sorted(counts)}


def observed(summary: Mapping[str, Any], report: RunReport) -> dict[str, Any]:
    """What the run's own books say, whoever caused it."""
    disarmed = Counter(reason.partition(":")[0] for reason in summary["disarmed"])
    recording = summary.get("recording") or {}
    return {
        "frames_dropped": summary["frames"]["dropped"],
        "frames_lost": summary["frames"]["lost"],
        "frames_out_of_order": summary["camera"]["out_of_order"],
        "leased_again": summary["workers"]["leased_again"],
        "workers_replaced": summary["workers"]["replaced"],
        "processes_died": dict(sorted(report.died.items())),
        "views_skipped": summary["views"]["skipped"],
        "cells_aborted": summary["cells"]["aborted"],
        "commands_refused": summary["commands"]["refused"],
        "commands_unacknowledged": summary["commands"]["unacknowledged"],
        "disarmed": dict(sorted(disarmed.items())),
        "alarms": summary["alarms"],
        "engine": {name: summary["engine"][name] for name in ("drift", "smaller_batches")},
        "sorter": summary["sorter"]["faults"],
        "unrecorded": recording.get("unrecorded", {}),
        "stream_error": summary.get("stream_error", ""),
    }


# ---- a chamber, which is one process ---------------------------------------------------------------------------------

Listener = Callable[[str, str, str], None]


def chamber_injector(plan: FaultPlan, counted: Counter[str]) -> Injector:
    """The faults of a chamber run, whose seconds count from now."""
    began = time.monotonic()
    return Injector(plan, lambda: time.monotonic() - began, lambda fault, _: counted.update([fault]))


@contextmanager
def filling(listen: Listener, injector: Injector | None, recording: Path | None) -> Iterator[Listener]:
    """`listen`, and at every word look whether the disk of the recording is to be full now; afterwards it is not."""
    if injector is None or recording is None:
        yield listen
        return
    disk = FullDisk(injector, recording)

    def heard(role: str, kind: str, text: str) -> None:
        if recording.exists():
            disk.turn()
        listen(role, kind, text)

    try:
        yield heard
    finally:
        disk.empty()


def chamber_observed(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What a chamber run's own books say, whoever caused it."""
    return {
        "frames_dropped": summary["frames"]["dropped"],
        "frames_lost": summary["frames"]["lost"],
        "views_skipped": summary["views"]["skipped"],
        "stage_unsteady_um": summary["mosaic"]["stage_unsteady_um"],
        "alarms": summary["alarms"],
        "failure": summary["failure"],
        "recording": (summary.get("recording") or {}).get("failure"),
    }
