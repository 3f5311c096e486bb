"""A small chamber of the twin with all its faults, on a virtual clock: nine fields in a second or two.

Fields are small, so they overlap by more than a third of their edge: with less, some would share no cell at all.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.load import load_run_text

SMALL = """
mode: chamber
camera:
  twin: {seed: 5, height_px: 576, width_px: 576, width_mm: 0.42, height_mm: 0.42, density_per_mm2: 700}
engine: {kind: "null"}
sort: {outlets: [{name: all, gate: {kind: score, class_name: LT-HSC}}]}
chamber:
  tiling: {area: {kind: rectangle, x0_um: -160, y0_um: -160, width_um: 320, height_um: 320}}
  picking: {clear_um: 0}
second_visit: {after_s: 120}
"""

Small = Callable[..., ChamberRunSettings]


@pytest.fixture
def small() -> Small:
    """The settings of a small chamber run, changed by `key.path=value`."""

    def load(*overrides: str) -> ChamberRunSettings:
        settings = load_run_text(SMALL, "small chamber", overrides)
        assert isinstance(settings, ChamberRunSettings)
        return settings

    return load
