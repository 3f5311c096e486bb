"""The chamber view: the map, the picking list beside it, and the stage, driven to what was chosen once confirmed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from msgspec import Struct
from PySide6.QtCore import QSignalBlocker, Qt
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QSplitter,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from hspc_live.core.chamber import Visit
from hspc_live.view import look
from hspc_live.view.chamber_map import ChamberMap, counted
from hspc_live.view.chamber_model import ChamberModel, Spot
from hspc_live.view.connection import Bond
from hspc_live.view.field_picture import FieldPicture
from hspc_live.view.sort_panel import me, text_label
from hspc_live.wire.chamber_telemetry import ChamberShown, Listed
from hspc_live.wire.messages import DriveStage, EndRun, StopNow

DOING = {
    "opening": "opening the devices",
    "scan": "scanning",
    "list": "making the list",
    "revisit": "second visit to the listed cells",
    "report": "writing the results",
    "staying": "done; the stage is yours",
    "finished": "finished",
}
COLUMNS = ("#", "cell", "class", "score", "x µm", "y µm", "second visit")


class ChamberPanel(QWidget):
    """`tell` sends a wish to the run; `recorded` gives a visit of a finished run, None where there is none."""

    def __init__(
        self, model: ChamberModel, tell: Callable[[Struct], None], recorded: Callable[[int], Visit] | None
    ) -> None:
        super().__init__()
        self._model, self._tell, self._recorded = model, tell, recorded
        self._bond = Bond.SEARCHING
        self._lines: list[Listed] = []
        self._driven = ""
        self.map = ChamberMap(model, self.choose_at)
        self.legend = QLabel()
        self.doing = text_label("")
        self.progress = QProgressBar()
        self.progress.setFormat("%v of %m fields")
        self.alarms = text_label("")
        self.alarms.setStyleSheet(f"color: {look.WARN};")
        self.end = QPushButton("End")
        self.end.setToolTip("End after the field under way: what was seen until then is listed (asks first).")
        self.stop = QPushButton("STOP")
        self.stop.setObjectName("stop")
        self.stop.setToolTip("Emergency: the stage is halted at once and the run ends (Ctrl+Shift+S).")
        self.chosen = text_label("click an object or a place on the map, or a line of the list")
        self.drive = QPushButton("Drive stage here…")
        self.drive.setToolTip("Bring the chosen place to the middle of the picture (asks first; Ctrl+Return).")
        self.why_not = text_label("")
        self.answer = text_label("")
        self.answer.setToolTip("What the run answered to the last wish, and what came of the last drive.")
        self.list = QTableWidget(0, len(COLUMNS))
        self.list.setHorizontalHeaderLabels(COLUMNS)
        self.list.verticalHeader().hide()
        self.list.verticalHeader().setDefaultSectionSize(round(self.fontMetrics().height() * 1.5))
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.list.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.list.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.list.horizontalHeader().setStretchLastSection(True)
        self.list.setToolTip("The picking list, in the order of a short way. A line chooses its cell on the map.")
        self.picture = FieldPicture()
        self.list.itemSelectionChanged.connect(self._line_chosen)
        self.drive.clicked.connect(self.ask_drive)
        self.end.clicked.connect(self._ask_end)
        self.stop.clicked.connect(lambda: self._tell(StopNow(me())))
        self._arrange()

    def _arrange(self) -> None:
        left = QWidget()
        beside = QVBoxLayout(left)
        beside.setContentsMargins(4, 2, 4, 2)
        beside.addWidget(self.legend)
        beside.addWidget(self.map, 1)
        buttons = QHBoxLayout()
        buttons.addWidget(self.progress, 1)
        buttons.addWidget(self.end)
        buttons.addWidget(self.stop)
        top = QWidget()
        state = QVBoxLayout(top)
        state.setContentsMargins(4, 2, 4, 2)
        state.setSpacing(4)
        state.addWidget(self.doing)
        state.addLayout(buttons)
        for widget in (self.alarms, self.chosen):
            state.addWidget(widget)
        state.addWidget(self.drive, alignment=Qt.AlignmentFlag.AlignLeft)
        state.addWidget(self.why_not)
        state.addWidget(self.answer)
        state.addWidget(self.list, 1)
        self.right = QSplitter(Qt.Orientation.Vertical)
        self.right.addWidget(top)
        self.right.addWidget(self.picture)
        self.right.setStretchFactor(0, 3)
        self.right.setStretchFactor(1, 2)
        self.whole = QSplitter(Qt.Orientation.Horizontal)
        self.whole.addWidget(left)
        self.whole.addWidget(self.right)
        self.whole.setStretchFactor(0, 3)
        self.whole.setStretchFactor(1, 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.whole)

    def begin(self) -> None:
        """A run has been attached to."""
        self.answer.setText("")
        self._lines, self._driven = [], ""
        self.list.setRowCount(0)
        self.map.begin()

    def refresh(self, bond: Bond) -> None:
        """Draw what is new; say what can be done as the connection stands."""
        model, self._bond = self._model, bond
        attached = bond is Bond.ATTACHED
        self.end.setEnabled(attached)
        self.stop.setEnabled(attached)
        why_not = model.no_driving(bond)
        self.drive.setEnabled(not why_not and model.chosen is not None)
        self.why_not.setText(f"not now: {why_not}" if why_not else "")
        shown, about = model.shown, model.about
        if shown is None or about is None:
            return
        standing = shown.told.standing
        ending = f"; ending, by {standing.ending}" if standing.ending else ""
        self.doing.setText(f"<b>{DOING.get(standing.doing, standing.doing)}</b>{ending}")
        self.progress.setRange(0, max(1, standing.planned, standing.visited))
        self.progress.setValue(standing.visited)
        alarms = [f"{name.replace('_', ' ')}: {count}" for name, count in standing.alarms.items() if count]
        self.alarms.setText("; ".join(alarms))
        self.alarms.setVisible(bool(alarms))
        if standing.driven and standing.driven != self._driven:
            self.show_answer(standing.driven, done=not standing.driven.startswith("not "))
        self._driven = standing.driven
        colours = look.class_colour_of(about.head.classes)
        self.legend.setText(
            counted(model.classes().items(), colours)
            + " &nbsp; ○ not sure &nbsp; ◯ on the list &nbsp; ✕ wanted, cannot be"
            f' picked &nbsp; <span style="color:{look.JUNCTION}">▭</span> where the stage stands'
        )
        self.map.refresh()
        self._fill(shown)
        self.tell_chosen()
        if self._recorded is None:
            self._newest(shown)

    def _fill(self, shown: ChamberShown) -> None:
        """The list, if it is another one."""
        if shown.told.listed == self._lines:
            return
        self._lines = shown.told.listed
        rows = {int(cell): row for row, cell in enumerate(shown.marks.kinds[:, 0].tolist())}
        assert self._model.about is not None
        classes = self._model.about.head.classes
        with QSignalBlocker(self.list):
            self.list.setRowCount(len(self._lines))
            for place, line in enumerate(self._lines):
                row = rows[line.cell]
                said, score = int(shown.marks.kinds[row, 1]), float(shown.marks.scores[row])
                words = (
                    str(line.order), str(line.cell), classes[said], f"{score:.2f}", f"{line.x_um:.1f}",
                    f"{line.y_um:.1f}", line.again,
                )  # fmt: skip
                for column, text in enumerate(words):
                    item = QTableWidgetItem(text)
                    if column not in (2, 6):
                        item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                    self.list.setItem(place, column, item)

    def _newest(self, shown: ChamberShown) -> None:
        standing, about = shown.told.standing, self._model.about
        assert about is not None
        here = standing.here_um
        words = "no picture yet" if here is None else f"newest picture, at ({here[0]:.1f}, {here[1]:.1f}) µm"
        self.picture.show_picture(shown.pixels, about.head.um_per_px, words, self._in_picture(self._model.chosen, here))

    def _in_picture(self, spot: Spot | None, here: tuple[float, float] | None) -> tuple[float, float] | None:
        """Where the chosen place lies in a picture taken `here`, in pixels; None where it does not."""
        about = self._model.about
        if spot is None or here is None or about is None:
            return None
        affine = np.array(about.head.affine)
        x, y = np.linalg.solve(affine[:, :2], np.array([spot.x_um, spot.y_um]) - here - affine[:, 2]).tolist()
        inside = -0.5 <= x < about.head.width_px and -0.5 <= y < about.head.height_px
        return (x, y) if inside else None

    # ---- a person wants --------------------------------------------------------------------------------------------

    def choose_at(self, x_um: float, y_um: float, reach_um: float, twice: bool) -> None:
        """A click on the map; two of them ask for a drive."""
        self.choose(self._model.nearest(x_um, y_um, reach_um))
        if twice:
            self.ask_drive()

    def choose(self, spot: Spot) -> None:
        """From now on this is chosen."""
        self._model.chosen = spot
        self.map.draw_chosen()
        rows = [place for place, line in enumerate(self._lines) if line.cell == spot.cell >= 0]
        with QSignalBlocker(self.list):
            if rows:
                self.list.selectRow(rows[0])
            else:
                self.list.clearSelection()
        self.drive.setEnabled(not self._model.no_driving(self._bond))
        self.tell_chosen()
        self._show_recorded(spot)

    def _line_chosen(self) -> None:
        row = self.list.currentRow()
        if 0 <= row < len(self._lines) and (spot := self._model.spot_of(self._lines[row].cell)) is not None:
            self.choose(spot)

    def tell_chosen(self) -> None:
        """Say what is chosen."""
        if self._model.chosen is not None:
            self.chosen.setText(self._model.words(self._model.chosen))

    def _show_recorded(self, spot: Spot) -> None:
        """Of a finished run: the picture that the cell was classified by."""
        number = self._model.visit_of(spot)
        if self._recorded is None or self._model.about is None or number is None:
            return
        visit = self._recorded(number)
        pixels = visit.pictures[0].frame.pixels if visit.pictures else np.empty((0, 0), np.uint8)
        here = (visit.x_um, visit.y_um)
        words = f"field {number + 1}, at ({here[0]:.1f}, {here[1]:.1f}) µm"
        marks = self._model.shown.marks.places[spot.row] if self._model.shown is not None else (0.0, 0.0)
        seen = Spot(float(marks[0]), float(marks[1]))  # where the scan saw it, wherever it has crept since
        head = self._model.about.head
        self.picture.show_picture(pixels, head.um_per_px, words, self._in_picture(seen, here))

    def ask_drive(self) -> None:
        """Let a person confirm, then drive the stage to what is chosen; where it cannot be driven, say why."""
        spot, why_not = self._model.chosen, self._model.no_driving(self._bond)
        if why_not:
            self.show_answer(f"the stage is not driven: {why_not}", done=False)
            return
        if spot is None:
            return
        place = f"({spot.x_um:.1f}, {spot.y_um:.1f}) µm"
        if self._confirm(f"Drive the stage to {place}?", f"{self._model.words(spot)}. The stage moves."):
            self._tell(DriveStage(spot.x_um, spot.y_um, me()))

    def _ask_end(self) -> None:
        if self._confirm("End the run?", "What was seen until now is listed; the rest of the chamber is not scanned."):
            self._tell(EndRun(me()))

    def _confirm(self, question: str, more: str) -> bool:
        box = QMessageBox(self)
        box.setWindowTitle("HSPC Live")
        box.setText(question)
        box.setInformativeText(more)
        box.setStandardButtons(QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.Cancel)
        return bool(box.exec() == QMessageBox.StandardButton.Yes)

    def show_answer(self, text: str, *, done: bool) -> None:
        """What came of the last wish."""
        self.answer.setText(text)
        self.answer.setStyleSheet("" if done else f"color: {look.WARN}; font-weight: bold;")
