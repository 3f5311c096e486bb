"""`sizes` as a user types it, on everything it reads."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hspc_live.core.values import CameraInfo, CellOutcome, CellRecord, Classification, Modality
from hspc_live.recording.writer import RecordingWriter
from hspc_live.report.picking_list import write_picking_list
from hspc_live.settings.schema import RunSettings
from hspc_live.stages.picking import Pick, PickingList

CLASSES = ("LT-HSC", "ST-HSC", "MPP")


def said_json(said) -> dict:
    assert said.code == 0, said.err
    return json.loads(said.out)


def of(found, name):
    [group] = [group for group in found["groups"] if group["class"] == name]
    return group


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "run.rtdc"
    writer = RecordingWriter.create(
        path,
        run_id="20240607T000000Z-abcdef",
        settings_json=RunSettings().model_dump_json(),
        camera=CameraInfo(96, 240, "uint8", 0.25, 200.0, Modality.DIC, model="digital twin"),
        classes=CLASSES,
        card_yaml="",
        pipeline_id="0" * 64,
        versions={"hspc_live": "0"},
        window=(80, 80),
        record_frames=False,
    )
    writer.write_cells(
        [cell(n, n % 3, 7.0 + n / 10, 0.9 if n < 12 else 0.4) for n in range(15)] + [cell(99, None, 3.0, 0.0)]
    )
    writer.close({}, {})
    return path


def cell(number, place, diameter, score):
    scores = tuple(score if i == place else (1 - score) / 2 for i in range(3))
    found = None if place is None else Classification(number, scores, CLASSES[place], 1)
    return CellRecord(
        number, 0, 0, (), CellOutcome.PASSED, "", None, found, None, None, None, None, 10.0, 0, 0, None,
        features={"diameter_um": diameter},
    )  # fmt: skip


def test_a_recording_gives_the_predicted_classes(hspc_live, recording):
    found = said_json(hspc_live("sizes", recording, "--json"))
    assert [(group["class"], group["n"]) for group in found["groups"]] == [(name, 5) for name in CLASSES]
    assert of(found, "LT-HSC")["mean_um"] == pytest.approx(np.mean([7.0, 7.3, 7.6, 7.9, 8.2]))
    assert found["left_out"] == {"not classified": 1} and "digital twin" in found["source"]
    sure = said_json(hspc_live("sizes", recording, "--json", "--min-score", "0.5"))
    assert [group["n"] for group in sure["groups"]] == [4, 4, 4]


def segmented(path, *images):
    path.write_text(json.dumps({"images": [
        {"file": file, "cells": [{"diameter_um": d, "accepted": ok, "reason": None} for d, ok in cells], "rejected": []}
        for file, cells in images
    ]}))  # fmt: skip
    return path


def test_folders_of_segmented_images_are_classes_unless_a_group_is_named(hspc_live, tmp_path):
    path = segmented(
        tmp_path / "found.json",
        ("LT/a.png", [(8.0, True), (8.2, True), (20.0, False)]),
        ("MPP/a.png", [(8.5, True), (8.9, True)]),
        ("LT/b.png", [(8.4, True)]),
    )
    found = said_json(hspc_live("sizes", path, "--json"))
    assert [(group["class"], group["n"]) for group in found["groups"]] == [("LT", 3), ("MPP", 2)]
    assert found["left_out"] == {"not accepted by segmentation": 1} and found["anova"]["df_within"] == 3
    named = said_json(hspc_live("sizes", "--group", f"all of them={path}", "--json"))
    assert [(group["class"], group["n"]) for group in named["groups"]] == [("all of them", 5)]
    assert named["anova"] is None and "nothing to compare" in named["remarks"][-1]


def test_images_that_segment_could_not_do_are_said_to_be_missing(hspc_live, tmp_path):
    """In the JSON, in the table and on the picture: a size of fewer cells than were meant must not pass for all."""
    path = segmented(tmp_path / "found.json", ("LT/a.png", [(8.0, True), (8.2, True)]), ("MPP/a.png", [(8.5, True)]))
    assert said_json(hspc_live("sizes", path, "--json"))["missing"] == []
    told = json.loads(path.read_text()) | {"failed": [{"file": f"LT/{n}.png", "error": "broken"} for n in "bcde"]}
    path.write_text(json.dumps(told))
    found = said_json(hspc_live("sizes", path, "--json", "--out", tmp_path / "out"))
    [words] = found["missing"]
    assert words.startswith("found.json") and "4 images" in words and "(b.png, c.png, d.png, …)" in words
    assert words in found["remarks"] and [group["n"] for group in found["groups"]] == [2, 1]
    assert words in hspc_live("sizes", path).out
    assert "found.json: without the cells of 4 images" in (tmp_path / "out" / "sizes.svg").read_text(encoding="utf-8")
    path.write_text(json.dumps(told | {"failed": [{"error": "broken"}]}))
    assert hspc_live("sizes", path).code == 3


def test_segmented_and_classified_cells_go_by_their_predicted_class(hspc_live, tmp_path):
    """The folder says nothing then; classes come in the paper's order, not as they are met."""
    path = tmp_path / "found.json"
    said = [("MPP", 0.9, 8.8, True), ("LT-HSC", 0.4, 8.0, True), ("LT-HSC", 0.8, 8.2, True), ("MPP", 0.9, 30.0, False)]
    cells = [
        {"diameter_um": d, "accepted": ok, "predicted": name, "scores": {"MPP": 0.3, "LT-HSC": 0.3, name: s}}
        for name, s, d, ok in said
    ]
    path.write_text(json.dumps({"images": [{"file": "frames/a.png", "cells": cells, "rejected": []}]}))
    found = said_json(hspc_live("sizes", path, "--json"))
    assert [(group["class"], group["n"]) for group in found["groups"]] == [("LT-HSC", 2), ("MPP", 1)]
    sure = said_json(hspc_live("sizes", path, "--json", "--min-score", 0.5))
    assert [(group["class"], group["n"]) for group in sure["groups"]] == [("LT-HSC", 1), ("MPP", 1)]
    assert sure["left_out"] == {"not accepted by segmentation": 1, "score below 0.5": 1}
    named = said_json(hspc_live("sizes", "--group", f"frames={path}", "--json"))
    assert [(group["class"], group["n"]) for group in named["groups"]] == [("frames", 3)]


