"""Histograms, latency against its deadline, and how the run has gone over the last minutes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QComboBox, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from hspc_live.view import look
from hspc_live.view.drafts import Line
from hspc_live.view.gate_bar import GateBar, border
from hspc_live.view.model import Model
from hspc_live.view.sums import percentile_ms

BINS = 60


def _plot(bottom: str, left: str) -> pg.PlotWidget:
    plot = pg.PlotWidget()
    plot.setMenuEnabled(False)
    plot.setMouseEnabled(x=False, y=False)
    plot.hideButtons()
    for side in ("bottom", "left"):
        plot.getAxis(side).enableAutoSIPrefix(False)
    plot.setLabel("bottom", bottom)
    plot.setLabel("left", left)
    return plot


def _mark(at: float, words: str, colour: str, high: float) -> pg.InfiniteLine:
    options = {"position": high, "color": colour, "fill": (0, 0, 0, 160), "movable": False}
    return pg.InfiniteLine(pos=at, angle=90, pen=pg.mkPen(colour, width=look.px(2)), label=words, labelOpts=options)


class HistogramPanel(QWidget):
    """How one score or feature is spread, by class, with the borders of the gates on it, to be moved.

    `apply` is called with the draft's outlets once a person has confirmed them.
    """

    def __init__(self, model: Model, apply: Callable[[str], None]) -> None:
        super().__init__()
        self._model = model
        self._drawn: tuple[object, ...] = ()
        self._borders: list[pg.InfiniteLine] = []
        self.bar = GateBar(model, apply, self.draw_gates)
        self.name = QComboBox()
        self.name.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self.name.setToolTip("Which score or feature is counted.")
        self.plot = _plot("", "cells")
        self.plot.getPlotItem().vb.setLimits(yMin=0)
        self._legend = self.plot.addLegend(offset=(-10, 10), labelTextSize=f"{look.points():g}pt")
        top = QHBoxLayout()
        top.addWidget(self.name)
        top.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 2, 4, 2)
        layout.addLayout(top)
        layout.addWidget(self.plot, 1)
        layout.addWidget(self.bar)

    def begin(self) -> None:
        """A run has been attached to."""
        before, names = self.name.currentText(), self._model.names()
        self.name.clear()
        self.name.addItems(names)
        self.name.setCurrentText(before if before in names else "diameter_um")
        self._drawn = ()

    def refresh(self) -> None:
        """Count anew if there are other cells, or another feature."""
        draft = self._model.draft
        now = (self._model.cells_version, self.name.currentText(), draft.outlets, draft.revision)
        self.bar.tell()
        if now == self._drawn or self._model.about is None or not now[1]:
            return
        before, self._drawn = self._drawn, now
        if before[:2] != now[:2]:
            self._draw_cells()
        self.draw_gates()

    def draw_gates(self) -> None:
        """Draw the draft's borders anew."""
        for item in self._borders:
            self.plot.removeItem(item)
        draft = self._model.draft
        self._borders = [border(line, partial(self._move, line)) for line in draft.lines(self.name.currentText(), None)]
        for item in self._borders:
            self.plot.addItem(item, ignoreBounds=True)

    def _move(self, line: Line, to: float) -> None:
        self._model.draft.move_line(line, to)
        self.draw_gates()
        self.bar.tell()

    def _draw_cells(self) -> None:
        about = self._model.about
        assert about is not None
        self.plot.clear()
        self._legend.clear()
        self.plot.setLabel("bottom", self.name.currentText())
        values = self._model.column(self.name.currentText())
        known = values[np.isfinite(values)]
        if not len(known):
            return
        edges = np.histogram_bin_edges(known, BINS)
        records = list(self._model.cells.values())
        named = np.array(
            [r.classification.predicted if r.classification is not None else "" for r in records], dtype=object
        )
        groups = {**look.class_colour_of(about.classes), "no verdict": look.REJECT}
        named[named == ""] = "no verdict"
        for name, colour in groups.items():
            if not (named == name).any():
                continue
            mine = values[(named == name) & np.isfinite(values)]
            counts, _ = np.histogram(mine, edges)
            brush = pg.mkColor(colour)
            brush.setAlpha(70)
            pen = pg.mkPen(colour, width=look.px(2))
            self.plot.plot(edges, counts, stepMode="center", pen=pen, fillLevel=0, brush=brush)
            self._legend.addItem(pg.PlotDataItem(pen=pg.mkPen(colour, width=look.px(4))), name)


