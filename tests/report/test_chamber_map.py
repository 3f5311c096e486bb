"""The pictures of a chamber run say what the run decided: cells by class, picks in path order, what was left out."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import EllipseCollection
from matplotlib.colors import to_hex
from matplotlib.image import imread

from hspc_live.core.chamber import (
    ChamberCell,
    ChamberFacts,
    ChamberOutcome,
    FieldObjects,
    Phase,
    Picture,
    Revisited,
    Settled,
    Visit,
)
from hspc_live.core.errors import OutputError
from hspc_live.core.values import (
    OBJECT_DTYPE,
    CameraInfo,
    Classification,
    Frame,
    FrameResult,
    Modality,
    StageInfo,
    StageTarget,
)
from hspc_live.recording.chamber_writer import ChamberWriter
from hspc_live.report import style
from hspc_live.report.cell_table import write_cells
from hspc_live.report.chamber_draw import draw_chamber
from hspc_live.report.chamber_evidence import ChamberEvidence, gather_chamber
from hspc_live.report.chamber_fields import choose_fields, seen_figure
from hspc_live.report.chamber_map import map_figure
from hspc_live.report.picking_list import write_picking_list
from hspc_live.stages.picking import LeftOut, Pick, PickingList

CLASSES = ("LT-HSC", "ST-HSC", "MPP")
CAMERA = CameraInfo(100, 100, "uint8", 0.5, 10.0, Modality.DIC, 45.0, 5000.0, "digital twin")
FACTS = ChamberFacts(
    CAMERA,
    StageInfo((-500.0, 500.0), (-500.0, 500.0), 0.1),
    ("transmitted",),
    np.array([[0.5, 0.0, -24.75], [0.0, 0.5, -24.75]]),
    np.zeros((6, 6)),
    tuple(StageTarget(i, 45.0 * i, 0.0) for i in range(3)),
)
# cell: (class or None, x, y, outcome, reason); those without a class are debris and what touches
CELLS = (
    ("LT-HSC", 10.0, 5.0, ChamberOutcome.LISTED, "gate"),
    ("LT-HSC", 60.0, -9.0, ChamberOutcome.LISTED, "gate"),
    ("LT-HSC", 40.0, 9.0, ChamberOutcome.LEFT_OUT, LeftOut.NEIGHBOUR_TOO_NEAR.value),
    ("MPP", 20.0, -15.0, ChamberOutcome.PASSED, "no_gate"),
    ("ST-HSC", -5.0, 0.0, ChamberOutcome.ABSTAINED, "low_score"),
    (None, 30.0, 0.0, ChamberOutcome.UNRESOLVED, "debris"),
    (None, 70.0, 0.0, ChamberOutcome.UNRESOLVED, "not_unique"),
)
ORDER = (1, 0)  # the path begins at cell 1


def cell(number: int) -> ChamberCell:
    said, x_um, y_um, outcome, reason = CELLS[number]
    scores = tuple(0.8 if name == said else 0.1 for name in CLASSES)
    return ChamberCell(
        number, x_um, y_um, 0.2, 4.0, 10, 0, number, ((0, number),), outcome, reason,
        "LT-HSC" if outcome is ChamberOutcome.LISTED else None,
        None if said is None else Classification(number, scores, said, 1), {"diameter_um": 8.0 + number / 10},
    )  # fmt: skip


def visit(number: int, pictured: bool) -> tuple[Visit, FieldObjects | None]:
    target = FACTS.plan[number]
    pixels = np.random.default_rng(number).integers(100, 140, (100, 100)).astype("u1")
    pictures = (Picture("transmitted", Frame(number, number * 10, 0, pixels)),) if pictured else ()
    settled = Settled("" if pictured else "still_moving", 2, 5, 0.1)
    seen = Visit(number, Phase.SCAN, target, target.x_um, target.y_um, settled, pictures)
    if not pictured:
        return seen, None
    objects = np.zeros(2, OBJECT_DTYPE)
    labels = np.zeros((100, 100), np.uint16)
    for row, x in enumerate((20, 60)):
        objects[row] = (x / 2, 20, 50, 8, 0.01, 120, 5, 0.4, x - 8, 32, x + 8, 48, 0)
        labels[32:48, x - 8 : x + 8] = row + 1
    none = np.empty((0, 0, 0), "u1")
    result = FrameResult(number, number * 10, objects, np.zeros((2, 16, 16), "u1"), none, none, 0)
    return seen, FieldObjects(result, np.ones(2, bool), ("", ""), labels, {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of three fields, the last of which never stood still, with everything a run leaves."""
    writer = ChamberWriter.create(
        tmp_path / "recording.h5", run_id="run-1", settings_json="{}", facts=FACTS, classes=CLASSES, card_yaml="{}",
        pipeline_id="", versions={}, crop_px=16,
    )  # fmt: skip
    for number in range(3):
        writer.field(*visit(number, pictured=number < 2))
    writer.cells([cell(number) for number in range(len(CELLS))])
    writer.revisited([Revisited(1, 3, "", 60.2, -9.0, 0.2, 0.4), Revisited(0, 3, "gone", *[np.nan] * 4)])
    writer.close({"frames": {}}, {})
    picks = tuple(
        Pick(
            place, number, "LT-HSC", "LT-HSC", (0.8, 0.1, 0.1), 0.8, CELLS[number][1], CELLS[number][2], 0.5, 8.0, 30.0,
            1.0, 60.0, 0, number,
        )
        for place, number in enumerate(ORDER, 1)
    )  # fmt: skip
    write_picking_list(PickingList(CLASSES, picks, ((2, LeftOut.NEIGHBOUR_TOO_NEAR),)), tmp_path, {})
    return tmp_path


