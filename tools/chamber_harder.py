"""The twin's chamber under other conditions than the shipped ones: what is found, listed, found again, and how surely.

python tools/chamber_harder.py

One line a condition, on a smaller chamber (nine fields), null engine, every accepted cell wanted, visited again after
two minutes. "In ±" are shares of places within the circle that 95 % should be in: as listed at the end of the scan, as
somebody would miss who goes by the list at the end of the second visit without looking, and as seen at that visit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any

import cv2
from chamber_stated import stated

from hspc_live.cli.chamber import score_chamber
from hspc_live.core.errors import HspcError
from hspc_live.processes.chamber import ChamberRun
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.load import load_run
from hspc_live.settings.shipped import shipped_config
from hspc_live.wiring_chamber import build_chamber

TWIN, TILING = "camera.twin", "chamber.tiling"
SMALLER = [
    "engine.kind=null", "chamber.picking.clear_um=0", f"{TWIN}.width_mm=1.1", f"{TWIN}.height_mm=1.1",
    f"{TILING}.area={{kind: rectangle, x0_um: -350, y0_um: -350, width_um: 700, height_um: 700}}",
]  # fmt: skip
BRIGHTFIELD = [f"{TWIN}.modality=brightfield", "rig.modality=brightfield"]
KNOWN = "calibration={kind: given, x_per_px: [0.25145, 0.0052], y_per_px: [-0.00571, 0.25169]}"  # as the twin has it
HARDER: dict[str, list[str]] = {
    "as shipped": [],
    "play 8 µm": [f"{TWIN}.stage.backlash_um=8"],
    "play 8 µm, from any side": [f"{TWIN}.stage.backlash_um=8", f"{TILING}.approach=any"],
    "slips three times as often": [f"{TWIN}.stage.slip_chance=0.03"],
    "slips three times as far": [f"{TWIN}.stage.slip_um=4.5"],
    "drift × 3": [f"{TWIN}.stage.drift_um_per_min=0.45"],
    "creep × 3": [f"{TWIN}.creep_um_per_sqrt_min=0.75"],
    "creep × 3, said in the settings": [
        f"{TWIN}.creep_um_per_sqrt_min=0.75",
        "chamber.position.creep_um_per_sqrt_min=0.75",
    ],
    "0.3 × as dense": [f"{TWIN}.density_per_mm2=126"],
    "3 × as dense": [f"{TWIN}.density_per_mm2=1260"],
    "camera turned by 90 + 7°": [f"{TWIN}.mounting.rotation_deg=97"],
    "camera turned and mirrored": [f"{TWIN}.mounting.rotation_deg=97", f"{TWIN}.mounting.mirrored=true"],
    "brightfield": BRIGHTFIELD,
    "overlap 5 %": [f"{TILING}.overlap=0.05"],
    "overlap 20 %": [f"{TILING}.overlap=0.2"],
    "no overlap": [f"{TILING}.overlap=0"],
    "one field": [f"{TILING}.area={{kind: rectangle, x0_um: -100, y0_um: -100, width_um: 200, height_um: 200}}"],
    "two thirds of the fields never stand still": [
        f"{TWIN}.stage.settle_ms=260",
        "chamber.settle.deadline_s=0.3",
        KNOWN,
    ],
    "nothing ever stands still": [f"{TWIN}.stage.settle_ms=100000", f"{TWIN}.stage.ringing_um=30"],
    "no cells, camera measured on them": [f"{TWIN}.density_per_mm2=0", f"{TWIN}.specks_per_mm2=0"],
    "no cells, camera known": [
        f"{TWIN}.density_per_mm2=0",
        f"{TWIN}.specks_per_mm2=0",
        KNOWN,
    ],
}


def main() -> None:
    """Run every condition; print a table, and the whole of each as a JSON line with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--after", type=float, default=120.0, help="seconds from the list to the visit")
    parser.add_argument("--only", nargs="*", default=[""], help="only conditions whose name holds one of these")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if not options.json:
        print("| condition | found | twice | wanted: listed, left out | found again | error | in ±: list, raw, fresh |")
        print("|---|---|---|---|---|---|---|")
    for name, changes in HARDER.items():
        if any(part in name for part in options.only):
            own = [f"{TWIN}.seed={options.seed}", f"second_visit.after_s={options.after}"]
            told = one([*SMALLER, *own, *changes])
            print(json.dumps({"condition": name, **told}) if options.json else _row(name, told), flush=True)


def one(changes: list[str]) -> dict[str, Any]:
    """One run, scored; or why there was none."""
    began = time.process_time()
    settings = load_run(shipped_config("rigs/twin_chamber"), changes)
    assert isinstance(settings, ChamberRunSettings)
    parts, devices = build_chamber(settings)
    assert devices.truth is not None
    try:
        report = asyncio.run(ChamberRun(parts, settings, revisit=True).run())
    except HspcError as error:
        return {"refused": str(error), "exit_code": error.exit_code}
    if report.interrupted:
        raise SystemExit(130)
    truth = devices.truth()
    scored = score_chamber(report, truth, parts.engine.classes)
    second = report.summary["revisit"]
    return {
        "found": scored["cells"]["found_rate"],
        "twice": scored["cells"]["listed_twice"],
        "listed": report.summary["picking"]["listed"],
        "left_out": report.summary["picking"]["left_out"],
        "fields": report.summary["fields"],
        "dropped": report.summary["frames"]["dropped"],
        "refound": second["refound_of_shown"],
        "lost": second["lost"],
        "mixed_up": scored["revisit"]["mixed_up"] if "revisit" in scored else None,
        "error_um": second["position_error_um"]["median"],
        "stated": stated(report, truth, settings),
        "ledger": report.summary["ledger"],
        "failure": None if report.failure is None else str(report.failure),
        "cpu_s": round(time.process_time() - began, 1),
    }


def _row(name: str, told: dict[str, Any]) -> str:
    if "refused" in told:
        return f"| {name} | refused, exit {told['exit_code']}: {' '.join(told['refused'].split())} | | | | | |"
    left = ", ".join(f"{count} {reason}" for reason, count in told["left_out"].items()) or "none"
    dropped = "".join(f"; {count} fields {reason}" for reason, count in told["dropped"].items())
    shares = ", ".join(_number(told["stated"].get(key, [None] * 4)[3]) for key in ("listed", "raw_last", "fresh"))
    books = "" if told["ledger"]["balanced"] else f" LEDGER: {told['ledger']['violations']}"
    failure = "" if told["failure"] is None else f" FAILED: {told['failure']}"
    mixed = f", {told['mixed_up']} mixed up" if told["mixed_up"] else ""
    return (
        f"| {name} | {_number(told['found'])}{dropped} | {told['twice']} | {told['listed']}; {left} "
        f"| {_number(told['refound'])}{mixed} | {_number(told['error_um'])} µm | {shares}{books}{failure} |"
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