@pytest.mark.parametrize(
    "text",
    [
        "class,diameter_um\nA,8.0\nA,8.5\nB,9.0\nB,x\n",
        "# a remark\nPredicted;Diameter_um\nA;8,0\nA;8,5\nB;9,0\nB;\n",
        "﻿diameter_um\tclass\n8.0\tA\n8.5\tA\n9.0\tB\nnan\tB\n",
    ],
)
def test_tables_of_several_dialects_are_read(hspc_live, tmp_path, text):
    path = tmp_path / "cells.csv"
    path.write_text(text, encoding="utf-8")
    found = said_json(hspc_live("sizes", path, "--json"))
    assert [(g["class"], g["n"], g["unusable"]) for g in found["groups"]] == [("A", 2, 0), ("B", 1, 1)]
    assert of(found, "A")["mean_um"] == 8.25
    assert any(remark.startswith("B: one cell") for remark in found["remarks"])


def test_a_picking_list_is_read_as_it_was_written(hspc_live, tmp_path):
    first = Pick(1, 0, "keep", "LT-HSC", (1.0, 0.0, 0.0), 1.0, 0.0, 0.0, 0.1, 8.0, 50.0, 0.0, 9.0, 0, 0)
    picks = tuple(
        replace(first, order=n + 1, cell=n, predicted=CLASSES[n % 2], x_um=float(n), diameter_um=8.0 + n)
        for n in range(6)
    )
    table, _ = write_picking_list(PickingList(CLASSES, picks, ()), tmp_path, {})
    found = said_json(hspc_live("sizes", table, "--json"))
    assert of(found, "LT-HSC")["mean_um"] == 10.0 and of(found, "ST-HSC")["n"] == 3


def test_pictures_and_json_go_into_a_new_folder(hspc_live, recording, tmp_path):
    out = tmp_path / "sizes"
    found = said_json(hspc_live("sizes", recording, "--test", "welch", "--out", out, "--json"))
    assert sorted(path.name for path in out.iterdir()) == ["sizes.json", "sizes.png", "sizes.svg"]
    written = json.loads((out / "sizes.json").read_text(encoding="utf-8"))
    assert written["t_test"] == "welch" and written["pairs"] == found["pairs"]
    assert hspc_live("sizes", recording, "--out", out).code == 4


