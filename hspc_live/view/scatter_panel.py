"""Two scores or features against each other, and the gates on them: moved by mouse, in force when confirmed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pyqtgraph as pg
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from hspc_live.core.errors import SettingsError
from hspc_live.settings.sort import PolygonGate, RangeGate
from hspc_live.stages.gate_tree import SCORE_PREFIX
from hspc_live.view import look
from hspc_live.view.drafts import Line, Polygon
from hspc_live.view.gate_bar import GateBar, border
from hspc_live.view.model import Model

BINS = 90
FEW = 1500  # cells up to which single points are drawn instead of their density


class ScatterPanel(QWidget):
    """The plot. `apply` is called with the draft's outlets once a person has confirmed them."""

    def __init__(self, model: Model, apply: Callable[[str], None]) -> None:
        super().__init__()
        self._model = model
        self._drawn: tuple[object, ...] = ()
        self._gates: list[pg.GraphicsObject] = []
        self.across, self.up = QComboBox(), QComboBox()
        self.outlet = QComboBox()
        for box, words in ((self.across, "What runs to the right."), (self.up, "What runs upwards.")):
            box.setToolTip(words)
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
            box.currentIndexChanged.connect(self._other_axes)
        self.outlet.setToolTip("Which outlet a new range or polygon narrows.")
        self.add_range = QPushButton("+ range")
        self.add_range.setToolTip("Narrow the outlet by a range of the feature to the right; move its two ends.")
        self.add_polygon = QPushButton("+ polygon")
        self.add_polygon.setToolTip("Narrow the outlet by a polygon; drag its corners, click a side for a new one.")
        self.bar = GateBar(model, apply, self.draw_gates)
        self.add_range.clicked.connect(self.new_range)
        self.add_polygon.clicked.connect(self.new_polygon)
        self.plot = pg.PlotWidget()
        self.plot.setMenuEnabled(False)
        for side in ("bottom", "left"):
            self.plot.getAxis(side).enableAutoSIPrefix(False)
        self.density = pg.ImageItem()
        self.density.setColorMap(pg.colormap.get("viridis"))
        self.points = pg.ScatterPlotItem(size=look.px(4), pen=None)
        self.density.hide()
        self.plot.addItem(self.density)
        self.plot.addItem(self.points)
        self._arrange()

    def _arrange(self) -> None:
        top = QHBoxLayout()
        first: tuple[QWidget, ...] = (self.across, QLabel("against"), self.up)
        last: tuple[QWidget, ...] = (self.outlet, self.add_range, self.add_polygon)
        for widget in first:
            top.addWidget(widget)
        top.addStretch(1)
        for widget in last:
            top.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 2, 4, 2)
        layout.setSpacing(2)
        layout.addLayout(top)
        layout.addWidget(self.plot, 1)
        layout.addWidget(self.bar)

    def begin(self) -> None:
        """A run has been attached to: its classes and outlets."""
        names = self._model.names()
        kept = [box.currentText() for box in (self.across, self.up)]
        first = [names[0] if names else "", "diameter_um"]
        for box, before, default in zip((self.across, self.up), kept, first, strict=True):
            box.blockSignals(True)
            box.clear()
            box.addItems(names)
            box.setCurrentText(before if before in names else default)
            box.blockSignals(False)
        self.outlet.clear()
        self.outlet.addItems([outlet.name for outlet in self._model.draft.outlets])
        self._other_axes()

    def refresh(self) -> None:
        """Draw new cells and other gates, if there are any."""
        model = self._model
        if model.about is None:
            return
        draft = model.draft
        now = (model.cells_version, self.across.currentText(), self.up.currentText(), draft.outlets, draft.revision)
        self.bar.tell()
        if now == self._drawn or not self.across.currentText():
            return
        others = [outlet.name for outlet in draft.outlets]
        if others != [self.outlet.itemText(at) for at in range(self.outlet.count())]:
            self.outlet.clear()
            self.outlet.addItems(others)
        if not self._drawn or self._drawn[:3] != now[:3]:
            self._draw_cells()
        if not self._drawn or self._drawn[1:] != now[1:]:
            self.draw_gates()
        self._drawn = now

    def _draw_cells(self) -> None:
        x, y = self._model.column(self.across.currentText()), self._model.column(self.up.currentText())
        known = np.isfinite(x) & np.isfinite(y)
        x, y = x[known], y[known]
        self.points.clear()
        self.density.setVisible(len(x) > FEW)  # what is hidden does not count for the range
        if not len(x):
            return
        if len(x) <= FEW:
            classes = self._model.about.classes if self._model.about is not None else ()
            colours = {name: pg.mkBrush(colour) for name, colour in look.class_colour_of(classes).items()}
            other = pg.mkBrush(look.REJECT)
            records = [record for record, keep in zip(self._model.cells.values(), known, strict=True) if keep]
            brushes = [
                colours.get(record.classification.predicted, other) if record.classification is not None else other
                for record in records
            ]
            self.points.setData(x=x, y=y, brush=brushes)
            return
        counts, x_edges, y_edges = np.histogram2d(x, y, bins=BINS)
        self.density.setImage(np.log1p(counts.T), autoLevels=True)
        self.density.setRect(
            float(x_edges[0]), float(y_edges[0]), float(x_edges[-1] - x_edges[0]), float(y_edges[-1] - y_edges[0])
        )

    def draw_gates(self) -> None:
        """Draw the draft's gates anew."""
        for item in self._gates:
            self.plot.removeItem(item)
        self._gates = []
        draft = self._model.draft
        for line in draft.lines(self.across.currentText(), self.up.currentText()):
            self._gates.append(border(line, partial(self._move_line, line)))
        for polygon in draft.polygons(self.across.currentText(), self.up.currentText()):
            self._gates.append(self._polygon(polygon))
        for item in self._gates:
            self.plot.addItem(item, ignoreBounds=True)

    def _polygon(self, polygon: Polygon) -> pg.PolyLineROI:
        item = pg.PolyLineROI(polygon.vertices, closed=True, pen=pg.mkPen(look.JUNCTION, width=look.px(2)))
        item.sigRegionChangeFinished.connect(lambda roi: self._move_polygon(polygon, roi))
        return item

    def _move_line(self, line: Line, to: float) -> None:
        self._model.draft.move_line(line, to)
        self.draw_gates()
        self.bar.tell()

    def _move_polygon(self, polygon: Polygon, roi: pg.PolyLineROI) -> None:
        at = [self.plot.getPlotItem().vb.mapSceneToView(point) for _, point in roi.getSceneHandlePositions()]
        self._model.draft.move_polygon(polygon, [(float(f"{p.x():.6g}"), float(f"{p.y():.6g}")) for p in at])
        self.bar.tell()

    def new_range(self) -> None:
        """Narrow the chosen outlet by a range of x, over the middle of what is seen."""
        (low, high), _ = self.plot.getPlotItem().vb.viewRange()
        quarter = (high - low) / 4
        name = self.across.currentText()
        self._narrow(RangeGate(kind="range", feature=name, min=low + quarter, max=high - quarter))

    def new_polygon(self) -> None:
        """Narrow the chosen outlet by a rectangle in the middle of what is seen."""
        (x0, x1), (y0, y1) = self.plot.getPlotItem().vb.viewRange()
        dx, dy = (x1 - x0) / 4, (y1 - y0) / 4
        corners = ((x0 + dx, y0 + dy), (x1 - dx, y0 + dy), (x1 - dx, y1 - dy), (x0 + dx, y1 - dy))
        self._narrow(
            PolygonGate(kind="polygon", x=self.across.currentText(), y=self.up.currentText(), vertices=corners)
        )

    def _narrow(self, gate: RangeGate | PolygonGate) -> None:
        try:
            self._model.draft.add(self.outlet.currentText(), gate)
        except SettingsError as error:
            self.bar.state.setText(str(error))
            return
        self.refresh()

    def _other_axes(self) -> None:
        self.plot.setLabel("bottom", self.across.currentText())
        self.plot.setLabel("left", self.up.currentText())
        self.plot.getPlotItem().enableAutoRange()
        if self.across.currentText().startswith(SCORE_PREFIX):
            self.plot.setXRange(0.0, 1.0)
        if self.up.currentText().startswith(SCORE_PREFIX):
            self.plot.setYRange(0.0, 1.0)
        self._drawn = ()
