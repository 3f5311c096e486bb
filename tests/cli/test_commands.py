"""The commands as a user types them: what they print, and that `--json` is one JSON object and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from hspc_live.cli.execute import Order
from hspc_live.core.errors import HspcError
from hspc_live.settings.shipped import shipped_config, shipped_configs

RIG = shipped_config("rigs/twin_flow")
NULL = ("--set", "engine.kind=null")
SMALL = (
    *NULL,
    *("--set", "camera.twin.height_px=96", "--set", "camera.twin.frames_per_s=50"),
    *("--set", "camera.twin.velocity_um_s=2000", "--set", "sort.track.velocity_um_s=2000"),
    *("--set", "sort.track.velocity_sd_um_s=400", "--set", "sort.outlets.0.mode=recovery"),
    *("--set", "camera.twin.junction_um=1200", "--set", "sort.timing.junction_um=1200"),
)


def plain(said) -> dict:
    """The one JSON object on stdout."""
    assert said.code == 0, said.err
    value = json.loads(said.out)
    assert isinstance(value, dict)
    return value


def test_help_names_every_command(hspc_live):
    said = hspc_live("--help")
    assert said.code == 0
    known = "demo run replay scan focus inspect check schema doctor worker keygen calibrate-delay calibrate-stage bench"
    for command in known.split():
        assert command in said.out


def test_keygen_writes_a_pair_once_and_check_reads_it(hspc_live, tmp_path):
    keys = tmp_path / "keys"
    rig, peer = (plain(hspc_live("keygen", name, "--out", keys, "--json")) for name in ("rig", "peer"))
    secret = Path(rig["secret"])
    assert secret.stat().st_mode & 0o777 == 0o600 and secret.read_text().count("secret-key") == 1
    again = hspc_live("keygen", "rig", "--out", keys)
    assert again.code == 4 and "never overwritten" in again.err
    door = ["door.listen=tcp://0.0.0.0:5571", f"door.keys.secret={secret}", f"door.keys.allow=[{peer['public']}]"]
    flags = [part for text in door for part in ("--set", text)]
    found = plain(hspc_live("check", RIG, "--json", *flags))
    assert found["pipeline_id"] == plain(hspc_live("check", RIG, "--json"))["pipeline_id"], (
        "who may help changes nothing"
    )
    key = secret.read_text().rpartition("= ")[2].strip()[1:-1]
    secret.chmod(0o644)
    said = hspc_live("check", RIG, *flags)
    assert said.code == 2 and "others can read" in said.err and key not in said.err + said.out
    bare = hspc_live("check", RIG, "--set", "door.listen=tcp://0.0.0.0:5571")
    assert bare.code == 2 and "door.keys" in bare.err


def test_check_says_valid_and_which_pipeline_it_is(hspc_live):
    found = plain(hspc_live("check", RIG, "--json"))
    assert found["valid"] and found["model"] == "twin-lsm" and found["classes"] == ["LT-HSC", "ST-HSC", "MPP"]
    other = plain(hspc_live("check", RIG, "--json", "--set", "sort.close.views=7"))
    assert other["pipeline_id"] != found["pipeline_id"]
    assert "valid" in hspc_live("check", RIG).out


def test_check_says_why_a_rig_would_not_arm(hspc_live):
    stale = ("sort_delay_ms=500", "sort_delay_velocity_um_s=4000", "sort_delay_date=2020-01-01T00:00:00")
    flags = [part for text in stale for part in ("--set", f"sort.timing.{text}")]
    [remark] = plain(hspc_live("check", RIG, "--json", *NULL, *flags))["remarks"]
    assert "calibrate" in remark


PROMISE = ("--set", "sort.outlets.0.gate={kind: promise, class_name: LT-HSC, purity: 0.85}")


def test_check_says_what_a_promise_costs(hspc_live):
    (made,) = plain(hspc_live("check", RIG, *PROMISE, "--json"))["promises"]
    assert made["outlet"] == "LT-HSC" and made["purity"] == 0.85 and made["confidence"] == 0.95
    assert 0 < made["kept"]["low"] < made["kept"]["rate"] < made["kept"]["high"] < 1 and made["tested"] > 1000
    said = hspc_live("check", RIG, *PROMISE).out
    assert f"score from {made['threshold']:.4f}" in said and "at least 85 % of the cells it wants are LT-HSC" in said
    asked = plain(hspc_live("check", RIG, *PROMISE, "--set", "sort.outlets.0.gate.purity=0.75", "--json"))["promises"][
        0
    ]
    assert asked["threshold"] < made["threshold"] and asked["kept"]["rate"] > made["kept"]["rate"]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("sort.outlets.0.gate.purity=0.9999", "cannot be promised with 95 % confidence"),
        ("population.prevalence={}", "needs a declared population"),
        ("sort.close.views=3", "set sort.close.views to 2"),
        ("engine.kind=null", "the null engine has no card"),
        ("camera.twin.um_per_px=0.5", "scale: the camera has 0.5 µm/px"),
        ("sort.outlets.0.gate.class_name=B-cell", "asks for class 'B-cell', but the model's classes are LT-HSC"),
        ("sort.outlets.0.gate.confidence=2", "gate.confidence"),
    ],
)
def test_check_refuses_a_promise_that_cannot_be_made(hspc_live, told, words):
    said = hspc_live("check", RIG, *PROMISE, "--set", told)
    assert said.code == 2 and words in said.err.replace("\n", " "), said.err


def test_check_of_a_chamber_says_where_its_promise_comes_from(hspc_live):
    chamber = shipped_config("rigs/twin_chamber")
    said = hspc_live("check", chamber, *PROMISE)
    assert said.code == 0, said.err
    assert "score from 0." in said.out and "calibrated on cells filmed in flow" in said.out
    found = plain(hspc_live("check", chamber, *PROMISE, "--json"))
    plain_id = plain(hspc_live("check", chamber, "--json"))["pipeline_id"]
    assert found["promises"] and found["pipeline_id"] != plain_id
    undeclared = hspc_live("check", chamber, *PROMISE, "--set", "population.prevalence={}")
    assert undeclared.code == 2 and "needs a declared population" in undeclared.err


def test_the_schema_is_that_of_the_settings(hspc_live):
    schema = plain(hspc_live("schema"))
    assert {"camera", "sort", "sorter", "pipeline"} <= schema["properties"].keys()
    plan = plain(hspc_live("schema", "--mode", "faults"))
    assert plan["properties"].keys() == {"seed", "real_devices", "faults"} and "SorterNak" in plan["$defs"]


def test_a_fault_plan_that_does_not_fit_is_refused_before_anything_starts(hspc_live, tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("faults: [{kind: slip, at_frame: 1}]\n")
    out = tmp_path / "out"
    said = hspc_live("run", RIG, *NULL, "--faults", path, "--out", out)
    assert said.code == 2 and "no stage in a flow" in said.err and not out.exists()


def test_doctor_finds_this_machine_fit(hspc_live):
    found = plain(hspc_live("doctor", "--json"))
    assert found["problems"] == [] and found["cores"] >= 1 and "intact" in found["model"]
    assert found["shipped_settings"] == shipped_configs() and found["packages"]["numpy"] == np.__version__
    assert found["ring_folder_free_gib"] is not None and found["clock"]["resolution_ns"] < 1000


def test_doctor_lists_what_there_is_of_micro_manager_and_measures_its_camera(hspc_live):
    found = plain(hspc_live("doctor", "--json"))
    core = found["micromanager"]
    assert core["interface"] == 75 and core["packages"]["pymmcore"].split(".")[3] == "75"
    demo = next(adapter for adapter in core["adapters"] if adapter["name"] == "DemoCamera")
    assert demo["interface"] == 75 and {"DCam", "DXYStage"} <= set(demo["devices"])
    camera = found["devices"]["camera"]
    assert (camera["model"], camera["width_px"]) == ("DemoCamera/DCam", 512) and 5 < camera["frames_per_s"] < 150
    assert "DXYStage" in hspc_live("doctor").out


def test_doctor_opens_the_devices_of_a_rig_and_tells_all_that_fail(hspc_live, tmp_path):
    rig = tmp_path / "rig.yaml"
    rig.write_text(
        "mode: chamber\ncamera: {kind: micromanager, channels: [{name: dic, device: Kamera}], um_per_px: 0.25}\n"
        "stage: {kind: micromanager, device: Tisch}\nengine: {kind: 'null'}\n"
    )
    said = hspc_live("doctor", rig)
    assert said.code == 1
    assert "camera: there is no camera 'Kamera'; there are: Camera" in said.err
    assert "stage: there is no XY stage 'Tisch'; there are: XY" in said.err
    fit = hspc_live("doctor", rig, "--set", "camera.channels.0.device=''", "--set", "stage.device=''", "--json")
    assert plain(fit)["devices"]["stage"]["x_limits_um"] == [-50_000, 50_000]


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    path = tmp_path / "foreign.rtdc"
    with h5py.File(path, "w") as file:
        file.attrs["imaging:pixel size"], file.attrs["imaging:frame rate"] = 0.34, 1000.0
        file["events/frame"], file["events/time"] = np.arange(6), np.arange(6) / 1000
        file["events/image"] = np.full((6, 80, 120), 90, np.uint8)
    return path


def test_a_door_asked_for_at_a_replay_opens_however_it_is_written(hspc_live, foreign, monkeypatch):
    orders: list[Order] = []

    def execute(order: Order, _: object) -> None:
        orders.append(order)
        raise HspcError("so far")

    monkeypatch.setattr("hspc_live.cli.runs.execute", execute)
    keys = "keys: {secret: rig.key_secret, allow: [helper.key]}"
    whole = ("--set", f"door={{listen: 'tcp://127.0.0.1:5571', {keys}}}")
    parts = ("--set", "door.listen=tcp://127.0.0.1:5571", "--set", f"door.keys={keys.removeprefix('keys: ')}")
    for asked in (whole, parts, ()):
        assert "so far" in hspc_live("replay", foreign, "--set", "engine.kind=null", *asked).err
    assert [order.settings.door is not None for order in orders] == [True, True, False]


def test_inspect_says_what_a_recording_holds(hspc_live, foreign):
    found = plain(hspc_live("inspect", foreign, "--json"))
    assert (found["kind"], found["frames"], found["readable_frames"], found["loss"]) == ("rtdc", 6, 6, None)
    assert str(foreign) in hspc_live("inspect", foreign).out
    assert plain(hspc_live("inspect", foreign, "--json", "--fps", "500"))["frames_per_s"] == 500


def test_inspect_says_what_cannot_be_read_and_ends_with_its_own_code(hspc_live, foreign):
    with h5py.File(foreign, "r+") as file:
        images = file["events/image"][:4]
        del file["events/image"]
        file["events/image"] = images
    said = hspc_live("inspect", foreign, "--json")
    assert said.code == 10 and json.loads(said.out)["readable_frames"] == 4 and str(foreign) in said.err


def test_calibrate_delay_writes_lines_for_a_settings_file_and_overwrites_nothing(hspc_live, tmp_path):
    out = tmp_path / "delay.yaml"
    flags = ("--beads", "16", "--out", out, "--set", "camera.twin.height_px=96")
    found = plain(hspc_live("calibrate-delay", RIG, *flags, "--json"))
    written = yaml.safe_load(out.read_text())
    assert found["delay_ms"] > 0 and found["out"] == str(out)
    assert written["sort"]["timing"]["sort_delay_ms"] == pytest.approx(found["delay_ms"], rel=1e-3)
    before = out.read_bytes()
    again = hspc_live("calibrate-delay", RIG, *flags)
    assert again.code == 4 and str(out) in again.err and out.read_bytes() == before


def test_beads_that_a_person_counted_are_fitted_for_any_rig(hspc_live, tmp_path):
    rig, counts, out = shipped_config("rigs/mm_flow"), tmp_path / "beads.csv", tmp_path / "delay.yaml"
    caught = {587: 0, 589: 1, 591: 3, 593: 14, 595: 19, 597: 18, 599: 7, 601: 2, 603: 1, 605: 0}
    rows = "".join(f"{delay},{hit},20\n" for delay, hit in caught.items())
    counts.write_text("delay_ms,deflected,total\n" + rows)
    found = plain(hspc_live("calibrate-delay", rig, "--counts", counts, "--velocity", 3900, "--out", out, "--json"))
    assert found["delay_ms"] == pytest.approx(595.5, abs=1) and found["sd_ms"] < 1
    assert yaml.safe_load(out.read_text())["sort"]["timing"]["sort_delay_velocity_um_s"] == 3900
    counts.write_text("delay_ms,deflected,total\n" + "".join(rows.splitlines(True)[:4]))
    few = hspc_live("calibrate-delay", rig, "--counts", counts, "--out", tmp_path / "few.yaml")
    assert few.code == 6 and "too few" in few.err and not (tmp_path / "few.yaml").exists()
    for text in ("delay,beads\n595,many\n", "delay_ms,deflected,total\nnan,3,20\n"):
        counts.write_text(text)
        wrong = hspc_live("calibrate-delay", rig, "--counts", counts, "--out", tmp_path / "wrong.yaml")
        assert wrong.code == 2 and "delay_ms,deflected,total" in wrong.err


def test_calibrate_delay_needs_the_twin(hspc_live):
    said = hspc_live("calibrate-delay", shipped_config("replay_rtdc"))
    assert said.code == 2 and "simulated" in said.err


def test_the_demo_sorts_and_leaves_recording_summary_and_pictures(hspc_live, tmp_path):
    out = tmp_path / "demo"
    summary = plain(hspc_live("demo", "--seconds", "3", "--seed", "5", "--out", out, "--json", *SMALL))
    assert summary["ledger"]["balanced"] and summary["frames"]["captured"] >= 100
    assert summary["sort"].keys() >= {"purity", "purity_interval", "recovery", "predicted_purity", "predicted_interval"}
    assert "consistency_rate" in summary["model"]
    assert json.loads((out / "summary.json").read_text())["decisions_sha256"] == summary["decisions_sha256"]
    assert (out / "recording.rtdc").stat().st_size > 10_000
    pictures = list(out.rglob("*.png"))
    assert pictures and all(picture.stat().st_size > 1000 for picture in pictures)


def test_without_json_a_table_is_printed_for_a_person(hspc_live):
    said = hspc_live("run", RIG, "--for", "1s", *SMALL)
    assert said.code == 0 and "balanced" in said.out and "captured" in said.out
    assert "running" in said.err and "{" not in said.out
