"""The live image: contrast, outlines by class, the way each object has come, rejects in grey with their reason."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QPainterPath
from PySide6.QtWidgets import QCheckBox, QGraphicsPathItem, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from hspc_live.core.values import Pixels, Reject
from hspc_live.report.style import REJECT_WORDS, nice_length
from hspc_live.view import look
from hspc_live.view.model import Model
from hspc_live.view.outlines import Strokes, outlines, tails
from hspc_live.view.words_item import Word, WordsItem
from hspc_live.wire.telemetry import Seen, Shown

UNKNOWN = ""
GROUND = (0, 0, 0, 150)  # behind words on a picture that may be bright
LABELS = 60  # names written beside objects; a frame with more is unreadable anyhow
LEVELS_EVERY = 25  # frames between two looks at the contrast


class ImagePanel(QWidget):
    """The newest frame and what was found in it."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model
        self._number = -1
        self._frames = 0
        self._window_px = 0
        self._um = 1.0
        self._items: dict[str, QGraphicsPathItem] = {}
        self._ways: dict[str, QGraphicsPathItem] = {}
        self.view = pg.GraphicsLayoutWidget()
        self.plot = self.view.addPlot()
        self.plot.setAspectLocked(True)
        self.plot.invertY(True)
        self.plot.hideAxis("left")
        self.plot.hideAxis("bottom")
        self.plot.setMenuEnabled(False)
        self.image = pg.ImageItem()
        self.plot.addItem(self.image)
        self.words = WordsItem()
        self.plot.addItem(self.words, ignoreBounds=True)
        self._bar = pg.PlotDataItem(pen=pg.mkPen("w", width=look.px(4)))
        self._bar_words = pg.TextItem(color="w", anchor=(0.5, 1.0), fill=GROUND)
        self._line = pg.InfiniteLine(
            angle=90, pen=pg.mkPen(look.JUNCTION, width=look.px(1.5), style=Qt.PenStyle.DashLine)
        )
        self._line_words = pg.TextItem(color=look.JUNCTION, anchor=(1.0, 0.0), fill=GROUND)
        for item in (self._bar, self._bar_words, self._line, self._line_words):
            self.plot.addItem(item, ignoreBounds=True)
        self.age = QLabel("no frame yet")
        self.age.setToolTip("How old the newest frame is. Red: what you see is no longer what flows past.")
        self.age.setMinimumWidth(round(look.points() * 24))
        self.auto = QCheckBox("contrast by itself")
        self.auto.setChecked(True)
        self.auto.setToolTip("Set black and white from the picture. Off: keep them; change them with the two handles.")
        self.names = QCheckBox("names")
        self.names.setChecked(True)
        self.names.setToolTip("Write class or reason of rejection beside each object.")
        self.pause = QPushButton("Hold")
        self.pause.setToolTip("Hold a replay still (Space). What flows past a live camera cannot be held.")
        self.step = QPushButton("Step")
        self.step.setToolTip("Let one more frame of the held replay through (Right arrow).")
        self.contrast = pg.HistogramLUTWidget(orientation="vertical")
        self.contrast.item.gradient.hide()
        self.contrast.item.fillHistogram(color=(86, 180, 233, 60))
        self.contrast.setFixedWidth(round(look.points() * 9))
        self.contrast.setImageItem(self.image)
        self.image.sigImageChanged.disconnect(self.contrast.item.imageChanged)  # grey levels are counted now and then
        self.contrast.setToolTip("How often each grey level occurs. Drag the two lines: black and white.")
        self.contrast.item.sigLevelsChanged.connect(self._levels_by_hand)
        self._setting_levels = False
        self._arrange()

    def _arrange(self) -> None:
        top = QHBoxLayout()
        first: tuple[QWidget, ...] = (self.age, self.auto, self.names)
        last: tuple[QWidget, ...] = (self.pause, self.step)
        for widget in first:
            top.addWidget(widget)
        top.addStretch(1)
        for widget in last:
            top.addWidget(widget)
        middle = QHBoxLayout()
        middle.addWidget(self.view, 1)
        middle.addWidget(self.contrast)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 2, 4, 2)
        layout.setSpacing(2)
        layout.addLayout(top)
        layout.addLayout(middle, 1)

    def begin(self) -> None:
        """A run has been attached to: its scale, junction and recording window."""
        about = self._model.about
        if about is None:
            return
        settings = about.settings
        self._um = about.camera.um_per_px
        self._window_px = settings.record.window_px
        width, height = about.camera.width_px, about.camera.height_px
        self.plot.setRange(QRectF(0, 0, width, height), padding=0.02)
        length = nice_length(width * self._um)
        x0, y0 = width * 0.015, height * 0.96
        self._bar.setData([x0, x0 + length / self._um], [y0, y0])
        self._bar_words.setText(f"{length:g} µm")
        self._bar_words.setPos(x0 + length / self._um / 2, y0)
        junction_px = settings.sort.timing.junction_um / self._um
        inside = junction_px <= width
        line_px = settings.sort.close.decision_line_um / self._um
        self._line.setPos(junction_px if inside else min(width, line_px))
        ahead_um = settings.sort.timing.junction_um - settings.sort.close.decision_line_um
        words = "sort junction" if inside else f"decision line · junction {ahead_um:g} µm ahead →"
        self._line_words.setText(words)
        self._line_words.setPos(junction_px if inside else min(width, line_px), 0)
        self._line.setToolTip("Where a cell is deflected." if inside else "Past this line a cell is judged.")
        for button in (self.pause, self.step):
            button.setEnabled(not about.live)
        self._frames = 0

    def refresh(self) -> None:
        """Draw the newest frame if there is another one."""
        self._tell_age()
        shown = self._model.shown
        if shown is None or shown.told.number == self._number or not shown.pixels.size:
            return
        self._number = shown.told.number
        self.draw(shown)

    def draw(self, shown: Shown) -> None:
        """Draw a frame and what was found in it."""
        levels = None
        if self.auto.isChecked() and self._frames % LEVELS_EVERY == 0:
            levels = levels_of(shown.pixels)
        elif self._frames:
            levels = self.image.levels
        self._setting_levels = True
        self.image.setImage(shown.pixels, autoLevels=levels is None, levels=levels)
        if self._frames % LEVELS_EVERY == 0:
            self.contrast.item.imageChanged()
            if levels is not None:
                self.contrast.item.setLevels(*levels)
        self._setting_levels = False
        self._frames += 1
        lines = outlines(shown, self._um, self._window_px)
        groups = [group(one, int(row["reject"])) for one, row in zip(shown.told.seen, shown.objects, strict=True)]
        camera = self._model.about.camera if self._model.about is not None else None
        ways = tails(shown, self._um, camera.frames_per_s if camera is not None else 0.0)
        colours = self._colours()
        for name in {*self._items, *groups}:
            outline, way = self._item(name, colours)
            outline.setPath(path_of(Strokes.of(line for line, mine in zip(lines, groups, strict=True) if mine == name)))
            way.setPath(path_of(Strokes.of(line for line, mine in zip(ways, groups, strict=True) if mine == name)))
        self._write(shown, groups, colours)

    def _tell_age(self) -> None:
        age = self._model.age_s
        if age is None:
            self.age.setText("no frame yet")
            return
        stale = self._model.stale
        words = f"{age * 1e3:.0f} ms old" if age < 10 else f"{age:.0f} s old"
        told = self._model.shown.told if self._model.shown is not None else None
        alarms = f"  {', '.join(told.alarms)}" if told is not None and told.alarms else ""
        number = told.frame if told is not None else -1
        self.age.setText(f"frame {number}, {words}{' - STALE' if stale else ''}{alarms}")
        self.age.setStyleSheet(f"color: {look.BAD}; font-weight: bold;" if stale else "")

    def _colours(self) -> dict[str, str]:
        classes = self._model.about.classes if self._model.about is not None else ()
        return {**look.class_colour_of(classes), "reject": look.REJECT, UNKNOWN: look.INK}

    def _item(self, name: str, colours: dict[str, str]) -> tuple[QGraphicsPathItem, QGraphicsPathItem]:
        """What draws the outlines and the ways of a group."""
        if name not in self._items:
            style = Qt.PenStyle.DotLine if name == "reject" else Qt.PenStyle.SolidLine
            colour = pg.mkColor(colours.get(name, look.INK))
            faint = pg.mkColor(colour)
            faint.setAlpha(110)
            for items, pen in (
                (self._items, pg.mkPen(colour, width=look.px(1.0), style=style)),
                (self._ways, pg.mkPen(faint, width=look.px(1.0))),
            ):
                items[name] = QGraphicsPathItem()
                items[name].setPen(pen)
                self.plot.addItem(items[name], ignoreBounds=True)
        return self._items[name], self._ways[name]

    def _write(self, shown: Shown, groups: list[str], colours: dict[str, str]) -> None:
        words: list[Word] = []
        if self.names.isChecked():
            for one, row, name in zip(shown.told.seen, shown.objects[:LABELS], groups, strict=False):
                x, y = (float(row["x0_px"]) + float(row["x1_px"])) / 2, float(row["y0_px"])
                words.append(Word(words_of(one, int(row["reject"])), x, y, colours.get(name, look.INK)))
        height, width = shown.pixels.shape
        self.words.put(words, width, height)

    def _levels_by_hand(self) -> None:
        if not self._setting_levels:
            self.auto.setChecked(False)


def group(one: Seen, reject: int) -> str:
    """By what an object is drawn: its class, "reject", or "" while it is not known."""
    return "reject" if reject and not one.predicted else one.predicted


def path_of(strokes: Strokes) -> QPainterPath:
    """The polylines as one path."""
    if not len(strokes.x):
        return QPainterPath()
    path: QPainterPath = pg.arrayToQPath(strokes.x.astype(float), strokes.y.astype(float), connect=strokes.connect)
    return path


def words_of(one: Seen, reject: int) -> str:
    """What is written beside an object: its class and score, why it was rejected, or that it is not known yet."""
    if one.predicted:
        return f"{one.predicted} {one.score:.2f}"
    return REJECT_WORDS.get(Reject(reject), "rejected") if reject else "…"


def levels_of(pixels: Pixels) -> tuple[float, float]:
    """Black and white from a part of the pixels: never closer than 16 levels, so that noise stays dim."""
    part = pixels[::4, ::4]
    low, high = np.percentile(part, (0.5, 99.8)).tolist()
    middle, half = (low + high) / 2, max((high - low) / 2 * 1.2, 8.0)
    return middle - half, middle + half
