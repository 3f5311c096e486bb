"""Settings of chamber runs: told from those of a flow by `mode`, and refused with file, line, key and mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from hspc_live.core.errors import SettingsError
from hspc_live.settings.chamber_run import ChamberRunSettings, GivenAffine, MeasuredAffine
from hspc_live.settings.load import load, load_outlets, load_run, load_run_text, load_text
from hspc_live.settings.schema import RunSettings
from hspc_live.settings.shipped import shipped_config

CHAMBER = shipped_config("rigs/twin_chamber")


def chamber(*overrides: str) -> ChamberRunSettings:
    settings = load_run(CHAMBER, overrides, {})
    assert isinstance(settings, ChamberRunSettings)
    return settings


def test_the_mode_tells_what_run_a_file_is_for() -> None:
    assert isinstance(load_run(CHAMBER, environ={}), ChamberRunSettings)
    assert isinstance(load_run(shipped_config("rigs/twin_flow"), environ={}), RunSettings)
    assert isinstance(load_run_text("mode: chamber", "a recording"), ChamberRunSettings)


def test_a_chamber_is_no_flow() -> None:
    for read in (
        lambda: load(CHAMBER, environ={}),
        lambda: load_text("mode: chamber", "a recording"),
        lambda: load_outlets("mode: chamber", "a recording"),
    ):
        with pytest.raises(SettingsError, match="the settings of a chamber"):
            read()


def test_the_shipped_chamber_has_the_faults_that_a_scan_must_bear() -> None:
    stage = chamber().camera.twin.stage
    assert stage.backlash_um > 0 and stage.slip_chance > 0 and stage.drift_um_per_min > 0


def test_sections_without_a_kind_are_of_the_default_kind() -> None:
    assert chamber("calibration={step_um: 30}").calibration == MeasuredAffine(step_um=30)
    given = chamber("calibration={kind: given, x_per_px: [0.2, 0], y_per_px: [0, -0.2]}").calibration
    assert isinstance(given, GivenAffine) and given.y_per_px == (0.0, -0.2)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("mode=flow", "command line: mode: expected 'chamber', found 'flow'; leave the key out for a flow"),
        ("sorter={kind: simulated}", "command line: sorter: unknown key"),
        ("sort.outlets.0.mode=purity", "command line: sort.outlets.0.mode: unknown key"),
        ("rig.modality=brightfield", "command line: rig.modality: is 'brightfield', but camera.twin.modality films"),
        ("exposure.fluorescence=[rfp]", "exposure.fluorescence.0: the simulated camera has no channel 'rfp'"),
        ("exposure.fluorescence=[gfp, gfp]", "exposure.fluorescence.1: the channel 'gfp' is named twice"),
        ("stage.kind=micromanager", "stage.kind: is 'micromanager', which does not carry a camera of kind 'simulated'"),
        ("camera.kind=micromanager", "which does not carry a camera of kind 'micromanager'"),
        ("sort.abstain.min_views=2", "sort.abstain.min_views: must be 1"),
        ("engine={kind: 'null', classes: [A]}", "engine.classes: needs at least two classes"),
        ("calibration={kind: given, x_per_px: [1, 2], y_per_px: [2, 4]}", "maps the picture onto a line"),
        ("calibration.kind=given", "calibration.x_per_px: missing"),
        ("chamber.tiling.area.width_um=0", "chamber.tiling.area.width_um: must be greater than 0"),
        ("chamber.tiling.area.width_um=.nan", "expected a number"),
        ("chamber.tiling.area.x0_um=.inf", "chamber.tiling.area.x0_um: expected a number"),
        ("chamber.limits.x_max_um=.inf", "chamber.limits.x_max_um: expected a number"),
        ("camera.twin.um_per_px=0", "camera.twin.um_per_px: must be greater than 0"),
        ("camera.twin.um_per_px=-0.25", "camera.twin.um_per_px: must be greater than 0"),
        ("calibration={kind: given, x_per_px: [0, 0], y_per_px: [0, 0]}", "0 µm to a pixel is no microscope's"),
        ("calibration={kind: given, x_per_px: [1e300, 0], y_per_px: [0, 1]}", "1e+300 µm to a pixel"),
        ("calibration={kind: given, x_per_px: [.inf, 0], y_per_px: [0, 1]}", "expected a finite number"),
        ("second_visit.after_s=1e300", "second_visit.after_s: must be at most 86400"),
        ("camera.twin.density_per_mm2=1e12", "objects in the chamber are more than the twin takes"),
        ("chamber.limits.x_min_um=6000", "the least position must lie below the greatest"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_with_its_place(override: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        chamber(override)
    assert said in str(caught.value)


def test_a_mistake_in_a_file_is_said_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "rig.yaml"
    file.write_text("mode: chamber\nchamber:\n  tiling:\n    overlpa: 0.2\n")
    with pytest.raises(
        SettingsError, match=r"rig\.yaml:4: chamber\.tiling\.overlpa: unknown key; did you mean 'overlap'"
    ):
        load_run(file, environ={})


def test_two_outlets_of_one_name_are_refused() -> None:
    two = "[{name: a, gate: {kind: score, class_name: MPP}}, {name: a, gate: {kind: score, class_name: MPP}}]"
    with pytest.raises(SettingsError, match=r"sort\.outlets\.1\.name: the name 'a' is taken by another outlet"):
        chamber(f"sort.outlets={two}")
