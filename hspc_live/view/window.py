"""The window: puts the panels together, turns a timer into their refreshes, and remembers how it was left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from PySide6.QtCore import QSettings, Qt, QTimer
from PySide6.QtGui import QCloseEvent, QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QSplitter,
    QStackedWidget,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from hspc_live.core.errors import OutputError
from hspc_live.view import look
from hspc_live.view.about import About, ChamberAbout
from hspc_live.view.banner import Sign, Weight, banners, chamber_banners
from hspc_live.view.cell_page import CellPage, Explain
from hspc_live.view.chamber_model import ChamberModel
from hspc_live.view.chamber_panel import ChamberPanel
from hspc_live.view.connection import Bond, Connection
from hspc_live.view.gallery_panel import GalleryPanel
from hspc_live.view.graphs import HistogramPanel, LatencyPanel, RatesPanel
from hspc_live.view.image_panel import ImagePanel
from hspc_live.view.model import Model
from hspc_live.view.past import FinishedChamber
from hspc_live.view.report import save_session
from hspc_live.view.scatter_panel import ScatterPanel
from hspc_live.view.sort_panel import Expected, SortPanel, me
from hspc_live.view.wishes import Wishes
from hspc_live.wire.chamber_telemetry import ChamberShown
from hspc_live.wire.messages import Answer, Pace, SetGates

PICTURE_MS = 30
SLOW_EVERY = 8  # pictures between two refreshes of everything else
SIGNS = 10
COLOURS = {
    Weight.ALARM: look.BAD,
    Weight.WARNING: look.WARN,
    Weight.STATE: "#4a5058",
    Weight.NATURE: "#6b4a63",
}


class Window(QMainWindow):
    """The operator's screen over `connection`. `reports` is the folder that session reports are saved in."""

    def __init__(
        self,
        connection: Connection | FinishedChamber,
        *,
        expected: Expected = lambda *_: {},
        explain: Explain | None = None,
        reports: Path,
        settings: QSettings | None = None,
    ) -> None:
        super().__init__()
        self.connection = connection
        self.model = Model()
        self.chamber_model = ChamberModel()
        self.wishes = Wishes()
        self._settings = settings if settings is not None else QSettings("hspc-live", "view")
        self._explain = explain
        self._reports = reports
        self._turn = 0
        self._attached = 0
        self._pages: list[CellPage] = []
        self._signs: list[Sign] = []
        self.setWindowTitle("HSPC Live")
        self.strip = QHBoxLayout()
        self.strip.setContentsMargins(4, 2, 4, 2)
        self._labels = [QLabel() for _ in range(SIGNS)]
        for label in self._labels:
            label.hide()
            self.strip.addWidget(label)
        self._meaning = QLabel()
        self._meaning.setStyleSheet(f"color: {look.WARN};")
        self._meaning.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.strip.addWidget(self._meaning, 1)
        self.image = ImagePanel(self.model)
        self.sort = SortPanel(self.model, self.tell, expected)
        self.scatter = ScatterPanel(self.model, self._set_gates)
        self.histogram = HistogramPanel(self.model, self._set_gates)
        self.latency = LatencyPanel(self.model)
        self.rates = RatesPanel(self.model)
        self.gallery = GalleryPanel(self.model, self.open_cell)
        recorded = connection.visit if isinstance(connection, FinishedChamber) else None
        self.chamber = ChamberPanel(self.chamber_model, self.tell, recorded)
        self.save = QPushButton("Save report")
        self.save.setToolTip("Save screen, gallery and figures as PNG and one HTML page (Ctrl+R).")
        self.save.clicked.connect(self.save_report)
        self.image.pause.clicked.connect(self.hold)
        self.image.step.clicked.connect(self.step)
        self._arrange()
        self._keys()
        self._restore()
        self._timer = QTimer(self)
        self._timer.setInterval(PICTURE_MS)
        self._timer.timeout.connect(self.turn)
        self._timer.start()

    # ---- made ----------------------------------------------------------------------------------------------------

    def _arrange(self) -> None:
        self.left, self.right = QTabWidget(), QTabWidget()
        self.left.addTab(self.scatter, "Gates")
        self.left.addTab(self.histogram, "Histogram")
        self.right.addTab(self.gallery, "Gallery")
        self.right.addTab(self.latency, "Latency")
        self.right.addTab(self.rates, "Rates")
        self.below = QSplitter(Qt.Orientation.Horizontal)
        self.below.addWidget(self.left)
        self.below.addWidget(self.right)
        self.middle = QSplitter(Qt.Orientation.Vertical)
        self.middle.addWidget(self.image)
        self.middle.addWidget(self.below)
        self.middle.setSizes([320, 420])
        self.middle.setStretchFactor(0, 3)
        self.middle.setStretchFactor(1, 4)
        for tabs in (self.left, self.right):
            tabs.currentChanged.connect(lambda _: self.slowly())
        self.whole = QWidget()  # no splitter: the sort panel is as wide as its words, on whatever display
        beside = QHBoxLayout(self.whole)
        beside.setContentsMargins(0, 0, 0, 0)
        beside.setSpacing(2)
        beside.addWidget(self.middle, 1)
        beside.addWidget(self.sort)
        self.sort.setFixedWidth(round(look.points() * 31))
        top = QHBoxLayout()
        top.addLayout(self.strip, 1)
        top.addWidget(self.save)
        centre = QWidget()
        layout = QVBoxLayout(centre)
        layout.setContentsMargins(2, 2, 2, 2)
        layout.setSpacing(2)
        layout.addLayout(top)
        self.pages = QStackedWidget()
        self.pages.addWidget(self.whole)
        self.pages.addWidget(self.chamber)
        layout.addWidget(self.pages, 1)
        self.setCentralWidget(centre)
        self.resize(1366, 768)

    def _keys(self) -> None:
        # a key of a page that is not shown does nothing
        for page, keys, act in (
            (self.whole, "Ctrl+A", self.sort.arm.click),
            (self.whole, "Ctrl+D", self.sort.disarm.click),
            (self.whole, "Escape", self.sort.disarm.click),
            (self.whole, "Ctrl+Shift+S", self.sort.stop.click),
            (self.whole, "Ctrl+Return", self.scatter.bar.ask),
            (self.whole, "Space", self.hold),
            (self.whole, "Right", self.step),
            (self.chamber, "Ctrl+Shift+S", self.chamber.stop.click),
            (self.chamber, "Ctrl+Return", self.chamber.ask_drive),
            (self.chamber, "Ctrl+0", self.chamber.map.show_all),
            (self, "Ctrl+R", self.save_report),
            (self, "F11", self._full_screen),
        ):
            QShortcut(QKeySequence(keys), page, act)
        for number in range(self.right.count()):
            QShortcut(QKeySequence(f"Ctrl+{number + 1}"), self.whole, lambda at=number: self.right.setCurrentIndex(at))

    def _restore(self) -> None:
        settings = self._settings
        if (geometry := settings.value("geometry")) is not None:
            self.restoreGeometry(geometry)
        for name, splitter in self._splitters():
            if (state := settings.value(name)) is not None:
                splitter.restoreState(state)
        self.left.setCurrentIndex(int(str(settings.value("left", 0))))
        self.right.setCurrentIndex(int(str(settings.value("right", 0))))
        self.image.names.setChecked(str(settings.value("names", "true")) == "true")

    def _splitters(self) -> tuple[tuple[str, QSplitter], ...]:
        chamber = (("chamber", self.chamber.whole), ("chamber-right", self.chamber.right))
        return ("middle", self.middle), ("below", self.below), *chamber

    # ---- runs ----------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """One turn of the timer: take what has come, draw what is new."""
        self._turn += 1
        self.wishes.poll()
        shown = self.connection.poll()
        if self.connection.attached != self._attached:
            self._attached = self.connection.attached
            self._attach()
        about = self.connection.about
        if shown is not None and about is not None and shown.run == about.run:
            model = self.chamber_model if isinstance(shown, ChamberShown) else self.model
            first = model.shown is None
            if isinstance(shown, ChamberShown):
                self.chamber_model.take(shown)
            else:
                self.model.take(shown)
            if first:
                self.slowly()
        if not self.is_chamber:
            self.image.refresh()
        if self._turn % SLOW_EVERY == 1:
            self.slowly()

    def _attach(self) -> None:
        match self.connection.about:
            case About() as about:
                self.model.attach(about)
                self.pages.setCurrentWidget(self.whole)
                self.begin()
            case ChamberAbout() as about:
                self.chamber_model.attach(about)
                self.pages.setCurrentWidget(self.chamber)
                self.chamber.begin()
                self.setWindowTitle(f"HSPC Live - {about.title}")
            case None:
                pass

    @property
    def is_chamber(self) -> bool:
        """Whether the run attached to, now or last, is a chamber's."""
        return isinstance(self.connection.about, ChamberAbout)

    def begin(self) -> None:
        """A run has been attached to: every panel learns of it."""
        self.model.held = False
        self.image.pause.setText("Hold")
        for panel in (self.image, self.sort, self.scatter, self.histogram, self.gallery):
            panel.begin()
        if self.model.about is not None:
            self.setWindowTitle(f"HSPC Live - {self.model.about.title}")

    def stop_turning(self) -> None:
        """Stand still: from now on somebody else calls `turn`."""
        self._timer.stop()

    def slowly(self) -> None:
        """Refresh what need not be refreshed with every picture."""
        bond, words, silent_s = self.connection.state, self.connection.words, self.connection.silent_s
        if self.is_chamber:
            self.chamber.refresh(bond)
            signs = chamber_banners(self.chamber_model, bond, words, silent_s)
        else:
            self.sort.refresh(attached=self.attached)
            for panel in (self.scatter, self.histogram, self.gallery, self.latency, self.rates):
                if panel.isVisible():
                    panel.refresh()
            signs = banners(self.model, bond, words, silent_s)
        if signs != self._signs:
            self._signs = signs
            self._show(signs)

    def _show(self, signs: list[Sign]) -> None:
        for sign, label in zip(signs, self._labels, strict=False):
            label.setText(sign.text)
            label.setToolTip(sign.meaning)
            colour = look.GOOD if sign.text == "ARMED" else COLOURS[sign.weight]
            ink = "black" if colour in (look.GOOD, look.WARN) else "white"
            label.setStyleSheet(
                f"background: {colour}; color: {ink}; font-weight: bold; padding: 0.15em 0.6em; border-radius: 3px;"
            )
            label.show()
        for label in self._labels[len(signs) :]:
            label.hide()
        loudest = signs[0] if signs and signs[0].weight in (Weight.ALARM, Weight.WARNING) else None
        said = loudest or next((sign for sign in signs if sign.reason), None)
        self._meaning.setText("" if said is None else said.reason or said.meaning)

    @property
    def attached(self) -> bool:
        """Whether wishes reach a run."""
        return self.connection.state is Bond.ATTACHED

    @property
    def signs(self) -> list[str]:
        """The words of the strip."""
        return [sign.text for sign in self._signs]

    # ---- a person wants --------------------------------------------------------------------------------------------

    def tell(self, wish: Struct, done: Callable[[Answer], None] | None = None) -> None:
        """Send a wish to the run; its answer is shown in the sort panel."""
        about = self.connection.about
        panel = self.chamber if self.is_chamber else self.sort
        if about is None or not self.attached:
            panel.show_answer("not attached to a run", done=False)
            return

        def answered(answer: Answer) -> None:
            panel.show_answer(answer.text, done=answer.done)
            if done is not None:
                done(answer)

        panel.show_answer("asked; waiting for the answer …", done=True)
        self.wishes.send(about.control, wish, answered)

    def _set_gates(self, outlets: str) -> None:
        def answered(answer: Answer) -> None:
            if answer.done:
                self.model.gates_set()

        self.tell(SetGates(outlets, me()), answered)

    def hold(self) -> None:
        """Hold a replay still, or let it go on."""
        if self.image.pause.isEnabled():
            self.model.held = not self.model.held
            self.image.pause.setText("Go on" if self.model.held else "Hold")
            self.tell(Pace(0 if self.model.held else None))

    def step(self) -> None:
        """Let one more frame of a replay through."""
        if self.image.step.isEnabled():
            self.model.held = True
            self.image.pause.setText("Go on")
            self.tell(Pace(1))

    def open_cell(self, number: int) -> None:
        """Open a cell's page."""
        record = self.model.cells.get(number)
        if record is None or self.model.about is None:
            return
        looks = self.model.looks_of(number)
        page = CellPage(record, looks, self.model.about.classes, self._explain, self)
        page.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._pages = [*self._pages[-7:], page]
        page.show()

    def save_report(self) -> Path | None:
        """Save the session report; says where, or why not."""
        pictures = {"screen": self.grab()}
        if self.gallery.isVisible():
            pictures["gallery"] = self.gallery.grab()
        if self.is_chamber:
            pictures |= {"map": self.chamber.map.grab(), "picture": self.chamber.picture.grab()}
        panel = self.chamber if self.is_chamber else self.sort
        try:
            page = save_session(self._reports, self.chamber_model if self.is_chamber else self.model, pictures)
        except OutputError as error:
            QMessageBox.warning(self, "The report was not saved", str(error))
            return None
        panel.show_answer(f"report saved: {page}", done=True)
        return page

    def _full_screen(self) -> None:
        if self.isFullScreen():
            self.showNormal()
        else:
            self.showFullScreen()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802  # Qt's name
        """Remember how the window was left; disarm nothing: closing a screen is no wish to the run."""
        self._timer.stop()
        self._settings.setValue("geometry", self.saveGeometry())
        for name, splitter in self._splitters():
            self._settings.setValue(name, splitter.saveState())
        self._settings.setValue("left", self.left.currentIndex())
        self._settings.setValue("right", self.right.currentIndex())
        self._settings.setValue("names", "true" if self.image.names.isChecked() else "false")
        self.connection.close()
        self.wishes.close()
        super().closeEvent(event)
