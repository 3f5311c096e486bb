"""A run on Micro-Manager's own core and DemoCamera: all processes, a recording, every frame accounted for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hspc_live.recording.chamber_reader import open_chamber
from hspc_live.recording.reader import open_recording
from hspc_live.report.picking_list import read_picking_list
from hspc_live.settings.shipped import shipped_config

Start = Callable[..., Any]


def balanced(summary: dict[str, Any]) -> bool:
    frames = summary["frames"]
    lost = sum(frames["dropped"].values()) + sum(frames["lost"].values())
    return bool(summary["ledger"]["balanced"]) and frames["captured"] == frames["processed"] + lost


def test_the_shipped_demo_camera_runs_and_is_recorded_with_what_it_says_of_itself(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, err = start("run", shipped_config("rigs/demo_camera"), "--for", "2s", "--out", out, "--json").end()
    assert code == 0, err
    summary = json.loads(said)
    assert balanced(summary) and summary["frames"]["processed"] > 10
    assert summary["frames_per_s"] < 150, "ten milliseconds of exposure each"
    with open_recording(out / "recording.rtdc") as recording:
        info = recording.info
        frames = list(recording.frames())
    assert info.model == "DemoCamera/DCam" and info.dtype == "uint16" and info.exposure_us == 10_000
    assert info.time_sd_us >= 500 and "75" in info.device["interface"] and info.device["Camera-PixelType"] == "16bit"
    assert len(frames) > 10 and frames[0].pixels.shape == (128, 512)


@pytest.mark.slow
def test_past_the_rate_that_the_core_holds_every_lost_frame_is_in_the_ledger(start: Start) -> None:
    """Frames come faster than they are fetched: the core throws whole buffers away, and the run counts them."""
    code, said, err = start(
        "run", shipped_config("rigs/demo_camera"), "--for", "3s", "--json",
        "--set", "camera.exposure_ms=0.2", "--set", "camera.core.buffer_mb=1",
        "--set", "camera.properties={PixelType: 16bit, FastImage: 1, OnCameraCCDXSize: 512, OnCameraCCDYSize: 512}",
    ).end()  # fmt: skip
    assert code == 0, err
    summary = json.loads(said)
    assert balanced(summary) and sum(summary["frames"]["dropped"].values()) > 0


def test_a_camera_that_stalls_ends_the_run_in_good_order_and_is_tried_again_if_asked(
    start: Start, tmp_path: Path
) -> None:
    """Said to give a frame a millisecond, and computing at each for much longer: noticed, what there is kept whole."""
    out = tmp_path / "out"
    code, said, err = start(
        "run", shipped_config("rigs/demo_camera"), "--for", "60s", "--out", out, "--json",
        "--set", "camera.frames_per_s=1000", "--set", "camera.exposure_ms=1", "--set", "camera.stall_periods=5",
        "--set", "camera.properties={PixelType: 16bit, OnCameraCCDXSize: 2048, OnCameraCCDYSize: 2048}",
        "--set", "retry.times=1", "--set", "retry.first_s=0.1",
    ).end()  # fmt: skip
    assert code == 6 and "no frame for" in err and "trigger" in err
    summary = json.loads(said)
    assert balanced(summary) and "no frame for" in summary["stream_error"]
    assert [told["out"] for told in summary["tries"]] == [str(out), str(out / "again_1")]
    for folder in (out, out / "again_1"):
        assert (folder / "summary.json").exists()
        with open_recording(folder / "recording.rtdc") as recording:
            assert recording.loss is None and recording.summary is not None


CHAMBER = """
mode: chamber
name: twin-behind-a-core
camera:
  kind: micromanager_twin
  twin: {seed: 5, height_px: 576, width_px: 576, width_mm: 0.42, height_mm: 0.42, density_per_mm2: 700}
stage: {kind: micromanager}
engine: {kind: "null"}
exposure: {fluorescence: [gfp]}
sort: {outlets: [{name: all, gate: {kind: score, class_name: LT-HSC}}]}
chamber:
  tiling: {area: {kind: circle, x_um: 0, y_um: 0, radius_um: 60}}
  picking: {clear_um: 5}
