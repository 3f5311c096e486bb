"""calibrate-stage: how the camera sits over the stage, and how much play the stage has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml

from hspc_live.cli.execute import new_file
from hspc_live.cli.options import Json, Set, numbers
from hspc_live.cli.output import emit, progress, screen
from hspc_live.cli.tables import facts
from hspc_live.processes import stage_calibration
from hspc_live.processes.stage_calibration import StageCalibration
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.load import load_chamber
from hspc_live.settings.micromanager import MicroManagerSnapCamera
from hspc_live.twin.view import View
from hspc_live.wiring_chamber import build_chamber_devices


def calibrate_stage(
    config: Annotated[
        Path, typer.Argument(help="Settings file of a chamber rig, e.g. configs/rigs/twin_chamber.yaml.")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", help="New YAML file for the result, to be given to `run --affine`."),
    ] = Path("stage_affine.yaml"),
    at: Annotated[
        str | None,
        typer.Option(metavar="X,Y", help="Place with cells in focus, µm. Default: where the stage stands."),
    ] = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Measure how the camera sits over the stage (turn, mirror, scale), and the stage's play, by moving it a little."""
    settings = load_chamber(config, set_ or [])
    place = None if at is None else numbers(at, "X,Y", "--at")
    new_file(out)
    progress.print("moving the stage by small steps and watching the picture …")
    devices = build_chamber_devices(settings)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    found = stage_calibration.calibrate_stage(
        devices.stage, devices.camera, settings, now, None if place is None else (place[0], place[1])
    )
    stage_calibration.write_affine(out, found)
    summary = _affine_summary(found, settings, out)
    if as_json:
        emit(summary)
        return
    screen.print(facts(_affine_rows(found, summary), "Camera against stage"))
    screen.print(f"written to {out}; give it to `hspc-live run` or `scan` with --affine {out}, or say", markup=False)
    screen.print(f"  --set '{summary['set']}'", markup=False, soft_wrap=True)


def _affine_summary(found: StageCalibration, settings: ChamberRunSettings, out: Path) -> dict[str, Any]:
    affine = found.fit.affine
    given = found.given()
    return {
        "calibration": given,
        "set": f"calibration={yaml.safe_dump(given, default_flow_style=True, sort_keys=False, width=1000).strip()}",
        "um_per_px": list(affine.um_per_px),
        "stated_um_per_px": found.stated_um_per_px,
        "rotation_deg": affine.rotation_deg,
        "mirrored": affine.mirrored,
        "pictures": len(found.residuals_um),
        "residual_um": {"rms": found.residual_rms_um, "max": found.residual_max_um},
        "slips": len(found.fit.slips),
        "backlash_um": dict(zip("xy", found.backlash_um, strict=True)),
        "at_um": list(found.at_um),
        "date": found.date,
        "warnings": list(found.remarks()),
        "truth": _against_truth(found, settings),
        "out": str(out),
    }


def _against_truth(found: StageCalibration, settings: ChamberRunSettings) -> dict[str, Any] | None:
    """How far the affine is from how the twin's camera truly sits; None for a microscope, of which nobody knows."""
    if isinstance(settings.camera, MicroManagerSnapCamera):
        return None
    twin = settings.camera.twin
    true = View.of(twin).um_per_px
    corner = np.array([twin.width_px - 1, twin.height_px - 1]) / 2
    off = found.fit.affine.matrix[:, :2] - true
    return {
        "x_per_px": true[0].tolist(),
        "y_per_px": true[1].tolist(),
        "corner_error_um": max(float(np.hypot(*(off @ (corner * turn)))) for turn in ((1, 1), (1, -1))),
    }


def _affine_rows(found: StageCalibration, summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    x, y = summary["um_per_px"]
    yield "scale", f"{x:.5g} × {y:.5g} µm/px ± {100 * found.fit.affine.scale_sd:.2g} %"
    yield "turned by", f"{summary['rotation_deg']:.3f}°{', mirrored' if summary['mirrored'] else ''}"
    yield (
        "residuals",
        f"{found.residual_rms_um:.3f} µm (root mean square), {found.residual_max_um:.3f} µm at most, "
        f"{summary['pictures']} pictures",
    )
    play = summary["backlash_um"]
    yield "play", ", ".join(f"{axis} {'not seen' if um is None else f'{um:.2f} µm'}" for axis, um in play.items())
    if summary["truth"] is not None:
        yield "in truth", f"off by {summary['truth']['corner_error_um']:.3f} µm in the corners of the picture"
    yield from (("note", remark) for remark in summary["warnings"])
