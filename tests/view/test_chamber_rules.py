"""What the screen makes of a chamber's messages: places, words, signs. No window."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from hspc_live.core.errors import WireError
from hspc_live.view.about import ChamberAbout, about
from hspc_live.view.banner import chamber_banners
from hspc_live.view.chamber_model import NO_STAGE, ChamberModel, Spot
from hspc_live.view.connection import Bond
from hspc_live.wire.chamber_telemetry import (
    ChamberHead,
    ChamberShown,
    ChamberStanding,
    ChamberTelemetry,
    Listed,
    Mark,
    Marks,
    pack_chamber,
    unpack_chamber,
)

from .conftest import CLASSES


def head(run: str = "run-1", **changes: Any) -> ChamberHead:
    given: dict[str, Any] = {
        "run": run, "name": "c", "show": "ipc:///nowhere/show.sock", "live": True, "classes": CLASSES,
        "engine": "torch-eager/cpu", "simulated": True, "affine": ((0.5, 0.0, -50.0), (0.0, 0.5, -25.0)),
        "width_px": 200, "height_px": 100, "um_per_px": 0.5, "recording": None,
    }  # fmt: skip
    return ChamberHead(**{**given, **changes})


def standing(**changes: Any) -> ChamberStanding:
    given: dict[str, Any] = {
        "doing": "scan", "ending": "", "planned": 4, "visited": 1, "no_driving": "the run moves it", "driven": "",
        "here_um": (0.0, 0.0), "books": "{}", "alarms": {},
    }  # fmt: skip
    return ChamberStanding(**{**given, **changes})


def message(
    number: int, cells: list[tuple[int, float, float, int, Mark]], *, listed: list[Listed] | None = None, **stands: Any
) -> ChamberShown:
    """`cells` are number, x, y, class, mark; every radius is 4 µm. It has been through the wire."""
    marks = Marks(
        np.array([(x, y, 4.0) for _, x, y, _, _ in cells]).reshape(-1, 3),
        np.array([(cell, said, mark, 0) for cell, _, _, said, mark in cells], np.int32).reshape(-1, 4),
        np.array([0.9] * len(cells), np.float32),
    )
    told = ChamberTelemetry(number, number, 0, listed or [], standing(**stands))
    arrays = [np.zeros((100, 200), np.uint8), np.zeros((4, 2)), np.zeros((1, 3))]
    return unpack_chamber(pack_chamber(told, arrays, marks, "run-1"))


@pytest.fixture
def model() -> ChamberModel:
    made = ChamberModel()
    made.attach(ChamberAbout(head(), "ipc:///nowhere/control.sock"))
    return made


def test_a_click_means_the_object_under_it_or_the_bare_place(model: ChamberModel) -> None:
    model.take(message(0, [(-1, 0.0, 0.0, 0, Mark.CLASSIFIED), (-1, 30.0, 0.0, 1, Mark.UNSURE)]))
    assert model.nearest(2.0, 3.0, 1.0).row == 0, "inside its outline"
    assert model.nearest(25.5, 0.0, 1.0).row == 1, "just outside, but within reach"
    assert model.nearest(15.0, 0.0, 1.0) == Spot(15.0, 0.0)
    assert model.classes() == {"LT-HSC": 1, "ST-HSC": 0, "MPP": 0}, "of whom it is not sure does not count"


def test_what_was_chosen_stays_what_it_was_when_the_list_comes(model: ChamberModel) -> None:
    model.take(message(0, [(-1, 0.0, 0.0, 0, Mark.CLASSIFIED), (-1, 30.0, 0.0, 1, Mark.CLASSIFIED)]))
    model.chosen = model.nearest(30.0, 0.0, 1.0)
    line = Listed(1, 7, "all", 31.0, 0.5, "found, moved 1.1 µm")
    model.take(message(1, [(7, 30.0, 0.0, 1, Mark.LISTED), (8, 0.0, 0.0, 0, Mark.CLASSIFIED)], listed=[line]))
    assert model.chosen == Spot(30.0, 0.0), "rows have changed their meaning, so only the place is left"
    model.chosen = model.spot_of(7)
    assert model.chosen is not None and (model.chosen.x_um, model.chosen.y_um) == (31.0, 0.5), "where it lies now"
    said = model.words(model.chosen)
    assert "cell 7" in said and "number 1 of the list" in said and "moved 1.1 µm" in said
    model.take(message(4, [(8, 0.0, 0.0, 0, Mark.CLASSIFIED), (7, 30.0, 0.0, 1, Mark.LISTED)], listed=[line]))
    assert model.chosen is not None and model.chosen.row == 1 and model.missed == 2


def test_what_was_chosen_is_not_another_object_when_the_list_comes_and_is_empty(model: ChamberModel) -> None:
    model.take(message(0, [(-1, 0.0, 0.0, 0, Mark.CLASSIFIED), (-1, 30.0, 0.0, 1, Mark.CLASSIFIED)]))
    model.chosen = model.nearest(30.0, 0.0, 1.0)
    model.take(message(1, [(-1, 0.0, 0.0, 0, Mark.CLASSIFIED), (-1, 30.0, 0.0, 1, Mark.CLASSIFIED)]))
    assert model.chosen.row == 1, "the scan goes on"
    model.take(message(2, [(7, 30.0, 0.0, 1, Mark.CLASSIFIED), (8, 0.0, 0.0, 0, Mark.CLASSIFIED)]))
    assert model.chosen == Spot(30.0, 0.0)
    assert model.words(model.chosen) == "place (30.0, 0.0) µm"


def test_why_the_stage_is_not_driven(model: ChamberModel) -> None:
    assert "nothing has come" in model.no_driving(Bond.ATTACHED)
    model.take(message(0, []))
    assert model.no_driving(Bond.ATTACHED) == "the run moves it"
    model.take(message(1, [], no_driving=""))
    assert model.no_driving(Bond.ATTACHED) == ""
    assert "not attached" in model.no_driving(Bond.SEARCHING)
    assert model.no_driving(Bond.FINISHED) == NO_STAGE


def test_another_run_begins_with_an_empty_map(model: ChamberModel) -> None:
    model.take(message(0, [(-1, 0.0, 0.0, 0, Mark.CLASSIFIED)]))
    model.chosen = model.nearest(0.0, 0.0, 1.0)
    model.attach(ChamberAbout(head("run-2")))
    assert model.shown is None and model.chosen is None and model.nearest(0.0, 0.0, 9.0).row == -1


def test_signs_of_a_chamber(model: ChamberModel) -> None:
    def words(bond: Bond = Bond.ATTACHED, silent_s: float = 0.0) -> list[str]:
        return [sign.text for sign in chamber_banners(model, bond, "gone", silent_s)]

    assert words() == ["SIMULATION", "CPU ENGINE"]
    model.take(message(0, [], alarms={"stage_unsteady": 1}))
    assert words()[0] == "STAGE UNSTEADY"
    assert words(Bond.SEARCHING)[0] == "CONNECTION LOST"
    assert words(silent_s=4.0)[0] == "NO WORD FOR 4 s"
    assert "FINISHED" in words(Bond.FINISHED) and "CONNECTION LOST" not in words(Bond.FINISHED)


def test_a_field_lies_around_the_stage_as_the_camera_is_mounted() -> None:
    corners = ChamberAbout(head()).corners_um(1000.0, 2000.0)
    assert corners[0].tolist() == [949.75, 1974.75] and corners[2].tolist() == [1049.75, 2024.75]


def test_what_a_run_tells_of_itself_is_believed_only_where_it_is_whole() -> None:
    told = {"mode": "chamber", "head": {"run": "run-1"}}
    with pytest.raises(ValueError, match="name"):
        about(json.dumps(told), "ipc:///nowhere/control.sock")


def test_a_message_that_contradicts_itself_is_refused() -> None:
    whole = message(0, [(1, 0.0, 0.0, 0, Mark.LISTED)])
    short = Marks(whole.marks.places[:0], whole.marks.kinds, whole.marks.scores)
    with pytest.raises(WireError, match="contradict"):
        unpack_chamber(pack_chamber(whole.told, [whole.pixels, whole.planned, whole.visited], short, "run-1"))
    with pytest.raises(WireError, match="6 are right"):
        unpack_chamber(pack_chamber(whole.told, [whole.pixels, whole.planned], whole.marks, "run-1"))
