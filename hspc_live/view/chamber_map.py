"""The map of a chamber in stage coordinates: fields, objects by class, the list and its way, where the stage is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGraphicsPathItem, QVBoxLayout, QWidget

from hspc_live.view import look
from hspc_live.view.chamber_model import ChamberModel
from hspc_live.view.image_panel import path_of
from hspc_live.view.outlines import Strokes
from hspc_live.wire.chamber_telemetry import Mark

REACH_PX = 10.0  # so near a click means an object
PLANNED, VISITED = "#33383f", "#5d646e"
NO_VERDICT = "#6b7178"
NUMBERS = 40  # of so many picks each has its number written beside it; of more, every so many-th


class ChamberMap(QWidget):
    """`choose` is called with a place that was clicked, in µm, how near an object counts, and whether it was twice."""

    def __init__(self, model: ChamberModel, choose: Callable[[float, float, float, bool], None]) -> None:
        super().__init__()
        self._model = model
        self._choose = choose
        self._number = -1
        self._turned = False
        self._numbers: list[pg.TextItem] = []
        self.plot = pg.PlotWidget()
        self.plot.setMenuEnabled(False)
        self.plot.setAspectLocked(True)
        for side, words in (("bottom", "stage x, µm"), ("left", "stage y, µm")):
            self.plot.getAxis(side).enableAutoSIPrefix(False)
            self.plot.setLabel(side, words)
        self.plot.setToolTip(
            "Click chooses an object or a place; a double click asks whether to drive the stage there. "
            "Wheel: nearer or farther. Drag: move the map. Ctrl+0 shows all."
        )
        self._fields = {
            "planned": self._outline(PLANNED, Qt.PenStyle.SolidLine),
            "visited": self._outline(VISITED, Qt.PenStyle.SolidLine),
            "blind": self._outline(look.BAD, Qt.PenStyle.DotLine),
            "here": self._outline(look.JUNCTION, Qt.PenStyle.SolidLine, 2.0),
        }
        self._way = pg.PlotDataItem(pen=pg.mkPen(look.INK, width=look.px(1), style=Qt.PenStyle.DotLine))
        self._groups: dict[str, pg.ScatterPlotItem] = {}
        self._listed = pg.ScatterPlotItem(size=look.px(15), pen=pg.mkPen("w", width=look.px(1.5)), brush=None)
        self._chosen = pg.ScatterPlotItem(
            size=look.px(24), pen=pg.mkPen(look.JUNCTION, width=look.px(2.5)), brush=None, symbol="o"
        )
        for item in (self._way, self._listed, self._chosen):
            self.plot.addItem(item)
        self._listed.setZValue(20)
        self._chosen.setZValue(30)
        self.plot.scene().sigMouseClicked.connect(self._clicked)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.plot)

    def _outline(self, colour: str, style: Qt.PenStyle, width: float = 1.0) -> QGraphicsPathItem:
        item = QGraphicsPathItem()
        item.setPen(pg.mkPen(colour, width=look.px(width), style=style))
        self.plot.addItem(item, ignoreBounds=True)
        return item

    def begin(self) -> None:
        """A run has been attached to: the map lies as its pictures do, as far as the camera is not turned."""
        about = self._model.about
        self._number = -1
        if about is None:
            return
        (xx, xy, _), (_, yy, _) = about.head.affine
        turned = abs(xy) > abs(xx)
        box = self.plot.getPlotItem().vb
        box.invertX(xx < 0 and not turned)
        box.invertY(yy >= 0 and not turned)
        self.plot.setLabel("left", "stage y, µm" if turned else "stage y, µm, as in the pictures")
        for group in self._groups.values():
            group.clear()

    def refresh(self) -> None:
        """Draw the newest message if there is another one."""
        shown, about = self._model.shown, self._model.about
        if shown is None or about is None or shown.told.number == self._number:
            return
        first, self._number = self._number < 0, shown.told.number
        seen = shown.visited[shown.visited[:, 2] > 0]
        here = shown.told.standing.here_um
        places = {
            "planned": shown.planned,
            "visited": seen[:, :2],
            "blind": shown.visited[shown.visited[:, 2] == 0, :2],
            "here": np.array([here] if here is not None else []).reshape(-1, 2),
        }
        for name, at in places.items():
            self._fields[name].setPath(path_of(Strokes.of(_closed(about.corners_um(x, y)) for x, y in at.tolist())))
        self._draw_objects()
        lines = shown.told.listed
        x, y = np.array([line.x_um for line in lines]), np.array([line.y_um for line in lines])
        self._way.setData(x, y)
        self._listed.setData(x=x, y=y)
        for item in self._numbers:
            self.plot.removeItem(item)
        every = -(-len(lines) // NUMBERS)
        self._numbers = [pg.TextItem(str(line.order), color="w", anchor=(0.0, 1.0)) for line in lines[:: max(1, every)]]
        for item, line in zip(self._numbers, lines[:: max(1, every)], strict=True):
            item.setPos(line.x_um, line.y_um)
            self.plot.addItem(item, ignoreBounds=True)
        self.draw_chosen()
        if first:
            self.show_all()

    def _draw_objects(self) -> None:
        shown, about = self._model.shown, self._model.about
        assert shown is not None
        assert about is not None
        marks = shown.marks
        kind, mark = marks.kinds[:, 1], marks.kinds[:, 2]
        colours = look.class_colour_of(about.head.classes)
        sure = np.isin(mark, (Mark.CLASSIFIED, Mark.LISTED, Mark.LEFT_OUT))
        groups: list[tuple[str, NDArray[np.bool_], str, float, bool]] = [
            ("no cell", mark == Mark.NO_CELL, VISITED, 3.0, True),
            ("not recognised", np.isin(mark, (Mark.NOT_RECOGNISED, Mark.WAITING)), NO_VERDICT, 6.0, True),
            ("not sure", mark == Mark.UNSURE, look.INK, 6.0, False),
        ]
        for place, name in enumerate(about.head.classes):
            groups.append((name, sure & (kind == place), colours[name], 7.5, True))
        for name, mine, colour, size, filled in groups:
            if name not in self._groups:
                pen, brush = (None, pg.mkBrush(colour)) if filled else (pg.mkPen(colour, width=look.px(1.0)), None)
                self._groups[name] = pg.ScatterPlotItem(size=look.px(size), pen=pen, brush=brush)
                self.plot.addItem(self._groups[name])
            self._groups[name].setData(x=marks.places[mine, 0], y=marks.places[mine, 1])
        out = mark == Mark.LEFT_OUT
        if "left out" not in self._groups:
            self._groups["left out"] = pg.ScatterPlotItem(size=look.px(9), symbol="x", pen=None, brush=pg.mkBrush("w"))
            self.plot.addItem(self._groups["left out"])
        self._groups["left out"].setData(x=marks.places[out, 0], y=marks.places[out, 1])

    def draw_chosen(self) -> None:
        """Ring what a person has chosen."""
        spot = self._model.chosen
        self._chosen.setData(x=[] if spot is None else [spot.x_um], y=[] if spot is None else [spot.y_um])

    def show_all(self) -> None:
        """The whole of the planned scan."""
        shown, about = self._model.shown, self._model.about
        if shown is None or about is None or not len(shown.planned):
            return
        corners = np.concatenate([about.corners_um(x, y) for x, y in shown.planned.tolist()])
        (x0, y0), (x1, y1) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        self.plot.setRange(xRange=(x0, x1), yRange=(y0, y1), padding=0.02)

    def _clicked(self, event: object) -> None:
        """`event` is pyqtgraph's MouseClickEvent."""
        if event.button() != Qt.MouseButton.LeftButton:  # type: ignore[attr-defined]
            return
        box = self.plot.getPlotItem().vb
        position = event.scenePos()  # type: ignore[attr-defined]
        if not box.sceneBoundingRect().contains(position):
            return
        at = box.mapSceneToView(position)
        reach_um = look.px(REACH_PX) * float(box.viewPixelSize()[0])
        self._choose(at.x(), at.y(), reach_um, bool(event.double()))  # type: ignore[attr-defined]


def _closed(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([corners, corners[:1]])


def counted(classes: Iterable[tuple[str, int]], colours: dict[str, str]) -> str:
    """The map's legend as rich text: each class in its colour, with its number."""
    return " &nbsp; ".join(f'<span style="color:{colours[name]}">●</span> {name} {count}' for name, count in classes)
