"""The newest cells of each class as pictures; a click opens the cell's own page."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QIcon, QImage, QPixmap
from PySide6.QtWidgets import QHBoxLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from hspc_live.core.values import Pixels
from hspc_live.report.style import outcome_words
from hspc_live.view import look
from hspc_live.view.model import Look, Model

PLACES = 24


def pixmap(crop: Pixels, size: int) -> QPixmap:
    """A crop as a picture of `size` pixels, black and white from its own grey levels."""
    low, high = np.percentile(crop, (0.5, 99.5)).tolist()
    grey = np.clip((crop.astype(np.float32) - low) * (255.0 / max(high - low, 1.0)), 0, 255).astype(np.uint8)
    height, width = grey.shape
    image = QImage(grey.tobytes(), width, height, width, QImage.Format.Format_Grayscale8)
    return QPixmap.fromImage(image).scaled(
        size, size, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    )


class GalleryPanel(QWidget):
    """A row for each class, newest first. `open_cell` is called with the number of the cell that was clicked."""

    def __init__(self, model: Model, open_cell: Callable[[int], None]) -> None:
        super().__init__()
        self._model = model
        self._open = open_cell
        self._rows: dict[str, tuple[QLabel, QHBoxLayout, list[QToolButton]]] = {}
        self._drawn: tuple[object, ...] = ()
        self._edge = round(look.points() * 5.6)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(4, 4, 4, 4)
        self._layout.setSpacing(2)
        self._layout.addStretch(1)

    def begin(self) -> None:
        """A run has been attached to."""
        self._drawn = ()

    def refresh(self) -> None:
        """Show what is new."""
        model = self._model
        about = model.about
        if about is None:
            return
        newest = tuple((name, looks[-1].record.cell if looks else -1) for name, looks in model.gallery.items())
        now = (about.run, newest, self.width())
        if now == self._drawn:
            return
        self._drawn = now
        colours = look.class_colour_of(about.classes)
        standing = model.shown.told.standing if model.shown is not None else None
        names = [*about.classes, *(name for name in model.gallery if name not in about.classes)]
        for name in [row for row in self._rows if row not in names]:
            self._rows[name][0].hide()
            for button in self._rows[name][2]:
                button.hide()
        for name in names:
            title, _, buttons = self._row(name)
            count = standing.classes.get(name) if standing is not None else None
            title.setText(name + (f": {count} cells" if count is not None else ""))
            title.setStyleSheet(f"color: {colours.get(name, look.DIM)}; font-weight: bold;")
            title.show()
            fits = max(3, (self.width() - 12) // (self._edge + 12))
            self._fill(buttons, list(model.gallery.get(name, ()))[::-1][: min(PLACES, fits)])

    def _row(self, name: str) -> tuple[QLabel, QHBoxLayout, list[QToolButton]]:
        if name not in self._rows:
            title, pictures = QLabel(name), QHBoxLayout()
            pictures.setSpacing(3)
            buttons = []
            for _ in range(PLACES):
                button = QToolButton()
                button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
                button.setIconSize(QSize(self._edge, self._edge))
                button.setAutoRaise(True)
                button.clicked.connect(lambda _=False, one=button: self._open(one.property("cell")))
                button.hide()
                pictures.addWidget(button)
                buttons.append(button)
            pictures.addStretch(1)
            at = self._layout.count() - 1
            self._layout.insertWidget(at, title)
            self._layout.insertLayout(at + 1, pictures)
            self._rows[name] = (title, pictures, buttons)
        return self._rows[name]

    def _fill(self, buttons: list[QToolButton], looks: list[Look]) -> None:
        for button, one in zip(buttons, looks, strict=False):
            record = one.record
            score = max(record.classification.scores) if record.classification is not None else None
            button.setProperty("cell", record.cell)
            button.setIcon(QIcon(pixmap(one.crop, self._edge)))
            button.setText(f"{score:.2f}" if score is not None else "-")
            button.setToolTip(f"Cell {record.cell}: {outcome_words(record)}. Click for its page.")
            button.show()
        for button in buttons[len(looks) :]:
            button.hide()