class LatencyPanel(QWidget):
    """How long decisions took, with the middle, the slowest hundredth, and the moment after which it is too late."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model
        self._total = -1
        self.words = QLabel("no decision yet")
        self.words.setToolTip("p50: half of the decisions were faster. p99: 99 of 100 were. To the next whole ms.")
        self.plot = _plot("latency, ms", "decisions")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 2, 4, 2)
        layout.addWidget(self.words)
        layout.addWidget(self.plot, 1)

    def refresh(self) -> None:
        """Draw the counts anew if decisions were made."""
        shown, about = self._model.shown, self._model.about
        if shown is None or about is None or int(shown.latencies.sum()) == self._total:
            return
        counts = shown.latencies
        self._total = int(counts.sum())
        self.plot.clear()
        if not self._total:
            self.words.setText("no decision yet")
            return
        p50, p99 = percentile_ms(counts, 50), percentile_ms(counts, 99)
        assert p50 is not None
        assert p99 is not None
        deadline = about.deadline_ms
        since = "since mid-exposure" if about.live else "since hand-over"
        words = f"{self._total} decisions, {since}: p50 {_ms(p50)}, p99 {_ms(p99)}"
        self.words.setText(
            words + (f"; deadline {deadline:.0f} ms" if about.live else "; in replay nothing is too late")
        )
        ends = [p99 if math.isfinite(p99) else len(counts), 20.0, deadline if about.live else 0.0]
        last = min(len(counts), round(max(ends) * 1.15) + 1)
        self.plot.plot(
            np.arange(last + 1), counts[:last], stepMode="center", fillLevel=0, brush=look.GOOD, pen=pg.mkPen(look.GOOD)
        )
        for at, name, colour, high in ((p50, "p50", look.INK, 0.92), (p99, "p99", look.WARN, 0.78)):
            if math.isfinite(at):
                self.plot.addItem(_mark(at, name, colour, high))
        if about.live and deadline <= last:
            self.plot.addItem(_mark(deadline, "too late", look.BAD, 0.64))


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if math.isfinite(value) else "over 1 s"


class RatesPanel(QWidget):
    """Frames and cells a second, share of decisions in time, how full the buffer is, what was lost."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model
        self._drawn = (-1.0, 0)
        grid = QGridLayout(self)
        grid.setContentsMargins(4, 2, 4, 2)
        grid.setSpacing(2)
        self._curves: dict[str, pg.PlotDataItem] = {}
        rows = (
            ("frames_per_s", "frames/s", look.GOOD, "Frames that came from the camera."),
            ("cells_per_s", "cells/s", look.SIMULATED, "Objects that were seen as a cell at least once."),
            (
                "met",
                "in time, %",
                look.WARN,
                "Decisions before their cell was out of reach, since the start.",
            ),
            (
                "fill",
                "buffer, %",
                look.JUNCTION,
                "Places taken in the pixel buffer. Full: frames are dropped.",
            ),
            ("losses", "lost", look.BAD, "Frames dropped or lost, since the counter was set back."),
        )
        for number, (key, words, colour, tip) in enumerate(rows):
            plot = _plot("", words)
            plot.setToolTip(tip)
            plot.getAxis("left").setWidth(round(look.points() * 6))
            if key in ("met", "fill"):
                plot.setYRange(0, 100)
            else:
                plot.getPlotItem().vb.setLimits(yMin=0)
            if number == len(rows) - 1:
                plot.setLabel("bottom", "seconds ago")
            else:
                plot.getAxis("bottom").setStyle(showValues=False)
            grid.addWidget(plot, number, 0)
            grid.setRowStretch(number, 5 if number == len(rows) - 1 else 3)
            self._curves[key] = plot.plot(pen=pg.mkPen(colour, width=look.px(2), style=Qt.PenStyle.SolidLine))

    def refresh(self) -> None:
        """Draw the last minutes anew if there is another sample."""
        history = self._model.history
        if not history or (history[-1].at_s, len(history)) == self._drawn:
            return
        self._drawn = (history[-1].at_s, len(history))
        at = np.array([sample.at_s for sample in history])
        for key, curve in self._curves.items():
            factor = 100.0 if key in ("met", "fill") else 1.0
            curve.setData(at - at[-1], np.array([getattr(sample, key) for sample in history], float) * factor)
