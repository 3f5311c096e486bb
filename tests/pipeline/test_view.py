"""The operator's screen over a running pipeline: real window (offscreen), real processes, real sockets."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMessageBox

from hspc_live.processes.ask import ask
from hspc_live.view.connection import Bond, Connection
from hspc_live.view.sort_panel import me
from hspc_live.wire.messages import EndRun

from .conftest import Command

PATIENCE_MS = 120_000
CLOCK = "sort.timing.max_clock_error_ms=50"  # a busy machine knows the clock of a process only roughly


@pytest.fixture
def begin(start, tiny_config: Path, tmp_path: Path) -> Iterator[Callable[[], tuple[Command, str]]]:
    """Starts a live run, disarmed; gives it and its control address. It is ended in good order."""
    runs: list[tuple[Command, str]] = []

    def make() -> tuple[Command, str]:
        out = tmp_path / f"out-{len(runs)}"
        run = start("run", tiny_config, "--for", "240s", "--out", out, "--json", "--set", CLOCK)
        runs.append((run, run.until("control at").split()[-1]))
        return runs[-1]

    yield make
    for run, address in runs:
        if run.process.poll() is None:
            ask(address, EndRun("test"))
            run.end()


def wait(qtbot, holds: Callable[[], bool]) -> None:
    qtbot.waitUntil(holds, timeout=PATIENCE_MS)


def press(qtbot, button) -> None:
    """As a person does: who waits until the button can be pressed."""
    wait(qtbot, button.isEnabled)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def test_a_person_arms_edits_the_gates_disarms_and_the_recording_knows(qtbot, screen, begin, start, monkeypatch):
    run, address = begin()
    window = screen(Connection(address))
    wait(qtbot, lambda: "DISARMED" in window.signs and "SIMULATION" in window.signs)
    press(qtbot, window.sort.arm)
    wait(qtbot, lambda: "ARMED" in window.signs)
    assert not window.sort.arm.isEnabled() and "armed" in window.sort.answer.text()
    wait(qtbot, lambda: len(window.model.cells) >= 5)
    assert window.image.image.image is not None and window.image.image.image.shape == (96, 256)

    line = next(iter(window.model.draft.lines("score:LT-HSC", None)))
    window.model.draft.move_line(line, 0.25)
    wait(qtbot, lambda: "NOT in force" in window.scatter.bar.state.text())
    monkeypatch.setattr(QMessageBox, "exec", lambda _: QMessageBox.StandardButton.Cancel)
    press(qtbot, window.scatter.bar.confirm)
    qtbot.wait(500)
    assert window.model.draft.revision == 0 and window.model.draft.changed, "not confirmed, not asked for"
    monkeypatch.setattr(QMessageBox, "exec", lambda _: QMessageBox.StandardButton.Apply)
    press(qtbot, window.scatter.bar.confirm)
    wait(qtbot, lambda: window.model.draft.revision == 1)
    assert not window.model.draft.changed and window.model.draft.outlets[0].gate.min == 0.25

    press(qtbot, window.sort.disarm)
    wait(qtbot, lambda: "DISARMED" in window.signs)
    page = window.save_report()
    assert page is not None and page.read_text().count("<img") == 2
    figures = json.loads((page.parent / "metrics.json").read_text())
    assert figures["gates"]["revision"] == 1 and figures["cells"]["tracked"] > 0
    assert start("control", "end", "--at", address).end()[0] == 0
    code, out, err = run.end()
    assert code == 0, err
    summary = json.loads(out)
    assert [edit["by"] for edit in summary["gates"]["edits"]] == [me()]
    assert "(view)" in summary["disarmed"][0]


def test_a_gate_that_cannot_be_is_refused_in_words(qtbot, screen, begin):
    _, address = begin()
    window = screen(Connection(address))
    wait(qtbot, lambda: window.model.shown is not None)
    window.scatter.bar._apply('{"outlets": [{"name": "x", "gate": {"kind": "score", "class_name": "nobody"}}]}')
    wait(qtbot, lambda: "nobody" in window.sort.answer.text())
    assert window.model.draft.revision == 0


def test_stop_works_when_the_sort_process_hangs(qtbot, screen, begin, processes):
    run, address = begin()
    window = screen(Connection(address, follow=False))
    wait(qtbot, lambda: window.model.shown is not None)
    press(qtbot, window.sort.arm)
    wait(qtbot, lambda: "ARMED" in window.signs)
    [sort] = [pid for pid in children(run.process.pid) if processes.below(pid)]  # the sorter is its child
    os.kill(sort, signal.SIGSTOP)
    wait(qtbot, lambda: any(sign.startswith("NO WORD") for sign in window.signs))
    assert window.sort.stop.isEnabled(), "whatever sort does, STOP can be pressed"
    pressed = time.monotonic()
    press(qtbot, window.sort.stop)
    wait(qtbot, lambda: not processes.alive(sort))
    assert time.monotonic() - pressed < 8.0, "sooner than the supervisor's own patience of 10 s with a silent process"
    code, _, err = run.end()
    assert code == 130 and "(view)" in err, err
    wait(qtbot, lambda: "CONNECTION LOST" in window.signs)


def children(pid: int) -> list[int]:
    return [int(one) for file in Path(f"/proc/{pid}/task").glob("*/children") for one in file.read_text().split()]


def test_the_screen_attaches_again_after_a_restart(qtbot, screen, begin, start):
    first, address = begin()
    found = [address]
    window = screen(Connection(find=lambda: found))
    wait(qtbot, lambda: len(window.model.cells) > 0)
    run = window.model.about.run
    lost = window.model.losses.total
    found.clear()
    assert start("control", "end", "--at", address).end()[0] == 0
    first.end()
    wait(qtbot, lambda: "CONNECTION LOST" in window.signs)
    assert not window.sort.arm.isEnabled() and not window.sort.stop.isEnabled()
    _, again = begin()
    found.append(again)
    wait(qtbot, lambda: window.connection.state is Bond.ATTACHED and len(window.model.cells) > 0)
    assert window.model.about.run != run and "CONNECTION LOST" not in window.signs
    assert window.model.losses.total >= lost


def test_a_screen_that_stood_still_shows_what_is_now(qtbot, screen, begin):
    """Nothing is handed out for three seconds; then the newest frame is shown at once, not those in between."""
    _, address = begin()
    window = screen(Connection(address))
    wait(qtbot, lambda: window.model.received > 5)
    before = window.model.shown.told
    time.sleep(3.0)  # the whole screen hangs
    after = window.model.received
    wait(qtbot, lambda: window.model.received > after)
    now = window.model.shown.told
    assert now.sent_ns - before.sent_ns > 2 * 10**9, "the first one shown is new"
    assert window.model.missed > 0, "what was not shown is counted"


def test_the_window_remembers_how_it_was_left(qtbot, screen):
    first = screen(Connection(find=list))
    first.right.setCurrentIndex(2)
    first.image.names.setChecked(False)
    first.close()
    second = screen(Connection(find=list))
    assert second.right.currentIndex() == 2 and not second.image.names.isChecked()
    wait(qtbot, lambda: "NOT CONNECTED" in second.signs)
    qtbot.mouseClick(second.sort.stop, Qt.MouseButton.LeftButton)
    assert second.wishes.waiting == 0, "without a run nothing is sent anywhere"