"""


def positions(path: Path) -> list[tuple[str, str, tuple[float, float]]]:
    """Label, stage and place of a Micro-Manager position list, read as its `PositionList.load` reads it."""

    def told(value: dict[str, Any]) -> Any:
        inner = value["scalar"] if "scalar" in value else value["array"]
        if value["type"] != "PROPERTY_MAP":
            return inner
        maps = inner if isinstance(inner, list) else [inner]
        plain = [{key: told(part) for key, part in one.items()} for one in maps]
        return plain if isinstance(inner, list) else plain[0]

    document = json.loads(path.read_text(encoding="utf-8"))
    assert (document["format"], document["major_version"]) == ("Micro-Manager Property Map", 2)
    found = []
    for position in told(document["map"]["StagePositions"]):
        [device] = [one for one in position["DevicePositions"] if one["Device"] == position["DefaultXYStage"]]
        x_um, y_um = device["Position_um"]
        found.append((position["Label"], device["Device"], (x_um, y_um)))
    return found


def test_a_chamber_behind_a_real_core_is_scored_against_the_truth(start: Start, tmp_path: Path) -> None:
    """Core, stage driver, camera driver, channel switching: the twin's cells are found where they truly lie."""
    config = tmp_path / "chamber.yaml"
    config.write_text(CHAMBER)
    area = ("--rect", "-90,-90,90,90")
    code, said, err = start("scan", config, *area, "--revisit", "--out", tmp_path / "out", "--json").end()
    assert code == 0, err
    summary = json.loads(said)
    assert summary["ledger"]["balanced"] and summary["fields"]["planned"] == summary["fields"]["visited"] >= 4
    truth = summary["truth"]
    assert truth["cells"]["found"] > 10 and truth["cells"]["listed_twice"] == 0
    assert truth["picks"]["position_error_um"] < 0.3 and truth["fresh"]["position_error_um"] < 0.3
    assert summary["revisit"]["refound_of_shown"] >= 0.9
    with open_chamber(tmp_path / "out/recording.h5") as recording:
        facts = recording.facts
    assert facts.channels == ("transmitted", "gfp") and facts.camera.model == "digital twin"
    assert facts.stage.model == "TwinStage" and "MMCore" in facts.camera.device["core"]
    listed = read_picking_list(tmp_path / "out/picking_list.csv").picks
    places = positions(tmp_path / "out/picking_list.pos")
    assert [place for _, _, place in places] == [(pick.x_um, pick.y_um) for pick in listed]
    assert {stage for _, stage, _ in places} == {"XY"} and len({label for label, _, _ in places}) == len(listed)


def test_camera_against_stage_is_measured_behind_a_real_core_and_given_to_a_run(start: Start, tmp_path: Path) -> None:
    """Turned by 7° and mirrored: found to 0.3 µm, and a run with it finds the cells where they truly lie."""
    config, file = tmp_path / "chamber.yaml", tmp_path / "affine.yaml"
    config.write_text(CHAMBER)
    turned = ("--set", "camera.twin.mounting={rotation_deg: 7, mirrored: true}")
    code, said, err = start("calibrate-stage", config, "--out", file, *turned, "--json").end()
    assert code == 0, err
    found = json.loads(said)
    assert found["residual_um"]["max"] <= 0.3 and found["truth"]["corner_error_um"] <= 0.3 and found["mirrored"]
    assert found["backlash_um"] == {"x": pytest.approx(1.0, abs=0.25), "y": pytest.approx(1.0, abs=0.25)}
    code, said, err = start("run", config, "--affine", file, *turned, "--json").end()
    assert code == 0, err
    truth = json.loads(said)["truth"]
    assert truth["cells"]["found"] > 10 and truth["picks"]["position_error_um"] < 0.3
    code, _, err = start("calibrate-stage", config, "--out", file, *turned, "--json").end()
    assert code == 4 and "nothing is ever overwritten" in err
