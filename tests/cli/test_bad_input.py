"""Every mistake ends with its own exit code and a message that names the thing and the mend; nothing is lost by it."""

from __future__ import annotations

import json
import shutil

import pytest

from hspc_live.settings.shipped import shipped_config
from hspc_models.card import find_model

RIG = shipped_config("rigs/twin_flow")
NULL = ("--set", "engine.kind=null")


def test_an_unknown_key_is_named_with_its_file_and_the_nearest_one(hspc_live, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(RIG.read_text().replace("events_per_s: 11.5 ", "event_per_s: 11.5 "))
    said = hspc_live("run", path)
    assert said.code == 2 and said.out == ""
    assert f"{path}:" in said.err and "camera.twin.event_per_s" in said.err and "events_per_s" in said.err


def test_a_wrong_type_is_named_with_what_was_expected(hspc_live):
    said = hspc_live("run", RIG, "--set", "pipeline.workers=many")
    assert said.code == 2 and "command line" in said.err
    assert "pipeline.workers" in said.err and "whole number" in said.err and "many" in said.err


def test_settings_that_are_not_there_or_no_yaml(hspc_live, tmp_path):
    absent = hspc_live("check", tmp_path / "absent.yaml")
    assert absent.code == 2 and "absent.yaml" in absent.err
    (tmp_path / "odd.yaml").write_text("a: [1, 2")
    odd = hspc_live("check", tmp_path / "odd.yaml")
    assert odd.code == 2 and "odd.yaml" in odd.err


@pytest.mark.parametrize(
    ("content", "word"), [(None, "not"), (b"", "empty"), (b"no HDF5 at all, but long enough to look", "HDF5")]
)
@pytest.mark.parametrize("command", ["replay", "inspect"])
def test_what_is_no_recording_is_refused(hspc_live, tmp_path, command, content, word):
    path = tmp_path / "odd.rtdc"
    if content is not None:
        path.write_bytes(content)
    said = hspc_live(command, path)
    assert said.code == 3 and str(path) in said.err and word in said.err, said.err


def test_results_are_never_overwritten(hspc_live, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    said = hspc_live("run", RIG, *NULL, "--out", tmp_path, "--for", "2s")
    assert said.code == 4 and "not empty" in said.err and "new folder" in said.err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    file = tmp_path / "mine.txt"
    said = hspc_live("run", RIG, *NULL, "--out", file, "--for", "2s")
    assert said.code == 4 and str(file) in said.err and file.read_text() == "precious"


def test_an_existing_recording_is_refused_before_anything_starts(hspc_live, tmp_path):
    path = tmp_path / "old.rtdc"
    path.write_bytes(b"precious")
    said = hspc_live("run", RIG, *NULL, "--set", f"record.path={path}", "--for", "2s")
    assert said.code == 4 and str(path) in said.err and path.read_bytes() == b"precious"
    assert "running" not in said.err


def test_an_output_that_cannot_be_written_is_refused_before_the_camera_starts(hspc_live, tmp_path):
    for options in (("--out", "/proc/nowhere"), ("--set", f"record.path={tmp_path / 'absent' / 'new.rtdc'}")):
        said = hspc_live("run", RIG, *NULL, *options, "--for", "2s")
        assert said.code == 4 and "running" not in said.err, said.err
        assert "/proc/nowhere" in said.err or "absent" in said.err


def test_a_gate_for_a_class_that_the_model_lacks_names_both(hspc_live):
    gate = ("--set", "sort.outlets.0.gate.class_name=HSC", "--set", "population.prevalence={}")
    for args in (("check", RIG, *gate), ("run", RIG, *NULL, *gate), ("check", RIG, *NULL, *gate)):
        said = hspc_live(*args)
        assert said.code == 2, said
        assert "HSC" in said.err and "LT-HSC, ST-HSC, MPP" in said.err and "running" not in said.err


def test_weights_that_are_not_the_card_s_are_refused(hspc_live, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(find_model("twin-lsm"), folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    for command in ("check", "run"):
        said = hspc_live(command, RIG, "--set", f"engine.model={folder}")
        assert said.code == 5 and "SHA-256" in said.err and "model.safetensors" in said.err, said.err


def test_a_model_that_is_not_there_is_told_apart_from_the_shipped_ones(hspc_live):
    said = hspc_live("check", RIG, "--set", "engine.model=twin-lms")
    assert said.code == 5 and "twin-lms" in said.err and "twin-lsm" in said.err


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("run", RIG, "--for", "soon"), "--for"),
        (("run", RIG, "--for", "-3s"), "--for"),
        (("run", shipped_config("replay_rtdc")), "replay RECORDING"),
        (("frobnicate",), "frobnicate"),
        (("replay",), "RECORDING"),
        (("demo", "--seconds", "0"), "--seconds"),
    ],
)
def test_usage_mistakes(hspc_live, args, word):
    said = hspc_live(*args)
    assert said.code == 2 and word.lower() in said.err.lower(), said.err


def test_a_speed_that_is_none(hspc_live, tmp_path):
    import h5py
    import numpy as np

    path = tmp_path / "one.rtdc"
    with h5py.File(path, "w") as file:
        file.attrs["imaging:pixel size"], file.attrs["imaging:frame rate"] = 0.3, 100.0
        file["events/frame"], file["events/time"] = np.arange(1), np.zeros(1)
        file["events/image"] = np.zeros((1, 20, 30), np.uint8)
    for text in ("fast", "0", "-1", "inf", "nan"):
        said = hspc_live("replay", path, "--speed", text)
        assert said.code == 2 and "--speed" in said.err and text in said.err, said.err


@pytest.mark.parametrize("args", [("segment",), ("frobnicate",), ("segment", "a.png", "--frob"), ("sizes", "--out")])
def test_with_json_a_usage_mistake_is_an_object_too(hspc_live, args):
    said = hspc_live(*args, "--json")
    told = json.loads(said.out)
    assert said.code == 2 == told["exit_code"] and told["error"] in said.err and told["kind"] == "SettingsError"
