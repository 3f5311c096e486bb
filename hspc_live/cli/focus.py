"""focus: the height at which the picture is sharpest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hspc_live.cli.options import Json, Set
from hspc_live.cli.output import emit, progress, screen
from hspc_live.cli.tables import facts
from hspc_live.core.errors import SettingsError
from hspc_live.processes.focus_sweep import Focused, find_focus
from hspc_live.settings.load import load_chamber
from hspc_live.twin.cells import CLASSES
from hspc_live.twin.chamber_truth import ChamberTruth
from hspc_live.wiring_chamber import build_chamber_devices

BAR = 30


def focus(
    config: Annotated[
        Path, typer.Argument(help="Settings file of a chamber rig with a focus drive (section `focus`).")
    ],
    range_: Annotated[
        float, typer.Option("--range", metavar="UM", help="Sweep so far to either side of where the drive stands.")
    ] = 8.0,
    step: Annotated[
        float, typer.Option("--step", metavar="UM", help="Steps of the sweep; about the depth of focus.")
    ] = 0.5,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Sweep the focus drive around where it stands, and leave it where the picture is sharpest."""
    settings = load_chamber(config, set_ or [])
    devices = build_chamber_devices(settings)
    if devices.focus is None:
        raise SettingsError(f"{config}: focus.kind is none: say which drive, and where it may go (section `focus`)")
    progress.print("sweeping the focus drive …")
    found = find_focus(devices.focus, devices.camera, range_, step, settings.exposure.transmitted_ms)
    summary = _summary(found, devices.truth() if devices.truth is not None else None)
    if as_json:
        emit(summary)
        return
    screen.print(facts(_rows(summary), "Focus"))


def _summary(found: Focused, truth: ChamberTruth | None) -> dict[str, Any]:
    curve = found.curve
    return {
        "z_um": curve.z_um,
        "began_um": found.began_um,
        "stands_um": found.stands_um,
        "sharpness": found.sharpness,
        "rise_over_noise": curve.rise / curve.noise if curve.noise else None,
        "curve": [{"z_um": z, "sharpness": value} for z, value in zip(curve.heights_um, curve.sharpness, strict=True)],
        "truth": None if truth is None else {"defocus_um": _defocus(truth)},
    }


def _defocus(truth: ChamberTruth) -> float | None:
    """How far the middle of the single cells in the last picture is from the plane of focus, µm, in the median."""
    last = truth.seen["exposure"] == len(truth.exposures) - 1
    kinds = dict(zip(truth.bodies["object"].tolist(), truth.kind_names().tolist(), strict=True))
    heights = [float(row["defocus_um"]) for row in truth.seen[last] if kinds.get(int(row["object"])) in CLASSES]
    return float(np.median(heights)) if heights else None


def _rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "sharpest at", f"{summary['z_um']:.2f} µm; the drive stands at {summary['stands_um']:.2f} µm"
    yield "was at", f"{summary['began_um']:.2f} µm"
    if summary["truth"] is not None and summary["truth"]["defocus_um"] is not None:
        yield "in truth", f"the cells' middles lie {summary['truth']['defocus_um']:+.2f} µm from the plane of focus"
    most = max(point["sharpness"] for point in summary["curve"])
    for point in summary["curve"]:
        yield f"{point['z_um']:9.2f} µm", "█" * round(BAR * max(0.0, point["sharpness"]) / most)
