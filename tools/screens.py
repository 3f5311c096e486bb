"""Render the operator's screens into docs/screens: a real window over a real run on the digital twin.

    python tools/screens.py [--out docs/screens]           # or: make screens
    python tools/screens.py --only chamber                 # the chamber view alone

Needs no display (Qt's offscreen platform). It takes four to five minutes: the run is live, cells must come. The twin is
filmed at a twentieth of its pace, so that a small machine that also draws this window keeps up.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QSettings
from PySide6.QtWidgets import QApplication, QWidget

from hspc_live.cli.view import Explainer
from hspc_live.report.chamber_evidence import RECORDING
from hspc_live.view.connection import Connection
from hspc_live.view.launch import Launched
from hspc_live.view.look import dress
from hspc_live.view.past import FinishedChamber
from hspc_live.view.window import Window
from hspc_live.wire.messages import DriveStage

PATIENCE_S = 500.0
SLOW = {
    "camera.twin.frames_per_s": 5,
    "camera.twin.velocity_um_s": 200,
    "camera.twin.events_per_s": 1.2,
    "camera.twin.junction_um": 700,
    "sort.timing.junction_um": 700,
    "sort.timing.max_pulse_ms": 400,
    "sort.timing.commit_lead_ms": 480,
    "sort.track.velocity_um_s": 200,
    "sort.track.velocity_sd_um_s": 40,
    "population.events_per_s": 1.2,
    "pipeline.frame_deadline_s": 3,
}


CHAMBER = "chamber.tiling.area={kind: rectangle, x0_um: -550, y0_um: -550, width_um: 1100, height_um: 1100}"
"""A quarter of the shipped chamber: 25 fields."""


class Studio:
    """Turns Qt's loop until something holds, then takes pictures."""

    def __init__(self, app: QApplication, out: Path) -> None:
        self.app = app
        self.out = out

    def until(self, holds: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        """Go on until `holds`; ends the program if it never does."""
        deadline = time.monotonic() + patience_s
        while not holds():
            self.app.processEvents()
            time.sleep(0.005)
            if time.monotonic() > deadline:
                sys.exit(f"waited in vain for {what}")

    def pause(self, seconds: float) -> None:
        """Let the screen live for a while."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end, "time", seconds + 60)

    def take(self, name: str, widget: QWidget) -> None:
        """Save what `widget` shows."""
        self.app.processEvents()
        path = self.out / f"{name}.png"
        widget.grab().save(str(path))
        print(path)


def main() -> None:
    """Run the twin, drive the screen, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/screens"))
    parser.add_argument("--cells", type=int, default=120, help="cells to wait for")
    parser.add_argument("--only", choices=("flow", "chamber"), help="of the two kinds of run")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    app = QApplication(["screens"])
    dress(app)
    studio = Studio(app, arguments.out)
    if arguments.only != "chamber":
        _flow(studio, arguments.cells)
    if arguments.only != "flow":
        _chamber(studio)


def _flow(studio: Studio, cells: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "demo"
        launched = Launched(["demo", "--seconds", "900", "--out", str(recording), *_slow()])
        explain = Explainer()
        settings = QSettings(str(Path(folder) / "view.ini"), QSettings.Format.IniFormat)
        window = Window(
            Connection(follow=False, find=launched.found),
            expected=explain.expected,
            explain=explain,
            reports=Path(folder),
            settings=settings,
        )
        try:
            window.show()
            _live(studio, window, cells)
            launched.close()
            studio.until(lambda: "CONNECTION LOST" in window.signs, "the loss of the connection")
            studio.pause(1.0)
            studio.take("connection-lost", window)
        finally:
            window.close()
            launched.close()
        _replay(studio, Path(folder), recording / "recording.rtdc")


def _slow() -> list[str]:
    return [word for key, value in SLOW.items() for word in ("--set", f"{key}={value}")]


def _live(studio: Studio, window: Window, cells: int) -> None:
    studio.until(lambda: window.attached and len(window.model.cells) >= 5, "the first cells")
    window.sort.arm.click()
    studio.until(lambda: len(window.model.cells) >= cells, f"{cells} cells")
    busy = [0.0]

    def crowded() -> bool:
        """A frame with a few cells in it, at least one of them named; after a while any will do."""
        busy[0] = busy[0] or time.monotonic()
        shown = window.model.shown
        named = [one for one in shown.told.seen if one.predicted] if shown is not None else []
        late = time.monotonic() - busy[0] > 20
        return (len(named) >= 2 and shown is not None and len(shown.told.seen) >= 3) or late

    studio.until(crowded, "a frame with cells")
    studio.take("live", window)
    window.right.setCurrentWidget(window.latency)
    window.left.setCurrentWidget(window.histogram)
    studio.pause(1.0)
    studio.take("latency", window)
    window.right.setCurrentWidget(window.rates)
    studio.pause(1.0)
    studio.take("rates", window)
    window.right.setCurrentWidget(window.gallery)
    window.left.setCurrentWidget(window.scatter)
    studio.pause(0.5)
    line = next(iter(window.model.draft.lines(window.scatter.across.currentText(), None)))
    window.model.draft.move_line(line, 0.55)
    window.scatter.new_polygon()
    studio.pause(1.0)
    studio.take("gates-moved", window)
    window.scatter.bar.forget()
    number = next(look.record.cell for look in reversed(window.model.looks.values()) if look.record.classification)
    window.open_cell(number)
    page = window.findChildren(QWidget, "cell-page")[-1]
    page.why.click()
    studio.until(lambda: page.heat.count() > 0, "Score-CAM")
    studio.pause(0.5)
    studio.take("cell-page", page)
    page.close()
    window.sort.disarm.click()
    studio.until(lambda: "DISARMED" in window.signs, "DISARMED")


def _replay(studio: Studio, folder: Path, recording: Path) -> None:
    launched = Launched(["replay", str(recording), "--speed", "1"])
    explain = Explainer()
    settings = QSettings(str(folder / "replay.ini"), QSettings.Format.IniFormat)
    connection = Connection(follow=False, find=launched.found)
    window = Window(connection, expected=explain.expected, explain=explain, reports=folder, settings=settings)
    try:
        window.show()
        studio.until(lambda: window.attached and len(window.model.cells) >= 20, "cells in the replay")
        window.hold()
        studio.pause(2.0)
        studio.take("replay-held", window)
    finally:
        window.close()
        launched.close()


def _chamber(studio: Studio) -> None:
    """A chamber scanned, listed, visited again; then the stage driven to a cell of the list, and the results."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "chamber"
        config = Path(__file__).parents[1] / "configs/rigs/twin_chamber.yaml"
        launched = Launched(["run", str(config), "--revisit", "--stay", "--out", str(out), "--set", CHAMBER])
        settings = QSettings(str(Path(folder) / "view.ini"), QSettings.Format.IniFormat)
        window = Window(Connection(follow=False, find=launched.found), reports=Path(folder), settings=settings)
        try:
            window.show()
            model = window.chamber_model
            studio.until(lambda: model.shown is not None and len(model.shown.visited) >= 12, "half of the scan")
            studio.pause(1.0)
            studio.take("chamber-scan", window)
            studio.until(lambda: "yours" in window.chamber.doing.text(), "the end of the run")
            window.chamber.list.selectRow(3)
            assert model.chosen is not None
            window.tell(DriveStage(model.chosen.x_um, model.chosen.y_um, "screens"))
            studio.until(lambda: "the stage stands at" in window.chamber.answer.text(), "the stage")
            studio.pause(1.0)
            studio.take("chamber", window)
        finally:
            window.close()
            launched.close()
        window = Window(FinishedChamber(out / RECORDING), reports=Path(folder), settings=settings)
        window.show()
        window.resize(1366, 768)  # the display of the tests is small, and the window before was cut to it
        studio.until(lambda: window.chamber.list.rowCount() > 3, "the list")
        window.chamber.list.selectRow(3)
        studio.pause(0.5)
        studio.take("chamber-finished", window)
        window.close()


if __name__ == "__main__":
    main()
