"""A chamber run as a user runs it: recorded, killed, damaged, replayed; the same recording gives the same decisions."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest
import yaml

from hspc_live.recording.chamber_reader import open_chamber
from hspc_live.report.picking_list import read_picking_list

RIG: dict[str, Any] = {
    "mode": "chamber",
    "name": "small",
    "camera": {
        "kind": "simulated",
        "twin": {
            "height_px": 384,
            "width_px": 384,
            "width_mm": 0.5,
            "height_mm": 0.5,
            "density_per_mm2": 1200.0,
            "stage": {"backlash_um": 1.0, "slip_chance": 0.05, "drift_um_per_min": 0.15},
        },
    },
    "exposure": {"fluorescence": ["gfp"]},
    "engine": {"kind": "null"},
    "sort": {"outlets": [{"name": "large", "gate": {"kind": "range", "feature": "diameter_um", "min": 8.4}}]},
    "chamber": {
        "tiling": {"area": {"kind": "rectangle", "x0_um": -110, "y0_um": -110, "width_um": 220, "height_um": 220}},
        "picking": {"clear_um": 8.0},
    },
    "second_visit": {"after_s": 60.0},
}
SAME = ("decisions_sha256", "frames", "views", "cells", "classes", "picking", "mosaic", "revisit")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(yaml.safe_dump(RIG))
    return path


@pytest.fixture(scope="module")
def live(config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A whole run with second visits: its folder and its summary."""
    out = tmp_path_factory.mktemp("runs") / "live"
    told = [sys.executable, "-m", "hspc_live", "run", str(config), "--revisit", "--out", str(out), "--json"]
    done = subprocess.run(told, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


def test_a_recorded_chamber_decides_the_same_again_and_again(live, hspc_live, tmp_path):
    out, first = live
    assert first["cells"]["listed"] > 3 and first["revisit"]["refound"] > 3
    again = tmp_path / "again"
    said = hspc_live("replay", out / "recording.h5", "--json", "--out", again)
    assert said.code == 0, said.err
    replayed = json.loads(said.out)
    assert {key: replayed[key] for key in SAME} == {key: first[key] for key in SAME}
    assert replayed["same_decisions"] is True and replayed["loss"] is None and replayed["warnings"] == []
    # the replay has left the same list, and a recording that replays as well as the first
    assert (again / "picking_list.csv").read_text() == (out / "picking_list.csv").read_text()
    third = json.loads(hspc_live("replay", again / "recording.h5", "--json").out)
    assert third["decisions_sha256"] == first["decisions_sha256"] and third["revisit"] == first["revisit"]


def test_a_run_leaves_its_list_its_recording_and_pictures(live):
    out, first = live
    names = {path.name for path in out.iterdir()}
    assert {"recording.h5", "picking_list.csv", "picking_list.json", "summary.json", "figures"} <= names
    figures = {path.name for path in (out / "figures").iterdir()}
    assert {"chamber_map.png", "sizes.png"} <= figures and any(name.startswith("field_") for name in figures)
    assert first["recording"]["unrecorded"] == 0


def test_the_recording_knows_the_picks_and_their_order(live):
    out, _ = live
    with open_chamber(out / "recording.h5") as recording:
        picked = {cell.order: cell.cell for cell in recording.cells() if cell.order is not None}
    listed = json.loads((out / "picking_list.json").read_text())["picks"]
    assert picked == {pick["order"]: pick["cell"] for pick in listed} and listed


def test_inspect_opens_it_and_sizes_reads_its_cells(live, hspc_live):
    out, first = live
    said = json.loads(hspc_live("inspect", out / "recording.h5", "--json").out)
    assert said["kind"] == "chamber" and said["exact"] and said["channels"] == ["transmitted", "gfp"]
    assert said["fields"]["scan"] == first["fields"]["visited"] and said["cells"]["listed"] == first["cells"]["listed"]
    assert {name: said["ledger"][name] for name in ("frames", "views", "cells")} == {
        name: first[name] for name in ("frames", "views", "cells")
    }
    sizes = json.loads(hspc_live("sizes", out / "recording.h5", "--json").out)
    assert sum(group["n"] for group in sizes["groups"]) == sum(first["classes"].values())
    assert "simulated" in sizes["source"]


def test_other_gates_decide_otherwise(live, config, hspc_live, tmp_path):
    out, first = live
    said = json.loads(hspc_live("replay", out / "recording.h5", "--json", "--set", "sort.outlets.0.gate.min=10").out)
    assert said["same_decisions"] is False and said["decisions_sha256"] != first["decisions_sha256"]
    assert said["views"] == first["views"]
    wider = json.loads(hspc_live("replay", out / "recording.h5", "--json", "--set", "sort.outlets.0.gate.min=5").out)
    assert wider["revisit"]["listed"] > first["revisit"]["listed"]
    assert any("were not visited again when it was recorded" in warning for warning in wider["warnings"])
    other = tmp_path / "other.yaml"
    changed = {**RIG, "sort": {"outlets": []}}
    other.write_text(yaml.safe_dump(changed))
    said = json.loads(hspc_live("replay", out / "recording.h5", "--json", "--config", other).out)
    assert said["cells"]["listed"] == 0 and said["cells"]["tracked"] == first["cells"]["tracked"]


@pytest.mark.parametrize("option", [("--speed", "1"), ("--workers", "2"), ("--um-per-px", "0.3"), ("--fps", "10")])
def test_options_of_a_flow_are_refused_by_name(live, hspc_live, option):
    said = hspc_live("replay", live[0] / "recording.h5", *option)
    assert said.code == 2 and option[0] in said.err and "leave it out" in said.err


def test_settings_of_a_flow_are_refused(live, hspc_live, tmp_path):
    flow = tmp_path / "flow.yaml"
    flow.write_text("name: flow\nengine: {kind: 'null'}\n")
    said = hspc_live("replay", live[0] / "recording.h5", "--config", flow)
    assert said.code == 2 and "settings of a flow" in said.err


def test_a_killed_run_replays_as_far_as_it_came(config, hspc_live, tmp_path):
    path = tmp_path / "killed"
    told = [sys.executable, "-m", "hspc_live", "run", str(config), "--out", str(path)]
    with subprocess.Popen(told, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        reached = 0
        for line in process.stderr:
            found = re.search(r"field (\d+) of", line)
            reached = int(found[1]) if found else reached
            if reached >= 4:
                process.kill()
                break
    said = hspc_live("replay", path / "recording.h5", "--json")
    assert said.code == 10 and "crashed" in said.err and "planned fields" in said.err
    summary = json.loads(said.out)
    # what was under way when it was killed may be lost, nothing before
    assert reached - 2 <= summary["fields"]["visited"] < summary["fields"]["planned"]
    assert summary["ledger"]["balanced"] and summary["same_decisions"] is None
    inspected = hspc_live("inspect", path / "recording.h5", "--json")
    assert inspected.code == 10 and json.loads(inspected.out)["ledger"]["frames"]["captured"] > 0


def test_an_interrupted_run_lists_what_it_saw_and_replays_the_same(config, hspc_live, tmp_path):
    path = tmp_path / "interrupted"
    told = [sys.executable, "-m", "hspc_live", "run", str(config), "--out", str(path), "--json"]
    with subprocess.Popen(told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None and process.stdout is not None
        for line in process.stderr:
            if "field 3 of" in line:
                process.send_signal(signal.SIGINT)
                break
        process.stderr.read()
        summary = json.loads(process.stdout.read())
    assert process.returncode == 130 and summary["fields"]["visited"] < summary["fields"]["planned"]
    with open_chamber(path / "recording.h5") as recording:
        notes = [(note["kind"], note["detail"]) for note in recording.lines("notes")]
        assert recording.closed and notes == [("interrupted", "True"), ("ended_by", "Ctrl-C")]
    said = hspc_live("replay", path / "recording.h5", "--json")
    assert said.code == 0 and json.loads(said.out)["same_decisions"] is True


def test_a_damaged_picture_costs_its_field_and_is_said(live, hspc_live, tmp_path):
    path = Path(shutil.copy(live[0] / "recording.h5", tmp_path / "damaged.h5"))
    with h5py.File(path) as file:
        chunks = [file["hspc/fields/image"].id.get_chunk_info(row) for row in (0, 3)]  # transmitted 0, gfp 1
    with path.open("r+b") as raw:
        for chunk in chunks:
            raw.seek(chunk.byte_offset + chunk.size // 2)
            raw.write(b"\x5a\xa5\x5a")
    said = hspc_live("replay", path, "--json")
    assert said.code == 10 and "pictures cannot be read at 2 visits: 0-1" in said.err
    summary = json.loads(said.out)
    assert summary["frames"]["dropped"] == {"unreadable": 1} and summary["ledger"]["balanced"]


def test_fluorescence_that_was_not_recorded_is_said(hspc_live, tmp_path, config):
    out = tmp_path / "plain"
    made = hspc_live("run", config, "--out", out, "--set", "exposure.fluorescence=[]", "--json")
    assert made.code == 0, made.err
    said = hspc_live("replay", out / "recording.h5", "--config", config, "--json")
    assert said.code == 0 and "fluorescence in gfp was not recorded" in said.err
    summary = json.loads(said.out)
    assert any("gfp" in warning for warning in summary["warnings"])
    assert summary["decisions_sha256"] == json.loads(made.out)["decisions_sha256"]


def test_without_fields_it_can_be_inspected_but_not_replayed(hspc_live, tmp_path, config):
    out = tmp_path / "bare"
    assert hspc_live("run", config, "--out", out, "--set", "record.frames=false", "--json").code == 0
    assert json.loads(hspc_live("inspect", out / "recording.h5", "--json").out)["exact"] is False
    said = hspc_live("replay", out / "recording.h5")
    assert said.code == 3 and "record.frames: true" in said.err


def test_a_full_disk_ends_the_recording_and_not_the_run(config, tmp_path):
    """The list is made all the same; the exit code and the summary say that the recording is not whole."""
    out = tmp_path / "full"
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2_600_000,) * 2); "
    told = [sys.executable, "-c", limit + "from hspc_live.cli import main; sys.argv[0] = 'hspc-live'; main()"]
    done = subprocess.run([*told, "run", str(config), "--out", str(out), "--json"], capture_output=True, text=True)
    assert done.returncode == 10 and "is the disk full?" in done.stderr
    summary = json.loads(done.stdout)
    assert summary["recording"]["unrecorded"] > 0 and summary["cells"]["listed"] > 0
    assert (out / "picking_list.csv").exists()


def test_a_gate_of_light_is_replayed_and_its_light_is_on_the_list(hspc_live, tmp_path, config):
    out, again = tmp_path / "out", tmp_path / "again"
    bright = "sort.outlets=[{name: bright, gate: {kind: range, feature: 'glow:gfp', min: 40}}]"
    made = hspc_live("run", config, "--out", out, "--set", bright, "--json")
    assert made.code == 0, made.err
    replayed = hspc_live("replay", out / "recording.h5", "--out", again, "--json")
    assert replayed.code == 0, replayed.err
    summaries = [json.loads(said.out) for said in (made, replayed)]
    assert summaries[1]["same_decisions"] is True and summaries[0]["picking"] == summaries[1]["picking"]
    assert (again / "picking_list.csv").read_text() == (out / "picking_list.csv").read_text()
    listed = read_picking_list(out / "picking_list.csv")
    assert listed.channels == ("gfp",) and listed.picks and min(pick.glow[0] for pick in listed.picks) >= 40
    lacking = hspc_live("run", config, "--out", tmp_path / "plain", "--set", "exposure.fluorescence=[]", "--json")
    assert lacking.code == 0, lacking.err
    other = ("--set", bright, "--set", "exposure.fluorescence=[gfp]")
    refused = hspc_live("replay", tmp_path / "plain" / "recording.h5", *other)
    assert refused.code == 2 and "channel 'gfp', which was not recorded; the recording has transmitted" in " ".join(
        refused.err.split()
    )
