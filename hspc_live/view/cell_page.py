"""One cell's page: its views, scores, features, decision and reason, and what the model looked at (Score-CAM)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QTimer
from PySide6.QtGui import QCloseEvent, QImage, QPixmap
from PySide6.QtWidgets import QDialog, QFormLayout, QGroupBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from hspc_live.core.errors import HspcError
from hspc_live.core.values import CellRecord, Pixels
from hspc_live.report.style import outcome_words
from hspc_live.view import look
from hspc_live.view.gallery_panel import pixmap
from hspc_live.view.model import Look

Explain = Callable[[Sequence[Pixels], str], NDArray[np.float32]]
"""From crops and a class to a heat map each, (n, S, S) in 0…1. Slow: called in a thread. Raises HspcError."""

UNITS = {"um2": "µm²", "um": "µm", "px": "px"}


class CellPage(QDialog):
    """Stays open beside the screen; `explain` None means that there is no model that could say what it looked at."""

    def __init__(
        self,
        record: CellRecord,
        looks: Sequence[Look],
        classes: Sequence[str],
        explain: Explain | None,
        parent: QWidget,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("cell-page")
        self.setWindowTitle(f"Cell {record.cell}")
        self._record = record
        self._looks = list(looks)
        self._explain = explain
        self._maps: SimpleQueue[NDArray[np.float32] | HspcError] = SimpleQueue()
        self._edge = round(look.points() * 14)
        self.outcome = QLabel(f"Cell {record.cell}: {outcome_words(record)}")
        self.outcome.setStyleSheet("font-weight: bold;")
        self.pictures = QHBoxLayout()
        self.heat = QHBoxLayout()
        self.why = QPushButton("What did the model look at? (Score-CAM)")
        self.why.setToolTip("Computed here, beside the pipeline; it takes a few seconds and delays nothing.")
        self.why.setEnabled(explain is not None and bool(looks) and record.classification is not None)
        self.why.clicked.connect(self.ask_why)
        self.words = QLabel("" if looks else "its pictures are not held any more")
        self._timer = QTimer(self)
        self._timer.setInterval(100)
        self._timer.timeout.connect(self._poll)
        for one in self._looks:
            picture = QLabel()
            picture.setPixmap(pixmap(one.crop, self._edge))
            picture.setToolTip(f"Frame {one.frame}, object {one.view} of it.")
            self.pictures.addWidget(picture)
        self.pictures.addStretch(1)
        layout = QVBoxLayout(self)
        layout.addWidget(self.outcome)
        layout.addLayout(self.pictures)
        layout.addWidget(self.why)
        layout.addWidget(self.words)
        layout.addLayout(self.heat)
        columns = QHBoxLayout()
        columns.addWidget(self._scores(classes))
        columns.addWidget(self._features())
        columns.addWidget(self._fate())
        layout.addLayout(columns)

    def _scores(self, classes: Sequence[str]) -> QGroupBox:
        box, form = _form("Scores")
        verdict = self._record.classification
        colours = look.class_colour_of(classes)
        for name, score in zip(classes, verdict.scores if verdict is not None else (), strict=False):
            value = QLabel(f"{score:.3f}")
            value.setStyleSheet(f"color: {colours[name]};")
            form.addRow(name, value)
        if verdict is None:
            form.addRow(QLabel("none came"))
        else:
            form.addRow("views", QLabel(str(verdict.views)))
        return box

    def _features(self) -> QGroupBox:
        box, form = _form("Features (mean)")
        for name, value in self._record.features.items():
            if name.endswith("_px"):
                continue
            stem, _, unit = name.rpartition("_")
            words, unit = (stem, UNITS[unit]) if unit in UNITS else (name, "")
            form.addRow(words.replace("_", " "), QLabel(f"{value:.4g} {unit}".strip()))
        return box

    def _fate(self) -> QGroupBox:
        record = self._record
        box, form = _form("Decision")
        form.addRow("outcome", QLabel(str(record.outcome)))
        form.addRow("reason", QLabel(record.reason or "-"))
        form.addRow("outlet", QLabel(record.outlet or "-"))
        form.addRow("gates", QLabel(f"revision {record.gate_revision}" if record.gate_revision else "of the settings"))
        form.addRow("frames", QLabel(f"{record.first_frame} to {record.last_frame}"))
        if record.velocity_um_s is not None:
            spread = f" ± {record.velocity_sd_um_s:.0f}" if record.velocity_sd_um_s is not None else ""
            form.addRow("velocity", QLabel(f"{record.velocity_um_s:.0f}{spread} µm/s"))
        if record.latency_ns is not None:
            form.addRow("latency", QLabel(f"{record.latency_ns / 1e6:.1f} ms"))
        return box

    def ask_why(self) -> None:
        """Compute the heat maps in a thread."""
        verdict = self._record.classification
        if self._explain is None or verdict is None:
            return
        self.why.setEnabled(False)
        self.words.setText("computing …")
        crops = [one.crop for one in self._looks]
        threading.Thread(target=self._work, args=(self._explain, crops, verdict.predicted), daemon=True).start()
        self._timer.start()

    def _work(self, explain: Explain, crops: Sequence[Pixels], predicted: str) -> None:
        try:
            self._maps.put(explain(crops, predicted))
        except HspcError as error:
            self._maps.put(error)

    def _poll(self) -> None:
        try:
            found = self._maps.get_nowait()
        except Empty:
            return
        self._timer.stop()
        if isinstance(found, HspcError):
            self.words.setText(str(found))
            return
        self.words.setText("bright: what raised the score of the class most")
        for one, heat in zip(self._looks, found, strict=True):
            picture = QLabel()
            picture.setPixmap(heated(one.crop, heat, self._edge))
            self.heat.addWidget(picture)
        self.heat.addStretch(1)

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802  # Qt's name
        """Nothing is drawn into a page that has been closed."""
        self._timer.stop()
        super().closeEvent(event)


def _form(title: str) -> tuple[QGroupBox, QFormLayout]:
    box = QGroupBox(title)
    return box, QFormLayout(box)


def heated(crop: Pixels, heat: NDArray[np.float32], size: int) -> QPixmap:
    """A crop in grey, with its heat map over it from clear to orange."""
    low, high = np.percentile(crop, (0.5, 99.5)).tolist()
    grey = np.clip((crop.astype(np.float32) - low) / max(high - low, 1.0), 0, 1)[..., None] * 255.0
    share = np.clip(heat, 0, 1)[..., None] * 0.7
    mixed = (grey * (1 - share) + np.array([230.0, 159.0, 0.0]) * share).astype(np.uint8)
    image = QImage(mixed.tobytes(), mixed.shape[1], mixed.shape[0], 3 * mixed.shape[1], QImage.Format.Format_RGB888)
    return QPixmap.fromImage(image).scaled(size, size)
