"""The twin for as long as you like under a random fault plan, looked at every minute: nothing may be lost unsaid.

    python tools/soak.py [--seconds 60] [--seed 1] [--every 60] [--out FOLDER] [--set KEY=VALUE]

The shipped flow rig, with small frames and the null engine, runs armed and recorded; faults of every kind that a run
can outlive are drawn from the seed. Whenever something has disarmed it, a person (this tool) arms again. Every
`--every` seconds and at the end: the ledgers balance; no cell was fired twice, and none after its window; memory and
open handles of the run's processes stay as they were after half a minute. The last line is JSON. Exit 0 if it holds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from hspc_live.cli.execute import Order, Outcome, execute
from hspc_live.core.errors import HspcError
from hspc_live.processes.ask import ask
from hspc_live.recording.reader import open_recording
from hspc_live.settings.faults import FaultPlan
from hspc_live.settings.load import load
from hspc_live.settings.shipped import shipped_config
from hspc_live.twin.pulses import Pulse, read_diary
from hspc_live.wire.messages import ArmNow, AskStatus

MB = 1 << 20
BASELINE_S = 30.0  # by then every process has found its pages
MOST_GROWTH_MB = 100.0
MOST_MORE_HANDLES = 40
MOST_OPEN = 500  # cells and commands under way; more are lost somewhere
ARM_EVERY_S = 2.0
SMALL = (
    "engine.kind=null",
    "camera.twin.height_px=96",
    "camera.twin.width_px=256",
    "camera.twin.um_per_px=0.4",
    "camera.twin.velocity_um_s=2000",
    "camera.twin.junction_um=1200",
    "sort.track.velocity_um_s=2000",
    "sort.track.velocity_sd_um_s=400",
    "sort.close.decision_line_um=85",
    "sort.timing.junction_um=1200",
    "sort.outlets.0.gate.min=0.5",
    "record.frames=false",
    "record.window_px=48",
    "pipeline.workers=2",
)


def random_plan(seed: int) -> FaultPlan:
    """Faults of all kinds that a run outlives, at rates drawn from the seed; no more dead workers than are replaced."""
    draw = random.Random(seed)

    def at(per_half_minute: float) -> dict[str, float]:
        return {"per_s": round(per_half_minute / 30.0 * draw.uniform(0.5, 1.5), 5)}

    few = {"most": 8}
    faults: list[dict[str, Any]] = [
        {"kind": "drop", **at(6)},
        {"kind": "drop", "count": draw.randint(10, 60), **at(1)},
        {"kind": "duplicate", **at(4)},
        {"kind": "reorder", **at(4)},
        {"kind": "delay", "by_ms": draw.uniform(20, 200), **at(3)},
        *({"kind": "corrupt", "how": how, **at(2)} for how in ("noise", "black", "white")),
        {"kind": "stall", "seconds": draw.uniform(0.3, 1.0), **at(0.6)},
        {"kind": "kill", "process": "worker", **at(0.6), **few},
        {"kind": "hang", "process": "worker", **at(0.5), **few},
        {"kind": "slow", "process": "worker", "share": draw.uniform(0.1, 0.6), **at(1)},
        {"kind": "slow", "process": "record", "share": draw.uniform(0.1, 0.6), **at(1)},
        {"kind": "hang", "process": "record", "seconds": draw.uniform(0.5, 3.0), **at(0.6)},
        {"kind": "hang", "process": "sort", "seconds": draw.uniform(0.1, 1.0), **at(0.6)},
        {"kind": "nan", "count": draw.randint(1, 5), **at(2)},
        {"kind": "nak", "count": draw.randint(1, 3), **at(3)},
        {"kind": "late", "by_ms": draw.uniform(100, 3000), **at(3)},
        {"kind": "clock_jump", "by_s": draw.choice((-3600, 3600)), **at(0.5)},
    ]
    return FaultPlan.model_validate({"seed": seed, "faults": faults})


class Watcher(threading.Thread):
    """Looks at a run from outside while it is under way; what does not hold is in `broken`."""

    def __init__(self, diary: Path, every_s: float) -> None:
        super().__init__(name="soak")
        self._diary = diary
        self._every_s = every_s
        self._address = ""
        self._ended = threading.Event()
        self.broken: list[str] = []
        self.armed = 0
        self.looks = 0
        self.growth_mb = 0.0
        self._baseline: dict[str, tuple[float, int]] = {}

    def hear(self, role: str, kind: str, text: str) -> None:
        """The run's listener."""
        if kind != "fault":
            print(f"{role}: {kind}: {text}", file=sys.stderr)
        if kind == "running":
            self._address = text.rpartition(" ")[2]
            self.start()

    def end(self) -> None:
        """The run is over."""
        self._ended.set()
        if self.ident is not None:
            self.join()

    def run(self) -> None:
        """Arm when it is disarmed; look every so often."""
        began = looked = time.monotonic()
        while not self._ended.wait(ARM_EVERY_S):
            with contextlib.suppress(HspcError):  # it is ending, or hangs for a while: that is part of the plan
                answer = ask(self._address, AskStatus(), 5.0)
                if not answer.done:
                    continue
                status = json.loads(answer.detail)
                if not status["armed"] and not status["waits_to_arm"]:
                    self.armed += ask(self._address, ArmNow("soak")).done
                now = time.monotonic()
                if not self._baseline and now - began > BASELINE_S:
                    self._baseline = standing_processes()
                if now - looked >= self._every_s:
                    looked = now
                    self._look(status)

    def _look(self, status: dict[str, Any]) -> None:
        self.looks += 1
        self.broken += unbalanced(status, MOST_OPEN)
        double = doubles(read_diary(self._diary).pulses)
        if double:
            self.broken.append(f"fired twice: {double}")
        now = standing_processes()
        for role, (mb, handles) in self._baseline.items():
            mb_now, handles_now = now.get(role, (mb, handles))
            self.growth_mb = max(self.growth_mb, mb_now - mb)
            if mb_now - mb > MOST_GROWTH_MB:
                self.broken.append(f"{role} has grown from {mb:.0f} to {mb_now:.0f} MB")
            if handles_now - handles > MOST_MORE_HANDLES:
                self.broken.append(f"{role} has {handles_now} handles open, not {handles}")
        print(f"looked {self.looks} times: {len(self.broken)} broken, +{self.growth_mb:.1f} MB", file=sys.stderr)


