"""What the sort core costs: microseconds a frame and a cell, with virtual cells that need no picture.

    python tools/bench_sort_core.py [--frames N] [--per-frame K] [--fps F]

Two streams: *slow*, where every cell is seen in several frames, and *fast*, where nearly every object is a new cell
(the worst case for the core). Scores are answered at once, so only the core's own time is counted.
"""

from __future__ import annotations

import argparse
import json
import random
import time

import numpy as np

from hspc_live.core.events import Arm, Classify, Closed, Ended, Event, Finished, FrameSeen, Scored
from hspc_live.core.values import Detection
from hspc_live.settings.sort import CloseSettings, Outlet, ScoreGate, SortSettings, TimingSettings, TrackSettings
from hspc_live.stages.sort_core import SortCore

CLASSES = ("LT-HSC", "ST-HSC", "MPP")


def stream(frames: int, per_frame: float, fps: float, width_um: float, velocity: float) -> list[FrameSeen]:
    """Frames of cells that enter at random and pass a field of `width_um` at about `velocity`."""
    dice = random.Random(1)
    looks = max(1.0, width_um / (velocity / fps))
    per_second = per_frame / looks * fps
    cells: list[tuple[float, float, float]] = []
    at = -width_um / velocity
    while at < frames / fps:
        at += dice.expovariate(per_second)
        cells.append((at, dice.gauss(velocity, 0.02 * velocity), dice.uniform(5.0, 25.0)))
    first, result = 0, []
    for index in range(frames):
        now = index / fps
        seen = []
        while first < len(cells) and (now - cells[first][0]) * cells[first][1] > 2 * width_um:
            first += 1
        for entered, speed, y in cells[first:]:
            if entered > now:
                break
            x = (now - entered) * speed + dice.gauss(0.0, 0.2)
            if 0.0 < x < width_um:
                seen.append(Detection(x, y, 50.0, 8.0, 0.02, 120.0, 9.0, 3.0, 0, 0, 32, 32, 0))
        result.append(FrameSeen(index, round(now * 1e9), tuple(sorted(seen))))
    return result


def measure(events: list[FrameSeen], settings: SortSettings, batch: int) -> dict[str, float]:
    """Run the core over `events`, answering the views in batches, and divide its time."""
    core = SortCore(settings, CLASSES)
    row = np.array([[0.7, 0.2, 0.1]], dtype=np.float32)
    spent = 0.0
    worst = 0.0
    closed = 0
    waiting: list[tuple[int, int]] = []

    def feed(event: Event, now_ns: int) -> None:
        nonlocal spent, worst, closed
        began = time.perf_counter()
        actions = core.feed(event, now_ns)
        core.next_wake_ns()
        took = time.perf_counter() - began
        spent += took
        worst = max(worst, took)
        waiting.extend((action.frame, action.view) for action in actions if isinstance(action, Classify))
        closed += sum(isinstance(action, Closed) for action in actions)

    feed(Arm("bench"), 0)
    for event in events:
        feed(event, event.captured_ns)
        if len(waiting) >= batch:
            keys = tuple(waiting)
            waiting.clear()
            feed(Scored(keys, np.repeat(row, len(keys), axis=0)), event.captured_ns)
    end = events[-1].captured_ns
    feed(Ended(), end)
    if waiting:
        feed(Scored(tuple(waiting), np.repeat(row, len(waiting), axis=0)), end)
    feed(Finished(), end)
    assert not core.ledger.balanced(), core.ledger.balanced()
    objects = core.ledger.views.detected
    return {
        "frames": len(events),
        "objects_per_frame": round(objects / len(events), 2),
        "cells": closed,
        "sorted": core.ledger.cells.sorted,
        "us_per_frame": round(spent / len(events) * 1e6, 1),
        "us_per_object": round(spent / max(objects, 1) * 1e6, 1),
        "us_per_cell": round(spent / max(closed, 1) * 1e6, 1),
        "worst_event_ms": round(worst * 1e3, 2),
    }


def main() -> None:
    """Print both streams' figures as one JSON object."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--frames", type=int, default=5000)
    arguments.add_argument("--per-frame", type=float, default=5.0)
    arguments.add_argument("--fps", type=float, default=1000.0)
    arguments.add_argument("--repeats", type=int, default=3, help="the quickest run counts: others were disturbed")
    given = arguments.parse_args()
    outlets = (Outlet(name="left", gate=ScoreGate(class_name="LT-HSC"), mode="recovery"),)
    timing = TimingSettings(
        junction_um=5_000.0, min_pulse_ms=0.1, commit_lead_ms=60.0, device_lead_ms=10.0, refractory_ms=0.0
    )
    figures = {}
    for name, velocity, views in (("slow", 20_000.0, 3), ("fast", 60_000.0, 1)):
        settings = SortSettings(
            track=TrackSettings(velocity_um_s=velocity, velocity_sd_um_s=velocity * 0.05),
            close=CloseSettings(views=views, decision_line_um=75.0),
            outlets=outlets,
            timing=timing,
        )
        events = stream(given.frames, given.per_frame, given.fps, 80.0, velocity)
        runs = [measure(events, settings, 16) for _ in range(given.repeats)]
        figures[name] = min(runs, key=lambda run: run["us_per_frame"])
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