@pytest.fixture
def evidence(folder: Path) -> Iterator[ChamberEvidence]:
    with gather_chamber(folder, {}) as found:
        yield found


def test_every_picture_is_written_and_shows_something(folder):
    paths = draw_chamber(folder, {})
    assert {"chamber_map.png", "sizes.png", "field_0001.png"} <= {path.name for path in paths}
    for path in paths:
        if path.suffix == ".png":
            assert imread(path)[..., :3].std() > 0.02
    assert draw_chamber(folder, {}) == paths  # again: replaced


def test_the_path_leads_from_pick_to_pick_in_order(evidence):
    axes = map_figure(evidence).axes[0]
    path = next(line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_marker() in ("None", None, ""))
    assert np.asarray(path.get_xydata()).tolist() == [[60.0, -9.0], [10.0, 5.0]]
    assert {text.get_text(): tuple(text.xy) for text in axes.texts} == {"1": (60.0, -9.0), "2": (10.0, 5.0)}


def test_cells_lie_at_their_stage_position_in_their_class_s_colour(evidence):
    axes = map_figure(evidence).axes[0]
    colours = style.class_colours(CLASSES)
    drawn = {
        tuple(place): to_hex(discs.get_facecolor()[0]).upper() if len(discs.get_facecolor()) else "open"
        for discs in axes.collections
        if isinstance(discs, EllipseCollection)
        for place in np.asarray(discs.get_offsets()).tolist()
    }
    assert len(drawn) == len(CELLS)
    assert drawn[10.0, 5.0] == drawn[60.0, -9.0] == colours["LT-HSC"]
    assert drawn[20.0, -15.0] == colours["MPP"]
    assert drawn[-5.0, 0.0] == "open"
    grey = [drawn[x, y] for x, y in ((40.0, 9.0), (30.0, 0.0), (70.0, 0.0))]
    assert all(len({colour[1:3], colour[3:5], colour[5:7]}) == 1 for colour in grey)


def test_the_words_count_what_is_shown(evidence):
    figure = map_figure(evidence)
    words = {text.get_text() for legend in figure.legends for text in legend.get_texts()}
    assert {
        "LT-HSC: 3",
        "ST-HSC: 0",
        "MPP: 1",
        "not sure enough: 1",
        "not recognised: touching, blurred …: 1",
        "no whole cell: debris, cut, clump: 1",
        "picked in this order: 2",
        "a neighbour too near: 1",
        "field of view: 2",
        "never stood still, no picture: 1",
    } == words
    said = [text.get_text() for text in figure.texts]
    assert "5 cells classified, 3 of them wanted (LT-HSC), 2 can be picked" in said
    assert any(text.startswith("Digital twin") for text in said)
    assert any(text.startswith("1 of 2 found again") for text in said)


