"""One picture of a chamber: the newest, or the one that shows the chosen cell, which is ringed; with a scale bar."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QRectF, Qt
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from hspc_live.core.values import Pixels
from hspc_live.report.style import nice_length
from hspc_live.view import look
from hspc_live.view.image_panel import GROUND, levels_of


class FieldPicture(QWidget):
    """The picture with a few words above it."""

    def __init__(self) -> None:
        super().__init__()
        self.words = QLabel("no picture yet")
        self.view = pg.PlotWidget()
        self.view.setMenuEnabled(False)
        self.view.setAspectLocked(True)
        self.view.invertY(True)
        self.view.hideAxis("left")
        self.view.hideAxis("bottom")
        self.image = pg.ImageItem()
        self._ring = pg.ScatterPlotItem(size=look.px(30), pen=pg.mkPen(look.JUNCTION, width=look.px(2)), brush=None)
        self._bar = pg.PlotDataItem(pen=pg.mkPen("w", width=look.px(4)))
        self._bar_words = pg.TextItem(color="w", anchor=(0.5, 1.0), fill=GROUND)
        self.view.addItem(self.image)
        for item in (self._ring, self._bar, self._bar_words):
            self.view.addItem(item, ignoreBounds=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.words)
        layout.addWidget(self.view, 1)
        self.words.setTextFormat(Qt.TextFormat.PlainText)
        self._shape: tuple[int, ...] = ()

    def show_picture(self, pixels: Pixels, um_per_px: float, words: str, ring: tuple[float, float] | None) -> None:
        """`ring` is what is looked for, in pixels; None: nothing."""
        self.words.setText(words)
        self.image.setVisible(bool(pixels.size))
        self._ring.setData(x=[] if ring is None else [ring[0] + 0.5], y=[] if ring is None else [ring[1] + 0.5])
        if not pixels.size:
            return
        self.image.setImage(pixels, levels=levels_of(pixels))
        if pixels.shape == self._shape:
            return
        self._shape = pixels.shape
        height, width = pixels.shape
        self.view.setRange(QRectF(0, 0, width, height), padding=0.01)
        length = nice_length(width * um_per_px)
        x0, y0 = width * 0.03, height * 0.95
        self._bar.setData(np.array([x0, x0 + length / um_per_px]), np.array([y0, y0]))
        self._bar_words.setText(f"{length:g} µm")
        self._bar_words.setPos(x0 + length / um_per_px / 2, y0)
