"""Starts Qt, shows the window, and ends when it is closed."""

from __future__ import annotations

import signal
from pathlib import Path

from PySide6.QtWidgets import QApplication

from hspc_live.view.cell_page import Explain
from hspc_live.view.connection import Connection
from hspc_live.view.look import dress
from hspc_live.view.past import FinishedChamber
from hspc_live.view.sort_panel import Expected
from hspc_live.view.window import Window


def show(connection: Connection | FinishedChamber, expected: Expected, explain: Explain | None, reports: Path) -> int:
    """Show the operator's screen until it is closed; returns Qt's exit code."""
    app = QApplication.instance() or QApplication(["hspc-live"])
    assert isinstance(app, QApplication)
    dress(app)
    window = Window(connection, expected=expected, explain=explain, reports=reports)
    signal.signal(signal.SIGINT, lambda *_: window.close())  # the window's own timer lets Python look at signals
    window.show()
    return int(app.exec())
