"""How surely the twin's chamber is scanned and its cells found again, seed by seed; and what a perfect eye would reach.

python tools/chamber_refind.py --seeds 5 --after 0 120 600 --all-cells

Stage and camera have all their faults (those of the settings file); time is virtual. `--all-cells` takes the null
engine, so that every accepted cell is wanted and many more are looked for again. The perfect eye sees the true place of
every object in the same pictures, with the same measured affine, and is matched and judged by the same code: what it
misses is no fault of segmentation. `stated` says how far places are off and how many lie within their ± (tools/
chamber_stated.py): median and 95 % in µm, the median ± per axis, and the share within the ± that 95 % should be in.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from chamber_stated import stated

from hspc_live.cli.chamber import score_chamber
from hspc_live.core.chamber import Phase
from hspc_live.processes.chamber import ChamberRun
from hspc_live.processes.chamber_values import ChamberReport, Visited
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.load import load_run
from hspc_live.settings.shipped import shipped_config
from hspc_live.stages.affine import Affine, apply
from hspc_live.stages.looks import Look
from hspc_live.stages.mosaic import Calibrated, build_mosaic
from hspc_live.stages.picking import Wanted, make_picking_list
from hspc_live.stages.revisit import Picture, match_revisit
from hspc_live.stages.tiling import footprint
from hspc_live.twin.cells import CLASSES
from hspc_live.twin.chamber_truth import ChamberTruth
from hspc_live.wiring_chamber import build_chamber


def main() -> None:
    """Run every seed at every waiting time; print JSON lines and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=shipped_config("rigs/twin_chamber"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--after", type=float, nargs="+", default=[120.0], help="seconds from the list to the visit")
    parser.add_argument("--all-cells", action="store_true", help="null engine: every accepted cell is wanted")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE, as for `hspc-live run`")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    for after in options.after:
        rows = []
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            overrides = [f"camera.twin.seed={seed}", f"second_visit.after_s={after}", *options.set]
            if options.all_cells:
                overrides += ["engine.kind=null", "chamber.picking.clear_um=0"]
            settings = load_run(options.config, overrides)
            assert isinstance(settings, ChamberRunSettings)
            rows.append({"seed": seed, "after_s": after, **one(settings)})
            print(json.dumps(rows[-1]), flush=True)
        print(json.dumps({"after_s": after, "worst of": len(rows), **_worst(rows)}), flush=True)


def one(settings: ChamberRunSettings) -> dict[str, Any]:
    """One run, scored."""
    began = time.process_time()
    parts, devices = build_chamber(settings)
    assert devices.truth is not None
    report = asyncio.run(ChamberRun(parts, settings, revisit=True).run())
    if report.failure is not None:
        raise report.failure
    if report.interrupted:
        raise SystemExit(130)
    truth = devices.truth()
    scored = score_chamber(report, truth, parts.engine.classes)
    second, cells, fresh = report.summary["revisit"], scored["cells"], scored["fresh"]
    return {
        "fields": len(report.facts.plan),
        "cells": cells["cells"],
        "found": _rounded(cells["found_rate"]),
        "twice": cells["listed_twice"],
        "listed": second["listed"],
        "listed_twice": scored["picks"]["listed_twice"],
        "refound": _rounded(second["refound_fraction"]),
        "lost": second["lost"],
        "mixed_up": scored["revisit"]["mixed_up"],
        "error_um": _spread(second["position_error_um"]),
        "raw_error_um": _spread(second["raw_position_error_um"]),
        "fresh_error_um": [_rounded(fresh["position_error_um"]), _rounded(fresh["position_error_95_um"])],
        "stated": stated(report, truth, settings),
        "truly_moved_um": _rounded(scored["revisit"]["moved_um"]),
        "perfect_eye": perfect_eye(report, truth, settings),
        "cpu_s": round(time.process_time() - began, 1),
    }


def perfect_eye(report: ChamberReport, truth: ChamberTruth, settings: ChamberRunSettings) -> dict[str, Any]:
    """The same pictures, seen by an eye that knows where every object truly showed in them."""
    facts, chamber = report.facts, settings.chamber
    affine = Affine(facts.affine, facts.affine_covariance)
    scan = [visit for visit in report.visits if visit.phase is Phase.SCAN and visit.captured_ns is not None]
    again = [visit for visit in report.visits if visit.phase is Phase.REVISIT and visit.captured_ns is not None]
    own: dict[tuple[int, int], int] = {}  # (visit, view) to object
    looks = [look for visit in scan for look in _true_looks(visit, affine, report, truth, settings, own)]
    stood = {visit.number: (visit.x_um, visit.y_um) for visit in scan}
    mosaic = build_mosaic(looks, chamber.mosaic, chamber.position, Calibrated(stood, affine.scale_sd))
    places = {(visit.target.x_um, visit.target.y_um) for visit in again}
    back = {visit.number for visit in scan if (visit.target.x_um, visit.target.y_um) in places}
    wanted = [
        Wanted(seen.number, "any", CLASSES[0], (1.0,), 1.0, 2 * seen.radius_um)
        for seen in mosaic.objects
        if seen.kept.accepted and seen.kept.field in back
    ]
    now_ns = max(visit.captured_ns or 0 for visit in scan)
    listed = make_picking_list(
        wanted, mosaic.objects, CLASSES[:1], now_ns, chamber.picking, chamber.position, chamber.limits
    )
    shows = footprint(affine, facts.camera.width_px, facts.camera.height_px)
    pictures = []
    for visit in again:
        x, y = visit.x_um + shows.centre_x_um, visit.y_um + shows.centre_y_um
        w, h = shows.width_um / 2, shows.height_um / 2
        true = _true_looks(visit, affine, report, truth, settings, own)
        pictures.append(Picture(visit.number, visit.captured_ns or 0, x - w, y - h, x + w, y + h, tuple(true)))
    by_number = {seen.number: seen for seen in mosaic.objects}
    cells = [by_number[pick.cell] for pick in listed.picks]
    found = match_revisit(cells, mosaic.objects, pictures, chamber.revisit, chamber.mosaic, chamber.position).report()
    objects = [own[seen.kept.field, seen.kept.view] for seen in mosaic.objects]
    return {
        "listed": found["listed"],
        "twice": len(objects) - len(set(objects)),
        "refound": _rounded(found["refound_fraction"]),
        "lost": found["lost"],
        "error_um": [_rounded(found["median_error_um"]), _rounded(found["p95_error_um"])],
    }


def _true_looks(
    visit: Visited,
    affine: Affine,
    report: ChamberReport,
    truth: ChamberTruth,
    settings: ChamberRunSettings,
    own: dict[tuple[int, int], int],
) -> list[Look]:
    """What truly showed in a visit's transmitted picture; whole single cells are accepted."""
    rows = truth.seen[truth.seen["exposure"] == visit.exposure]
    first = np.searchsorted(truth.bodies["object"], rows["object"])
    bodies = truth.bodies[first]
    kinds = np.asarray(truth.kinds)[bodies["kind"]]
    pixels = np.column_stack([rows["x_px"], rows["y_px"]])
    places = apply(affine, pixels) if len(rows) else None
    height, width = report.facts.camera.height_px, report.facts.camera.width_px
    um = affine.um_per_px[0]
    looks = []
    for view, row in enumerate(rows):
        assert places is not None
        if bodies["diameter_um"][view] < settings.segment.min_diameter_um:
            continue
        edge = um * min(row["x_px"], width - 1 - row["x_px"], row["y_px"], height - 1 - row["y_px"])
        x, y = places.xy[view].tolist()
        whole = bool(row["whole"])
        accepted = whole and kinds[view] in CLASSES and not bodies["floating"][view]
        own[visit.number, view] = int(row["object"])
        looks.append(
            Look(
                visit.number, view, visit.captured_ns or 0, visit.x_um + x, visit.y_um + y, 0.05,
                float(bodies["diameter_um"][view]) / 2, float(edge), 1.0, accepted, whole,
            )
        )  # fmt: skip
    return looks


def _worst(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "refound": min(row["refound"] for row in rows),
        "median_error_um": max(row["error_um"][0] for row in rows),
        "median_raw_error_um": max(row["raw_error_um"][0] for row in rows),
        "fresh_error_um": max(row["fresh_error_um"][0] for row in rows),
        "twice": max(row["twice"] for row in rows),
        "listed_twice": max(row["listed_twice"] for row in rows),
        "perfect_eye": {
            "refound": min(row["perfect_eye"]["refound"] for row in rows),
            "median_error_um": max(row["perfect_eye"]["error_um"][0] for row in rows),
            "twice": max(row["perfect_eye"]["twice"] for row in rows),
        },
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _spread(told: dict[str, float | None]) -> list[float | None]:
    return [_rounded(told["median"]), _rounded(told["p95"])]


if __name__ == "__main__":
    main()
