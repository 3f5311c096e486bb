"""The look of the screen: dark, one palette that colour-blind people can tell apart, sizes that follow the display."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyqtgraph as pg
from PySide6.QtGui import QColor, QFont, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication

from hspc_live.report.style import class_colours

BACK: Final = "#16181c"
PANEL: Final = "#1f2227"
EDGE: Final = "#3a3f47"
INK: Final = "#e8e8e8"
DIM: Final = "#9aa0a8"
REJECT: Final = "#b0b0b0"
JUNCTION: Final = "#f0e442"
# states are told apart by word and place as well as by colour
GOOD: Final = "#56b4e9"
WARN: Final = "#e69f00"
BAD: Final = "#d55e00"
SIMULATED: Final = "#cc79a7"

SCREEN_HEIGHT: Final = 1080
SMALL_POINTS: Final = 10.0  # of the font on such a screen

SHEET: Final = """
QWidget {{ background: {back}; color: {ink}; }}
QGroupBox {{ border: 1px solid {edge}; border-radius: 4px; margin-top: 1.1em; padding-top: 0.2em; }}
QGroupBox::title {{ subcontrol-origin: margin; left: 0.6em; padding: 0 0.3em; color: {dim}; }}
QPushButton {{ background: {panel}; border: 1px solid {edge}; border-radius: 4px; padding: 0.3em 0.7em; }}
QPushButton:hover {{ border-color: {ink}; }}
QPushButton:focus {{ border: 2px solid {good}; }}
QPushButton:disabled {{ color: #666c75; border-color: #2a2e34; }}
QPushButton#stop {{ background: {bad}; color: white; font-weight: bold; border: 2px solid white; }}
QPushButton#stop:disabled {{ background: #3a2a20; color: #7a6a60; border-color: #4a3a30; }}
QPushButton#stop:pressed {{ background: #8f3f00; }}
QPushButton#arm {{ border-color: {good}; font-weight: bold; }}
QTabWidget::pane {{ border: 1px solid {edge}; }}
QTabBar::tab {{ background: {panel}; padding: 0.3em 0.9em; border: 1px solid {edge}; }}
QTabBar::tab:selected {{ background: #33383f; border-bottom: 2px solid {good}; }}
QToolTip {{ background: #f5f5f0; color: #1c1c1c; border: 1px solid black; }}
QComboBox, QSpinBox, QListWidget, QPlainTextEdit {{ background: {panel}; border: 1px solid {edge}; }}
QCheckBox::indicator {{ width: {box}px; height: {box}px; }}
QPushButton::menu-indicator {{ width: {box}px; height: {box}px; }}
QSplitter::handle {{ background: {edge}; }}
QSplitter::handle:horizontal {{ width: {grip}px; }}
QSplitter::handle:vertical {{ height: {grip}px; }}
QScrollArea {{ border: none; }}
"""


def class_colour_of(classes: Sequence[str]) -> dict[str, str]:
    """The colour of each class, as in every report."""
    return class_colours(classes)


def points() -> float:
    """Size of the normal font: 9 points on a small laptop, more on a large display that is not scaled by itself."""
    screen = QGuiApplication.primaryScreen()
    height = screen.availableGeometry().height() if screen is not None else SCREEN_HEIGHT
    return max(8.5, min(18.0, SMALL_POINTS * height / SCREEN_HEIGHT))


def px(small: float) -> float:
    """The width of a line, or the size of a point, that is `small` pixels on a small display."""
    return small * max(1.0, points() / SMALL_POINTS)


def dress(app: QApplication) -> None:
    """Give the whole application its look."""
    app.setStyle("Fusion")
    font = QFont(app.font())
    font.setPointSizeF(points())
    app.setFont(font)
    palette = QPalette()
    for role, colour in (
        (QPalette.ColorRole.Window, BACK),
        (QPalette.ColorRole.WindowText, INK),
        (QPalette.ColorRole.Base, PANEL),
        (QPalette.ColorRole.Text, INK),
        (QPalette.ColorRole.Button, PANEL),
        (QPalette.ColorRole.ButtonText, INK),
        (QPalette.ColorRole.Highlight, GOOD),
    ):
        palette.setColor(role, QColor(colour))
    app.setPalette(palette)
    app.setStyleSheet(
        SHEET.format(
            back=BACK,
            panel=PANEL,
            edge=EDGE,
            ink=INK,
            dim=DIM,
            good=GOOD,
            bad=BAD,
            box=round(px(14)),
            grip=round(px(4)),
        )
    )
    pg.setConfigOptions(background=BACK, foreground=INK, imageAxisOrder="row-major", antialias=False)
