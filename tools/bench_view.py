"""How fast the operator's screen draws, and whether its memory stays flat: made-up messages, the real window.

    python tools/bench_view.py            # updates a second of 1024 × 1024 with 200 objects, of CPU time
    python tools/bench_view.py --hour     # an hour of a run, 25 updates a second: memory at ten moments, and its growth

A run tells of itself 25 times a second at most, so an hour is 90,000 updates. They are drawn as fast as it goes, with
--edge 256 and --objects 16 unless told otherwise: what gathers are cells, crops and counts, not the size of a picture.

Each update is a message as it comes from the wire, other pixels and 200 other outlines with names: unpacked, taken into
the model, drawn and painted (Qt's offscreen platform paints as a window does, but shows it to nobody). CPU time of this
process counts, so that a busy machine does not.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import cv2
import numpy as np
from PySide6.QtCore import QSettings
from PySide6.QtWidgets import QApplication

from hspc_live.core.clock import NS_PER_S
from hspc_live.core.values import OBJECT_DTYPE, CameraInfo, CellOutcome, CellRecord, Classification, Modality
from hspc_live.settings.load import load_text
from hspc_live.stages.ledger import Ledger
from hspc_live.view.about import About
from hspc_live.view.connection import Connection
from hspc_live.view.look import dress
from hspc_live.view.window import SLOW_EVERY, Window
from hspc_live.wire.telemetry import LATENCY_BINS, OutletCount, Seen, Standing, Telemetry, pack, unpack

CLASSES = ("LT-HSC", "ST-HSC", "MPP")
WINDOW_PX = 80
VARIANTS = 16


@dataclass(frozen=True)
class Field:
    """What a frame shows: its pixels, objects with their packed masks, and crops of sixteen cells."""

    pixels: np.ndarray
    rows: np.ndarray
    masks: np.ndarray
    crops: np.ndarray


def field(rng: np.random.Generator, edge: int, objects: int) -> Field:
    """Objects all over a noisy picture; a third of them is rejected."""
    pixels = rng.normal(110, 6, (edge, edge)).clip(0, 255).astype(np.uint8)
    rows = np.zeros(objects, OBJECT_DTYPE)
    x, y = rng.uniform(40, edge - 40, (2, objects))
    rows["x_um"], rows["y_um"] = x * 0.25, y * 0.25
    rows["x0_px"], rows["x1_px"], rows["y0_px"], rows["y1_px"] = x - 14, x + 14, y - 14, y + 14
    rows["reject"] = np.where(np.arange(objects) % 3 == 0, rng.integers(1, 8, objects), 0)
    masks = np.zeros((objects, WINDOW_PX, WINDOW_PX), np.uint8)
    for mask in masks:
        axes = (int(rng.integers(10, 16)), int(rng.integers(10, 16)))
        cv2.ellipse(mask, (WINDOW_PX // 2, WINDOW_PX // 2), axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    crops = rng.integers(80, 140, (16, 64, 64), dtype=np.uint8)
    return Field(pixels, rows, np.packbits(masks.reshape(objects, -1), axis=1), crops)


def message(number: int, rng: np.random.Generator, seen_in: Field) -> bytes:
    """One message with everything in it that a busy run would send, two new cells among it."""
    rows = seen_in.rows
    objects = len(rows)
    scores = rng.dirichlet((1.0, 1.0, 1.0), objects)
    seen = [
        Seen(number + row, number + row, number - 4, 4000.0, CLASSES[int(score.argmax())], float(score.max()), "passed")
        if not rows["reject"][row]
        else Seen(number + row, -1)
        for row, score in enumerate(scores)
    ]
    cells = [record(number * 2 + offset, scores[offset]) for offset in range(16)]
    ledger = Ledger()
    ledger.frames.captured = ledger.frames.processed = number * 4
    ledger.cells.tracked = ledger.cells.passed = number * 2
    standing = Standing(
        armed=True, waits_to_arm=False, alarms={}, told_alarms={}, disarmed=[], lasting=[], passing=[], gate_revision=0,
        outlets="[]", ledger=json.dumps(ledger.to_json()), open_cells=0, classes=dict.fromkeys(CLASSES, number),
        sorted=[OutletCount("LT-HSC", number, [number * 0.9, number * 0.05, number * 0.05])], met=number, missed=0,
        unrecorded=0, queue=0, held=number % 60, slots=64, unshown=0, ended=False,
    )  # fmt: skip
    now_ns = number * NS_PER_S // 30
    told = Telemetry(
        number, now_ns, number * 4, now_ns, now_ns, (), (WINDOW_PX, WINDOW_PX), seen, cells,
        [(cell.cell, number, place) for place, cell in enumerate(cells)], standing,
    )  # fmt: skip
    latencies = rng.integers(0, 5, LATENCY_BINS).astype(np.uint32)
    return pack(told, [seen_in.pixels, rows, seen_in.masks, latencies, seen_in.crops], "bench")


def record(cell: int, scores: np.ndarray) -> CellRecord:
    """A cell's last word."""
    verdict = Classification(cell, tuple(scores.tolist()), CLASSES[int(scores.argmax())], 2)
    features = {"diameter_um": 7.0 + cell % 5, "area_um2": 50.0, "brightness": 100.0}
    return CellRecord(
        cell, 1, 4, ((1, 0),), CellOutcome.PASSED, "no_gate", None, verdict, 4000.0, 40.0, 5, 1, 10.0, 3, 4, 1,
        features=features,
    )  # fmt: skip


