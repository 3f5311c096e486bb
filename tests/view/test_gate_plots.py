"""Gates on the plots of a window over made-up messages: dragged, taken away, and asked for only on confirmation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QEvent, QPointF, QSettings, Qt
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QApplication, QMessageBox

from hspc_live.settings.sort import PolygonGate, RangeGate
from hspc_live.view.connection import Connection
from hspc_live.view.window import Window

from .conftest import record, shown

OVERRIDES = [
    "sort.outlets=[{name: a, gate: {kind: and, of: [{kind: score, class_name: LT-HSC, min: 0.5}, "
    "{kind: range, feature: diameter_um, min: 8.5, max: 9.5}]}}]"
]


@pytest.fixture
def window(qtbot, about, tmp_path: Path) -> Iterator[Window]:
    """With a hundred cells, and a gate on their diameter."""
    made = Window(
        Connection(find=list), reports=tmp_path, settings=QSettings(str(tmp_path / "v.ini"), QSettings.Format.IniFormat)
    )
    made.stop_turning()
    made.model.attach(about(overrides=OVERRIDES))
    made.model.take(shown(0, cells=[record(number) for number in range(100)]))
    made.begin()
    made.show()
    made.left.setCurrentWidget(made.histogram)
    made.slowly()
    yield made
    made.close()
    made.deleteLater()


def drag(qtbot, plot, start: tuple[float, float], end: tuple[float, float]) -> None:
    """With the left button, from a place of the plot to another one."""
    box = plot.getPlotItem().vb
    first, last = (plot.mapFromScene(box.mapViewToScene(QPointF(*place))) for place in (start, end))
    none, left = Qt.MouseButton.NoButton, Qt.MouseButton.LeftButton
    steps = [(QEvent.Type.MouseMove, first, none, none), (QEvent.Type.MouseButtonPress, first, left, left)]
    steps += [(QEvent.Type.MouseMove, first + (last - first) * (part / 10), none, left) for part in range(1, 11)]
    for kind, at, button, buttons in [*steps, (QEvent.Type.MouseButtonRelease, last, left, none)]:
        place = QPointF(at)
        everywhere = QPointF(plot.viewport().mapToGlobal(at))
        event = QMouseEvent(kind, place, everywhere, button, buttons, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(plot.viewport(), event)
        qtbot.wait(20)  # moves that come too close together are left out


def diameter(window: Window) -> RangeGate:
    return next(leaf for _, _, leaf in window.model.draft.leaves() if isinstance(leaf, RangeGate))


def test_a_border_on_a_histogram_is_dragged_and_is_a_draft(qtbot, window: Window) -> None:
    panel = window.histogram
    assert panel.name.currentText() == "diameter_um" and not panel.bar.confirm.isEnabled()
    (_, (low, high)) = panel.plot.getPlotItem().vb.viewRange()
    middle = (low + high) / 2
    drag(qtbot, panel.plot, (8.5, middle), (9.0, middle))
    assert diameter(window).min == pytest.approx(9.0, abs=0.03) and diameter(window).max == 9.5
    assert "NOT in force" in panel.bar.state.text() and panel.bar.confirm.isEnabled()
    window.left.setCurrentWidget(window.scatter)
    window.slowly()
    assert "NOT in force" in window.scatter.bar.state.text(), "it is one draft, on whatever plot"


def test_a_narrowing_gate_is_taken_away_by_a_button_and_asked_for_once_confirmed(
    qtbot, window: Window, monkeypatch
) -> None:
    asked: list[str] = []
    window.left.setCurrentWidget(window.scatter)
    window.slowly()
    bar = window.scatter.bar
    bar._apply = asked.append
    window.scatter.new_polygon()
    bar.narrowing.aboutToShow.emit()
    words = [action.text() for action in bar.narrowing.actions()]
    assert words[0] == "a: 8.5 ≤ diameter_um ≤ 9.5" and "polygon of 4 corners" in words[1]
    bar.narrowing.actions()[1].trigger()
    assert not any(isinstance(leaf, PolygonGate) for _, _, leaf in window.model.draft.leaves())
    assert not window.model.draft.changed, "what was added and taken away again changes nothing"
    bar.narrowing.aboutToShow.emit()
    bar.narrowing.actions()[0].trigger()
    assert window.model.draft.changed and not bar.away.isEnabled(), "nothing more could be taken away"
    monkeypatch.setattr(QMessageBox, "exec", lambda _: QMessageBox.StandardButton.Apply)
    qtbot.mouseClick(bar.confirm, Qt.MouseButton.LeftButton)
    assert json.loads(asked[0])["outlets"][0]["gate"]["kind"] == "score"