@pytest.mark.parametrize("turn", [1.0, -1.0])
def test_the_map_lies_as_the_pictures_do(folder, turn):
    """A camera mirrored against the stage mirrors the map, so that right on the map is right on the screen."""
    with gather_chamber(folder, {}) as evidence:
        evidence.recording.facts.affine[:, 0] *= turn
        axes = map_figure(evidence).axes[0]
        low, high = axes.get_xlim()
        assert bool(low < high) is (turn > 0)
        assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_a_run_of_nothing_but_empty_fields_is_drawn(tmp_path):
    writer = ChamberWriter.create(
        tmp_path / "recording.h5", run_id="r", settings_json="{}", facts=FACTS, classes=CLASSES, card_yaml="{}",
        pipeline_id="", versions={}, crop_px=16,
    )  # fmt: skip
    writer.field(*visit(2, pictured=False))
    writer.cells([])
    writer.close({}, {})
    write_picking_list(PickingList(CLASSES, (), ()), tmp_path, {})
    assert [path.name for path in draw_chamber(tmp_path, {})] == ["chamber_map.png"]


def test_the_fields_to_show_are_those_with_picks_and_with_what_was_left_out(evidence):
    assert choose_fields(evidence)[0] == 0  # both picks lie in the first field


def test_beside_a_wanted_cell_stands_its_place_on_the_list_or_why_it_has_none(evidence):
    figure = seen_figure(evidence, 0)
    said = {text.get_text() for text in figure.axes[0].texts}
    assert {"pick 2\nLT-HSC 0.80", "pick 1\nLT-HSC 0.80"} <= said
    assert "LT-HSC: 2" in {text.get_text() for text in figure.legends[0].get_texts()}
    left_out = replace(evidence.cells[0], outcome=ChamberOutcome.LEFT_OUT, reason="neighbour_too_near", order=None)
    other = replace(evidence, cells=(left_out, *evidence.cells[1:]), listed=PickingList(CLASSES, (), ()))
    said = {text.get_text() for text in seen_figure(other, 0).axes[0].texts}
    assert "LT-HSC 0.80\na neighbour too near" in said


def test_the_table_of_all_cells_says_in_words_what_became_of_each(tmp_path):
    path = write_cells([cell(number) for number in range(len(CELLS))], CLASSES, tmp_path)
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [(row["class"], row["outcome"]) for row in rows] == [
        ("LT-HSC", "on the picking list"),
        ("LT-HSC", "on the picking list"),
        ("LT-HSC", "wanted, but cannot be picked"),
        ("MPP", "not wanted by any gate"),
        ("ST-HSC", "not sure enough which class"),
        ("", "not recognised"),
        ("", "not recognised"),
    ]
    assert [row["why"] for row in rows[-2:]] == ["debris", "too close to another cell"]
    assert "take it along" in rows[2]["why"] and rows[0]["why"] == ""
    assert (rows[0]["x_um"], rows[0]["score:LT-HSC"], rows[-1]["score:MPP"]) == ("10.00", "0.8000", "")
    with pytest.raises(OutputError, match="overwritten"):
        write_cells([], CLASSES, tmp_path)


def test_the_table_of_all_cells_has_their_light_in_each_further_channel(tmp_path):
    bright, dark, debris = (cell(number) for number in (0, 1, 5))
    cells = [
        replace(bright, features={**bright.features, "glow:gfp": 163.456}),
        replace(dark, features={**dark.features, "glow:gfp": -0.5}),
        replace(debris, features={**debris.features, "glow:gfp": float("nan")}),
    ]
    path = write_cells(cells, CLASSES, tmp_path, ("gfp",))
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [row["glow:gfp"] for row in rows] == ["163.46", "-0.50", ""]