def test_a_table_is_printed_for_a_person(hspc_live, recording):
    said = hspc_live("sizes", recording)
    assert said.code == 0 and "ANOVA" in said.out and "Holm" in said.out and "not classified" in said.out


def test_an_unreadable_file_among_good_ones_is_said_and_the_others_done(hspc_live, recording, tmp_path):
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)))
    (tmp_path / "other.json").write_text('{"images": [{"file": "a/b.png", "cells": [{"size": 3}]}]}')
    said = hspc_live("sizes", recording, tmp_path / "noise.csv", tmp_path / "other.json", "--json")
    assert said.code == 10 and "noise.csv" in said.err and "other.json" in said.err
    found = json.loads(said.out)
    assert len(found["unreadable"]) == 2 and of(found, "MPP")["n"] == 5


def test_what_is_missing_is_asked_for(hspc_live, tmp_path):
    assert hspc_live("sizes").code == 2
    assert hspc_live("sizes", "--group", "nothing").code == 2
    assert hspc_live("sizes", tmp_path / "none.csv").code == 3
    (tmp_path / "no.csv").write_text("a,b\n1,2\n")
    said = hspc_live("sizes", tmp_path / "no.csv")
    assert said.code == 3 and "diameter_um" in said.err
    (tmp_path / "empty.csv").touch()
    assert hspc_live("sizes", tmp_path / "empty.csv").code == 3


def test_classes_come_in_the_paper_s_order_and_not_by_the_alphabet(hspc_live, tmp_path):
    lines = [f"{name},{8 + number / 10}" for name in ("MPP", "other", "ST-HSC", "LT-HSC") for number in range(3)]
    (tmp_path / "cells.csv").write_text("class,diameter_um\n" + "\n".join(lines))
    found = said_json(hspc_live("sizes", tmp_path / "cells.csv", "--json"))
    assert [group["class"] for group in found["groups"]] == ["LT-HSC", "ST-HSC", "MPP", "other"]
    path = segmented(
        tmp_path / "found.json", *((f"{name}/a.png", [(8.0, True)]) for name in ("lt_hsc", "MPP", "st_hsc"))
    )
    found = said_json(hspc_live("sizes", path, "--json"))
    assert [group["class"] for group in found["groups"]] == ["lt_hsc", "st_hsc", "MPP"]


def test_groups_stay_in_the_order_in_which_they_are_named(hspc_live, tmp_path):
    (tmp_path / "a.csv").write_text("diameter_um\n8.0\n8.5\n")
    named = [part for name in ("MPP", "LT-HSC") for part in ("--group", f"{name}={tmp_path / 'a.csv'}")]
    found = said_json(hspc_live("sizes", *named, "--json"))
    assert [group["class"] for group in found["groups"]] == ["MPP", "LT-HSC"]


def test_classes_of_another_model_come_as_its_card_has_them(hspc_live, tmp_path):
    path = tmp_path / "run.rtdc"
    classes = ("S", "G2", "G1")
    writer = RecordingWriter.create(
        path, run_id="20240607T000000Z-abcdef", settings_json=RunSettings().model_dump_json(),
        camera=CameraInfo(96, 240, "uint8", 0.25, 200.0, Modality.DIC), classes=classes, card_yaml="",
        pipeline_id="0" * 64, versions={"hspc_live": "0"}, window=(80, 80), record_frames=False,
    )  # fmt: skip
    met = (2, 1, 0)
    writer.write_cells([
        replace(cell(n, 0, 8.0, 0.9), classification=Classification(n, (0.1, 0.1, 0.8), classes[place], 1))
        for n, place in enumerate(met)
    ])  # fmt: skip
    writer.close({}, {})
    found = said_json(hspc_live("sizes", path, "--json"))
    assert [group["class"] for group in found["groups"]] == list(classes)


def test_help_says_what_out_makes(hspc_live):
    assert "sizes.json" in hspc_live("sizes", "--help").out