def unbalanced(books: dict[str, Any], most_open: int) -> list[str]:
    """What does not add up in ledgers as they stand; views, cells and commands may be under way, some of them."""
    frames, cells, commands = books["frames"], books["cells"], books["commands"]
    wrong = []
    left = frames["captured"] - frames["processed"] - sum(frames["dropped"].values()) - sum(frames["lost"].values())
    if left:
        wrong.append(f"{left} frames are lost without a reason")
    ended = cells["sorted"] + cells["passed"] + cells["abstained"]
    ended += sum(cells["aborted"].values()) + sum(cells["unresolved"].values())
    if not 0 <= cells["tracked"] - ended <= most_open:
        wrong.append(f"{cells['tracked']} cells were tracked, {ended} have ended")
    answered = commands["fired"] + commands["refused"] + commands["unacknowledged"]
    if not 0 <= commands["sent"] - answered <= most_open:
        wrong.append(f"{commands['sent']} commands were sent, {answered} have ended")
    return wrong


def doubles(pulses: tuple[Pulse, ...]) -> int:
    """Pulses beyond the first of a command."""
    return sum(count - 1 for count in Counter(pulse.command for pulse in pulses).values())


def standing_processes() -> dict[str, tuple[float, int]]:
    """Memory (MB) and open handles of the run's processes, by role; Linux only."""
    found: dict[str, tuple[float, int]] = {}
    for role, pid in {"supervisor": os.getpid(), **_named_children()}.items():
        with contextlib.suppress(OSError, IndexError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            handles = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
            found[role] = pages * os.sysconf("SC_PAGE_SIZE") / MB, handles
    return found


def _named_children() -> dict[str, int]:
    import multiprocessing

    children = ((p.name.removeprefix("hspc-"), p.pid) for p in multiprocessing.active_children())
    return {name: pid for name, pid in children if pid is not None and "." not in name}  # segment-0.1 is not segment-0


def late(outcome: Outcome, pulses: tuple[Pulse, ...]) -> int:
    """Pulses that opened when the window of their command was over, or that no command asked for."""
    assert outcome.recording is not None
    with open_recording(outcome.recording) as recording:
        commands = recording.table("commands")
    assert commands is not None
    until = {int(row["command"]): int(row["fire_at_ns"]) + int(row["width_ns"]) // 2 for row in commands}
    unrecorded = outcome.summary["recording"]["unrecorded"].get("messages", 0)
    strange = [pulse.command for pulse in pulses if pulse.command not in until]
    return max(0, len(strange) - unrecorded) + sum(p.opened_ns > until[p.command] for p in pulses if p.command in until)


def main() -> int:
    """Soak, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=60.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    given = parser.parse_args()
    plan = random_plan(given.seed)
    settings = load(shipped_config("rigs/twin_flow"), [*SMALL, f"camera.twin.seed={given.seed}", *given.overrides])
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        out = given.out or Path(folder) / "out"
        watcher = Watcher(out / "pulses.jsonl", given.every)
        order = Order(settings, live=True, arm_by="soak", for_s=given.seconds, out=out, faults=plan)
        try:
            outcome = execute(order, watcher.hear)
        finally:
            watcher.end()
        result = judged(outcome, watcher, given.seconds, given.seed)
    print(json.dumps(result))
    return 1 if result["broken"] else 0


def judged(outcome: Outcome, watcher: Watcher, seconds: float, seed: int) -> dict[str, Any]:
    """The figures of the last line."""
    summary = outcome.summary
    assert outcome.diary is not None
    pulses = read_diary(outcome.diary).pulses
    broken = [*watcher.broken, *summary["ledger"]["violations"], *unbalanced(summary, 0)]
    if outcome.error is not None:
        broken.append(f"the run ended with an error: {outcome.error}")
    found = {"late": late(outcome, pulses), "double": doubles(pulses)}
    broken += [f"{count} cells were fired {what}" for what, count in found.items() if count]
    if len(pulses) != summary["commands"]["fired"]:
        unsaid = len(pulses) - summary["commands"]["fired"]
        if not 0 < unsaid <= summary["commands"]["unacknowledged"]:
            broken.append(f"the actuator opened {len(pulses)} times, {summary['commands']['fired']} were reported")
    frames = summary["frames"]
    booked = frames["processed"] + sum(frames["dropped"].values()) + sum(frames["lost"].values())
    return {
        "seconds": seconds,
        "seed": seed,
        "cells": summary["cells"]["tracked"],
        "sorted": summary["cells"]["sorted"],
        "faults": sum(summary["faults"]["injected"].values()),
        **found,
        "lost_unexplained": frames["captured"] - booked,
        "rss_growth_mb": round(watcher.growth_mb, 1),
        "looks": watcher.looks,
        "disarmed": len(summary["disarmed"]),
        "armed_again": watcher.armed,
        "broken": broken,
        "injected": summary["faults"]["injected"],
        "observed": summary["faults"]["observed"],
    }


if __name__ == "__main__":
    sys.exit(main())
