"""Short words at places of a picture, painted in one go: a text item each would cost more than the picture itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyqtgraph as pg
from PySide6.QtCore import QPointF, QRectF
from PySide6.QtGui import QColor, QFontMetricsF, QPainter
from PySide6.QtWidgets import QStyleOptionGraphicsItem, QWidget

_GROUND = QColor(0, 0, 0, 150)  # behind the letters: grey words on a grey picture cannot be read


@dataclass(frozen=True, slots=True)
class Word:
    """`text` above the place (x, y) of the picture, in `colour`."""

    text: str
    x: float
    y: float
    colour: str


class WordsItem(pg.GraphicsObject):  # type: ignore[misc]  # pyqtgraph has no types
    """Paints `words`; they keep their size when the picture is scaled, and stay inside its left and right border."""

    def __init__(self) -> None:
        super().__init__()
        self._words: Sequence[Word] = ()
        self._bounds = QRectF()
        self._colours: dict[str, QColor] = {}

    def put(self, words: Sequence[Word], width: float, height: float) -> None:
        """Show these, over a picture of so many pixels."""
        bounds = QRectF(0.0, 0.0, width, height)
        if bounds != self._bounds:
            self.prepareGeometryChange()
            self._bounds = bounds
        self._words = words
        self.update()

    @property
    def words(self) -> Sequence[Word]:
        """What is shown."""
        return self._words

    def boundingRect(self) -> QRectF:  # noqa: N802  # Qt's name
        """The picture; words may reach a little over its upper border."""
        return self._bounds

    def paint(self, painter: QPainter, _option: QStyleOptionGraphicsItem, _widget: QWidget | None = None) -> None:
        """Paint in the display's pixels, so that letters are neither scaled nor turned over."""
        if not self._words:
            return
        to_display = painter.transform()
        painter.save()
        painter.resetTransform()
        metrics = QFontMetricsF(painter.font())
        left = to_display.map(QPointF(0.0, 0.0)).x()
        right = to_display.map(QPointF(self._bounds.width(), 0.0)).x()
        for word in self._words:
            at = to_display.map(QPointF(word.x, word.y))
            wide = metrics.horizontalAdvance(word.text)
            x = max(left, min(right - wide, at.x() - wide / 2))
            colour = self._colours.get(word.colour)
            if colour is None:
                colour = self._colours[word.colour] = QColor(word.colour)
            base = max(metrics.ascent() + 1, at.y() - 4)
            painter.fillRect(QRectF(x - 2, base - metrics.ascent(), wide + 4, metrics.height()), _GROUND)
            painter.setPen(colour)
            painter.drawText(QPointF(x, base), word.text)
        painter.restore()
