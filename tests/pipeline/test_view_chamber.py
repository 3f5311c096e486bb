"""The chamber view over a chamber run under way and over a finished one: real windows, processes, sockets and files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import QPointF, Qt
from PySide6.QtWidgets import QMessageBox

from chambers import GIVEN
from hspc_live.view.connection import Bond, Connection
from hspc_live.view.past import FinishedChamber
from hspc_live.view.window import Window

PATIENCE_MS = 60_000


@pytest.fixture
def begin(start, tmp_path: Path) -> Callable[..., tuple[object, str]]:
    """Starts a chamber run and gives it with its control address."""
    config = tmp_path / "chamber.yaml"
    config.write_text(GIVEN)

    def make(*arguments: str):
        run = start("run", config, "--revisit", "--out", tmp_path / "out", *arguments)
        return run, re.findall(r"ipc://\S+", run.until("control"))[0]

    return make


def wait(qtbot, holds: Callable[[], bool]) -> None:
    qtbot.waitUntil(holds, timeout=PATIENCE_MS)


def click(qtbot, window: Window, x_um: float, y_um: float, *, twice: bool = False) -> None:
    """On the map, as a person does."""
    plot = window.chamber.map.plot
    at = plot.mapFromScene(plot.getPlotItem().vb.mapViewToScene(QPointF(x_um, y_um)))
    qtbot.mouseClick(plot.viewport(), Qt.MouseButton.LeftButton, pos=at)
    if twice:
        qtbot.mouseDClick(plot.viewport(), Qt.MouseButton.LeftButton, pos=at)
        qtbot.mouseRelease(plot.viewport(), Qt.MouseButton.LeftButton, pos=at)  # which Qt's own test leaves out


def test_a_person_watches_the_scan_chooses_a_cell_and_drives_the_stage_to_it(qtbot, screen, begin, start, monkeypatch):
    run, address = begin("--stay")
    window = screen(Connection(address))
    chamber, model = window.chamber, window.chamber_model
    asked: list[str] = []

    def answer(box: QMessageBox) -> QMessageBox.StandardButton:
        asked.append(box.text())
        return answers.pop(0)

    answers = [QMessageBox.StandardButton.Cancel, *[QMessageBox.StandardButton.Yes] * 3]
    monkeypatch.setattr(QMessageBox, "exec", answer)
    wait(qtbot, lambda: model.shown is not None)
    assert window.is_chamber and chamber.isVisible() and not window.sort.isVisible()
    wait(qtbot, lambda: "the stage is yours" in chamber.doing.text())
    assert "SIMULATION" in window.signs and chamber.list.rowCount() > 3
    assert chamber.picture.image.image.shape == (512, 512)

    line = model.shown.told.listed[1]
    click(qtbot, window, line.x_um, line.y_um)
    wait(qtbot, lambda: model.chosen is not None)
    assert model.chosen.cell == line.cell and chamber.list.currentRow() == 1
    assert f"number {line.order} of the list" in chamber.chosen.text()
    qtbot.mouseClick(chamber.drive, Qt.MouseButton.LeftButton)
    assert len(asked) == 1 and "Drive the stage" in asked[0] and window.wishes.waiting == 0, "not confirmed, not sent"
    qtbot.mouseClick(chamber.drive, Qt.MouseButton.LeftButton)
    wait(qtbot, lambda: model.shown.told.standing.here_um == pytest.approx((line.x_um, line.y_um), abs=0.5))
    wait(qtbot, lambda: "the stage stands at" in chamber.answer.text())

    first = model.shown.told.standing.driven
    click(qtbot, window, 20.0, 30.0, twice=True)  # a place, or what lies nearest to it
    wait(qtbot, lambda: len(asked) == 3)
    wait(qtbot, lambda: model.shown.told.standing.driven not in (first, "") and not model.no_driving(Bond.ATTACHED))
    chamber.choose(model.nearest(4e6, 0.0, 1.0))
    chamber.ask_drive()
    wait(qtbot, lambda: "outside the limits of travel" in chamber.answer.text())

    page = window.save_report()
    assert page is not None and page.read_text().count("<img") == 3
    assert json.loads((page.parent / "metrics.json").read_text())["listed"] == len(model.shown.told.listed)
    assert start("control", "end", "--at", address).end()[0] == 0
    code, _, err = run.end()
    assert code == 0, err
    wait(qtbot, lambda: "CONNECTION LOST" in window.signs)
    assert not chamber.drive.isEnabled() and "not attached" in chamber.why_not.text()


def test_while_the_run_moves_the_stage_nobody_else_does(qtbot, screen, begin):
    area = "chamber.tiling.area={kind: rectangle, x0_um: -600, y0_um: -600, width_um: 1200, height_um: 1200}"
    run, address = begin("--set", area, "--set", "camera.twin.width_mm=1.4", "--set", "camera.twin.height_mm=1.4")
    window = screen(Connection(address))
    wait(qtbot, lambda: len(window.chamber_model.shown.marks.scores if window.chamber_model.shown else ()) > 5)
    assert window.chamber_model.shown.told.standing.doing == "scan"
    window.chamber.choose(window.chamber_model.nearest(0.0, 0.0, 1.0))
    assert not window.chamber.drive.isEnabled() and "--stay" in window.chamber.why_not.text()
    window.chamber.ask_drive()
    assert "the stage is not driven" in window.chamber.answer.text() and window.wishes.waiting == 0
    assert "not classified" not in window.chamber.legend.text()
    qtbot.mouseClick(window.chamber.stop, Qt.MouseButton.LeftButton)
    code, _, err = run.end()
    assert code == 130 and "(view)" in err, err


def test_a_finished_run_shows_map_and_list_and_says_that_there_is_no_stage(qtbot, screen, begin, tmp_path):
    run, _ = begin("--json")
    code, out, err = run.end()
    assert code == 0, err
    listed = json.loads(out)["picking"]["listed"]
    window = screen(FinishedChamber(tmp_path / "out" / "recording.h5"))
    chamber = window.chamber
    wait(qtbot, lambda: chamber.list.rowCount() == listed > 3)
    assert window.signs[0] == "FINISHED" and "CONNECTION LOST" not in window.signs
    for button in (chamber.drive, chamber.stop, chamber.end):
        assert not button.isEnabled()
    chamber.list.selectRow(2)
    line = window.chamber_model.shown.told.listed[2]
    assert window.chamber_model.chosen.cell == line.cell
    assert chamber.picture.image.image.shape == (512, 512), "the field that shows the cell"
    assert "there is no stage to drive" in chamber.why_not.text()
    click(qtbot, window, line.x_um, line.y_um, twice=True)
    wait(qtbot, lambda: "the stage is not driven" in chamber.answer.text())