def about(edge: int) -> About:
    """Facts of a run that is none."""
    camera = CameraInfo(edge, edge, "uint8", 0.25, 120.0, Modality.DIC)
    return About("bench", "", "", True, load_text("{}", "bench"), camera, CLASSES, "null", False, None)


def rss_mib() -> float:
    """Memory of this process now, in MiB; where /proc tells nothing, the most it ever had."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    """Draw so many updates; print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hour", action="store_true", help="memory over an hour of a run")
    parser.add_argument("--updates", type=int)
    parser.add_argument("--objects", type=int)
    parser.add_argument("--edge", type=int, help="of the picture, in pixels")
    parser.add_argument("--draw-every", type=int, default=1, help="draw one update of so many, and take in the others")
    parser.add_argument("--size", default="1920x1080", help="of the window")
    arguments = parser.parse_args()
    updates, objects, edge = (90_000, 16, 256) if arguments.hour else (600, 200, 1024)
    updates, objects, edge = arguments.updates or updates, arguments.objects or objects, arguments.edge or edge
    cv2.setNumThreads(1)
    app = QApplication(["bench"])
    dress(app)
    window = Window(Connection(find=list), reports=Path("out"), settings=QSettings("", QSettings.Format.IniFormat))
    window.stop_turning()
    window.resize(*map(int, arguments.size.split("x")))
    window.show()
    window.model.attach(about(edge))
    window.begin()
    rng = np.random.default_rng(1)
    fields = [field(rng, edge, objects) for _ in range(VARIANTS)]
    spent, moments = 0.0, []
    for number in range(1, updates + 1):
        part = message(number, rng, fields[number % VARIANTS])
        started = time.process_time()
        window.model.take(unpack(part))
        if number % arguments.draw_every == 0:
            window.image.refresh()
            if number // arguments.draw_every % SLOW_EVERY == 1:
                window.slowly()
            app.processEvents()
        spent += time.process_time() - started
        if number % max(1, updates // 10) == 0:
            moments.append({"updates": number, "rss_mib": round(rss_mib(), 1), "per_s": round(number / spent, 1)})
            print(json.dumps(moments[-1]), flush=True)
    window.close()
    # until the stores of cells and crops are full, memory grows as it must; they are, well before the hour's half
    half = [moment["rss_mib"] for moment in moments[len(moments) // 2 - 1 :]]
    told = {
        "updates_per_cpu_s": round(updates / spent, 1),
        "objects": objects,
        "edge_px": edge,
        "draw_every": arguments.draw_every,
    }
    print(json.dumps({**told, "rss_growth_second_half_mib": round(half[-1] - half[0], 1)}))


if __name__ == "__main__":
    main()
