"""The sort panel: ARM, DISARM and STOP, what keeps the sorter from being armed, and what has been sorted."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from hspc_live.report.style import REASON_WORDS
from hspc_live.settings.schema import RunSettings
from hspc_live.settings.sort import Outlet
from hspc_live.twin.score import wanted_classes
from hspc_live.view import look
from hspc_live.view.disk import Disk
from hspc_live.view.model import Model
from hspc_live.view.sums import purity_by_scores
from hspc_live.wire.messages import ArmNow, DisarmNow, StopNow
from hspc_live.wire.telemetry import OutletCount, Standing

Expected = Callable[[RunSettings, tuple[Outlet, ...]], dict[str, tuple[float, float, float]]]
"""From settings and outlets in force to each outlet's predicted purity, with the ends of its interval."""

MODES = {
    "purity": "purity: leave a cell rather than take a neighbour along",
    "recovery": "recovery: take every wanted cell, neighbours or not",
    "single": "single: exactly one cell a pulse",
}


def me() -> str:
    """Who wishes, as the recording will keep it."""
    return f"{getpass.getuser()} (view)"


class SortPanel(QWidget):
    """`tell` sends a wish to the run."""

    def __init__(self, model: Model, tell: Callable[[Struct], None], expected: Expected) -> None:
        super().__init__()
        self._model = model
        self._tell = tell
        self._expected = expected
        self._predicted: tuple[tuple[Outlet, ...], dict[str, tuple[float, float, float]]] = ((), {})
        self.disk = Disk(None)
        self.arm = QPushButton("ARM")
        self.arm.setObjectName("arm")
        self.arm.setToolTip("Let the sorter deflect wanted cells, once the self-test passes (Ctrl+A).")
        self.disarm = QPushButton("DISARM")
        self.disarm.setToolTip("Deflect nothing any more; cells are still recognised and recorded (Ctrl+D, or Escape).")
        self.stop = QPushButton("STOP")
        self.stop.setObjectName("stop")
        self.stop.setToolTip(
            "Emergency: the sort process is killed at once, even if it hangs, and the run ends (Ctrl+Shift+S)."
        )
        self.stop.setMinimumHeight(round(look.points() * 5))
        self.arm.clicked.connect(lambda: self._tell(ArmNow(me())))
        self.disarm.clicked.connect(lambda: self._tell(DisarmNow(f"disarmed by {me()}")))
        self.stop.clicked.connect(lambda: self._tell(StopNow(me())))
        self.test = text_label("not known yet")
        self.test.setToolTip("What must hold before the sorter may deflect a single cell.")
        self.answer = text_label("")
        self.answer.setToolTip("What the run answered to the last wish.")
        self.outlets = text_label("")
        self.aborts = text_label("")
        self.aborts.setToolTip("Wanted cells that were not sorted because it was not safe, by reason.")
        self.purity = text_label("")
        self.purity.setToolTip(
            "Expected: of ten minutes, from the model's tests and the declared population. By scores: the mean score "
            "of the cells sorted until now. Each with its 95 % interval. Neither is a measurement of the tube."
        )
        self.losses = text_label("0")
        self.losses.setToolTip("Frames dropped or lost since the time beside it. Only the button sets it back.")
        self.set_back = QPushButton("set back")
        self.set_back.setToolTip("Count losses from now on; the time is shown beside the count.")
        self.set_back.clicked.connect(self._set_losses_back)
        self.space = text_label("")
        self.space.setToolTip("How long the recording's disk lasts at the present rate.")
        self.feed = text_label("")
        self.feed.setToolTip("Updates of this screen; those it missed cost the pipeline nothing.")
        self._arrange()

    def _arrange(self) -> None:
        buttons = QHBoxLayout()
        buttons.addWidget(self.arm)
        buttons.addWidget(self.disarm)
        top = QVBoxLayout()
        top.addLayout(buttons)
        top.addWidget(self.stop)
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.setContentsMargins(2, 0, 2, 0)
        layout.setSpacing(4)
        for title, widget in (
            ("Self-test", self.test),
            ("Last answer", self.answer),
            ("Outlets", self.outlets),
            ("Purity", self.purity),
            ("Not sorted", self.aborts),
        ):
            box = QGroupBox(title)
            inner = QVBoxLayout(box)
            inner.setContentsMargins(6, 2, 6, 4)
            inner.addWidget(widget)
            layout.addWidget(box)
        box = QGroupBox("Frames lost")
        inner = QVBoxLayout(box)
        inner.setContentsMargins(6, 2, 6, 4)
        inner.addWidget(self.losses)
        inner.addWidget(self.set_back, 0, Qt.AlignmentFlag.AlignRight)
        layout.addWidget(box)
        box = QGroupBox("Machine")
        form = QFormLayout(box)
        form.setContentsMargins(6, 2, 6, 4)
        form.addRow("disk", self.space)
        form.addRow("screen", self.feed)
        layout.addWidget(box)
        layout.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inside)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(2, 2, 2, 2)
        whole.addLayout(top)
        whole.addWidget(scroll, 1)

    def begin(self) -> None:
        """A run has been attached to."""
        about = self._model.about
        recording: Path | None = about.recording if about is not None else None
        self.disk = Disk(recording)
        self._predicted = ((), {})
        self.answer.setText("")

    def refresh(self, *, attached: bool) -> None:
        """Say how things stand. Without a connection nothing can be wished for."""
        model = self._model
        live = model.about is not None and model.about.live
        standing = model.shown.told.standing if model.shown is not None else None
        self.arm.setEnabled(attached and standing is not None and not standing.armed)
        self.disarm.setEnabled(attached)
        self.stop.setEnabled(attached)
        if standing is None:
            return
        self.arm.setText("WAITS…" if standing.waits_to_arm else "ARMED" if standing.armed else "ARM")
        self._tell_test(standing, live=live)
        self._tell_outlets(standing)
        self._tell_purity(standing)
        cells = model.ledger["cells"]
        reasons = {**cells["aborted"], **{f"no verdict: {k}": n for k, n in cells["unresolved"].items()}}
        words = [f"{REASON_WORDS.get(name, name.replace('_', ' '))}: {count}" for name, count in reasons.items()]
        self.aborts.setText("\n".join([*words, f"abstained: {cells['abstained']}"]))
        losses = model.losses
        by = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in losses.by_reason.items())
        self.losses.setText(f"{losses.total} since {losses.since}" + (f"\n({by})" if by else ""))
        self.losses.setStyleSheet(f"color: {look.BAD}; font-weight: bold;" if losses.total else "")
        self.feed.setText(f"{model.received} updates, {model.missed} missed")
        self.disk.look()
        self.space.setText(self.disk.words())

    def show_answer(self, text: str, *, done: bool) -> None:
        """What came of the last wish."""
        self.answer.setText(text)
        self.answer.setStyleSheet("" if done else f"color: {look.WARN}; font-weight: bold;")

    def _tell_test(self, standing: Standing, *, live: bool) -> None:
        failed = [f"✗ {text}" for text in standing.lasting] + [f"… {text}" for text in standing.passing]
        if failed:
            self.test.setText("\n".join(failed))
            self.test.setStyleSheet(f"color: {look.WARN};")
        else:
            self.test.setText("✓ passed" if live else "✓ nothing real is sorted in a replay")
            self.test.setStyleSheet(f"color: {look.GOOD};")

    def _tell_outlets(self, standing: Standing) -> None:
        counts = {count.name: count.sorted for count in standing.sorted}
        draft = self._model.draft
        lines = []
        for outlet in draft.in_force:
            limit = f" of {outlet.limit}" if outlet.limit is not None else ""
            lines.append(f"{outlet.name}: {counts.pop(outlet.name, 0)}{limit} sorted\n  {MODES[outlet.mode]}")
        lines += [f"{name}: {count} sorted (earlier gates)" for name, count in counts.items()]
        self.outlets.setText("\n".join(lines) or "no outlet")

    def _tell_purity(self, standing: Standing) -> None:
        outlets = self._model.draft.in_force
        if self._predicted[0] != outlets:
            about = self._model.about
            self._predicted = (outlets, self._expected(about.settings, outlets) if about is not None else {})
        counts = {count.name: count for count in standing.sorted}
        classes = self._model.about.classes if self._model.about is not None else ()
        lines = []
        for outlet in outlets:
            before = self._predicted[1].get(outlet.name)
            said = f"{before[0]:.0%} ({before[1]:.0%} to {before[2]:.0%})" if before is not None else "not known"
            count = counts.get(outlet.name, OutletCount(outlet.name, 0, []))
            found = purity_by_scores(count.scores, classes, wanted_classes(outlet.gate), count.sorted)
            now = f"{found.share:.0%} ({found.low:.0%} to {found.high:.0%})" if found is not None else "no cell yet"
            lines.append(f"{outlet.name}\n  expected {said}\n  by scores {now}")
        self.purity.setText("\n".join(lines) or "-")

    def _set_losses_back(self) -> None:
        self._model.set_losses_back()


def text_label(words: str) -> QLabel:
    """A label of any length that may be copied from."""
    label = QLabel(words)
    label.setWordWrap(True)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
