"""Settings of a small chamber that a run scans in some seconds: nine fields of the twin, the null engine."""

from __future__ import annotations

_CHAMBER = """
mode: chamber
name: small-chamber
camera:
  twin: {{seed: 5, height_px: {edge}, width_px: {edge}, width_mm: 0.42, height_mm: 0.42, density_per_mm2: 700}}
{calibration}engine: {{kind: "null"}}
sort: {{outlets: [{{name: all, gate: {{kind: score, class_name: LT-HSC}}}}]}}
chamber:
  tiling: {{area: {{kind: rectangle, x0_um: -160, y0_um: -160, width_um: 320, height_um: 320}}}}
  picking: {{clear_um: 5}}
second_visit: {{after_s: 60}}
"""

GIVEN = _CHAMBER.format(
    edge=512, calibration="calibration: {kind: given, x_per_px: [0.25, 0.0], y_per_px: [0.0, 0.25]}\n"
)
"""How the camera lies over the stage is told."""

MEASURED = _CHAMBER.format(edge=576, calibration="")
"""It is measured first."""
