"""Below every plot that shows gates: what is in force, and to put in force, forget or take away what was drawn.

Also what draws a gate's border, so that the plots' borders look and move alike.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenu, QMessageBox, QPushButton, QWidget

from hspc_live.view import look
from hspc_live.view.drafts import Line, Place
from hspc_live.view.model import Model


class GateBar(QWidget):
    """`apply` is called with the outlets once a person has confirmed them, `drawn` when the draft has changed."""

    def __init__(self, model: Model, apply: Callable[[str], None], drawn: Callable[[], None]) -> None:
        super().__init__()
        self._model, self._apply, self._drawn = model, apply, drawn
        self.state = QLabel()
        self.away = QPushButton("- gate")
        self.away.setToolTip("Take away a range or a polygon that narrows an outlet.")
        self.narrowing = QMenu(self)
        self.narrowing.aboutToShow.connect(self._list_narrowing)
        self.away.setMenu(self.narrowing)
        self.discard = QPushButton("Discard")
        self.discard.setToolTip("Forget what was moved; the gates in force stay as they are.")
        self.confirm = QPushButton("Apply gates…")
        self.confirm.setToolTip("Put the moved gates in force as a numbered revision (Ctrl+Return).")
        self.discard.clicked.connect(self.forget)
        self.confirm.clicked.connect(self.ask)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.state, 1)
        for button in (self.away, self.discard, self.confirm):
            layout.addWidget(button)

    def tell(self) -> None:
        """Say what is in force, and whether anything was moved."""
        draft = self._model.draft
        for button in (self.confirm, self.discard):
            button.setEnabled(draft.changed)
        self.away.setEnabled(any(True for _ in draft.narrowing()))
        in_force = f"revision {draft.newest} in force" if draft.newest else "the settings' gates in force"
        if draft.changed:
            overtaken = "; others were set meanwhile" if draft.overtaken else ""
            self.state.setText(f"{in_force}; moved, NOT in force yet{overtaken}")
            self.state.setStyleSheet(f"color: {look.WARN}; font-weight: bold;")
        else:
            self.state.setText(f"{in_force} · {len(self._model.cells)} cells")
            self.state.setStyleSheet("")

    def forget(self) -> None:
        """Drop what was moved."""
        self._model.start_draft_again()
        self._drawn()
        self.tell()

    def ask(self) -> None:
        """Let a person confirm, then apply."""
        draft = self._model.draft
        if not draft.changed:
            return
        text = "\n".join(draft.changes())
        if draft.overtaken:
            text += f"\n\nRevision {draft.newest} was set by somebody else meanwhile; it would be replaced."
        box = QMessageBox(self)
        box.setWindowTitle("Put these gates in force?")
        box.setText(f"Put these gates in force, as revision {draft.newest + 1}, from the next frame on?")
        box.setInformativeText(text)
        box.setStandardButtons(QMessageBox.StandardButton.Apply | QMessageBox.StandardButton.Cancel)
        if box.exec() == QMessageBox.StandardButton.Apply:
            self._apply(draft.wish())

    def _list_narrowing(self) -> None:
        self.narrowing.clear()
        for place, words in self._model.draft.narrowing():
            self.narrowing.addAction(words, partial(self.take_away, place))

    def take_away(self, place: Place) -> None:
        """Widen an outlet by one of the gates that narrow it: a draft, like what is moved."""
        self._model.draft.remove(place)
        self._drawn()
        self.tell()


def border(line: Line, moved: Callable[[float], None]) -> pg.InfiniteLine:
    """A gate's border on a plot; `moved` is called with where it was let go."""
    style = Qt.PenStyle.SolidLine if line.movable else Qt.PenStyle.DashLine
    item = pg.InfiniteLine(
        pos=line.at,
        angle=90 if line.axis == "x" else 0,
        movable=line.movable,
        pen=pg.mkPen(look.JUNCTION, width=look.px(2), style=style),
        hoverPen=pg.mkPen("w", width=look.px(3)),
        label=f"{line.outlet} {'≥' if line.end == 'min' else '≤'} {{value:.3g}}",
        labelOpts={"position": 0.9, "color": look.JUNCTION, "fill": (0, 0, 0, 160)},
    )
    item.sigPositionChangeFinished.connect(lambda at: moved(float(at.value())))
    if not line.movable:
        item.setToolTip("A promise's threshold follows from calibration cells; it is not moved by hand.")
    return item
