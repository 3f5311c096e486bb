"""What a run shows to those who look on, over its real sockets; and that looking on changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hspc_live.cli.execute import Order, Outcome, execute
from hspc_live.processes.ask import ask
from hspc_live.wire.links import open_sub
from hspc_live.wire.messages import ArmNow, AskRun, Pace, SetGates
from hspc_live.wire.telemetry import Shown, unpack

FROZEN_S = float(os.environ.get("HSPC_FROZEN_S", "4"))
"""How long a screen stands still; `make frozen` makes it a minute."""

VIEWER = """
import json, sys
from pathlib import Path
from PySide6.QtCore import QSettings, QTimer
from PySide6.QtWidgets import QApplication
from hspc_live.view.connection import Connection
from hspc_live.view.window import Window
app = QApplication(["viewer"])
settings = QSettings(sys.argv[2] + "/frozen.ini", QSettings.Format.IniFormat)
window = Window(Connection(sys.argv[1], follow=False), reports=Path(sys.argv[2]), settings=settings)
window.show()
state = {"looking": False}
def look():
    if window.model.received and not state["looking"]:
        state["looking"] = True
        print("looking", flush=True)
    if "CONNECTION LOST" in window.signs:
        print(json.dumps({"received": window.model.received, "missed": window.model.missed}), flush=True)
        window.close()
        app.quit()
timer = QTimer()
timer.timeout.connect(look)
timer.start(20)
app.exec()
"""


class Onlooker:
    """Listens to a run's words for its control socket, and does `work(control)` in a thread once it is under way."""

    def __init__(self, work: Callable[[str], None]) -> None:
        self._work = work
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def __call__(self, role: str, kind: str, text: str) -> None:
        if kind == "running":
            self._thread = threading.Thread(target=self._run, args=(text.rpartition(" ")[2],))
            self._thread.start()

    def _run(self, control: str) -> None:
        try:
            self._work(control)
        except BaseException as error:  # shown by the test, which runs in the main thread
            self._failure = error

    def done(self) -> None:
        assert self._thread is not None, "the run never came under way"
        self._thread.join(60)
        if self._failure is not None:
            raise self._failure


def show_address(control: str) -> str:
    return json.loads(ask(control, AskRun()).detail)["facts"]["sort"]["show"]


def look(address: str, for_s: float) -> Iterator[Shown]:
    """What is shown at `address` for so long."""
    until = time.monotonic() + for_s
    with open_sub(address) as link:
        while (left := until - time.monotonic()) > 0:
            if link.wait(left) and (got := link.try_recv()) is not None:
                yield unpack(got[1][0])


@pytest.fixture(scope="module")
def shown(tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Shown], Outcome]:
    """A live run that is armed and given other gates while somebody looks on."""
    seen: list[Shown] = []

    def work(control: str) -> None:
        address = show_address(control)
        ask(control, ArmNow("anna"))
        gate = {"kind": "score", "class_name": "LT-HSC", "min": 0.25}
        ask(control, SetGates(json.dumps({"outlets": [{"name": "other", "mode": "recovery", "gate": gate}]}), "anna"))
        seen.extend(look(address, 5.0))

    onlooker = Onlooker(work)
    out = tmp_path_factory.mktemp("shown") / "out"
    outcome = execute(Order(tiny("camera.frames=700"), live=True, out=out), onlooker)
    onlooker.done()
    return seen, outcome


def test_pictures_come_with_their_objects_and_outlines(shown):
    seen, outcome = shown
    pictures = [s for s in seen if s.pixels.size and len(s.objects)]
    assert len(pictures) > 5
    assert [s.told.number for s in seen] == sorted({s.told.number for s in seen}), "each is newer than the one before"
    for s in pictures:
        assert s.pixels.shape == (96, 256) and s.run == outcome.summary["run"]
        assert s.masks.shape[0] == len(s.objects) == len(s.told.seen)
        assert all(mask.any() for mask in s.masks), "every object has its outline"
    assert any(one.predicted for s in seen for one in s.told.seen), "cells in view are named once they are known"


def test_cells_come_with_scores_features_and_crops(shown):
    seen, _ = shown
    last = seen[-1]
    assert len(last.told.cells) > 3 and len(last.crops) == len(last.told.crops) > 3
    cell = last.told.cells[-1]
    assert cell.classification is not None and cell.features["area_um2"] > 0
    assert {name for name, _, _ in last.told.crops} <= {record.cell for record in last.told.cells}
    crop = last.crops[-1]
    assert np.ptp(crop) > 10, "a crop shows something"


def test_the_standing_is_the_run_s_own(shown):
    seen, outcome = shown
    standing = seen[-1].told.standing
    assert standing.armed and standing.gate_revision == 1 and json.loads(standing.outlets)[0]["name"] == "other"
    assert standing.lasting == [] and standing.slots == 64
    ledger = json.loads(standing.ledger)
    assert 0 < ledger["frames"]["captured"] <= outcome.summary["frames"]["captured"]
    assert 0 < ledger["cells"]["tracked"] <= outcome.summary["cells"]["tracked"]
    assert standing.met <= int(seen[-1].latencies.sum()) <= ledger["cells"]["tracked"]
    assert sum(count.sorted for count in standing.sorted) == ledger["cells"]["sorted"]
    for count in standing.sorted:  # before the new gates cells went into the settings' own outlet
        assert count.scores[0] == pytest.approx(count.sorted, rel=1e-3), "the null engine is always sure"
    assert "other" in [count.name for count in standing.sorted]


def test_the_summary_says_what_looking_on_cost(shown, live):
    _, outcome = shown
    cost = outcome.summary["shown"]
    assert cost["messages"] > 5 and 0 < cost["busy_ns"] / cost["messages"] < 1e9
    assert live.summary["shown"] == {"messages": 0, "without_picture": 0, "busy_ns": 0, "refused": 0}, (
        "nobody looked, nothing was made"
    )


class Viewer:
    """The operator's screen as a process of its own; says when it looks, and at its end what came."""

    def __init__(self, control: str, folder: Path) -> None:
        command = [sys.executable, "-c", VIEWER, control, str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None and self.process.stdout.readline() == "looking\n"

    def freeze(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def said(self) -> dict[str, int]:
        out, _ = self.process.communicate(timeout=60)
        return json.loads(out.splitlines()[-1])


def rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_a_screen_frozen_for_a_while_changes_nothing(live, replayed, replay, processes, tmp_path):
    """The same recording replayed beside a real screen that stands still: the very same verdicts, nothing lost.

    What it did not take is counted by the numbers of the messages, and nothing of it is kept in the pipeline.
    """
    viewers: list[Viewer] = []
    found: dict[str, float] = {}

    def work(control: str) -> None:
        assert ask(control, Pace(0)).done  # until the screen looks on
        viewers.append(Viewer(control, tmp_path))
        sort = processes.of_role("sort")
        assert ask(control, Pace(None)).done
        time.sleep(0.5)
        viewers[0].freeze()
        found["before"] = rss_mib(sort)
        time.sleep(FROZEN_S)
        found["after"] = rss_mib(sort)
        found["alive"] = processes.alive(sort)
        viewers[0].thaw()

    onlooker = Onlooker(work)
    try:
        outcome = replay(live.path, speed=2.5 / (FROZEN_S + 4.0), listen=onlooker)
        onlooker.done()
        told = viewers[0].said()
    finally:
        for viewer in viewers:
            viewer.process.kill()
            viewer.process.communicate()
    assert outcome.error is None and found["alive"], "the run outlived the frost"
    for same in ("decisions_sha256", "outcomes_sha256", "frames", "views", "cells", "commands"):
        assert outcome.summary[same] == replayed.summary[same], same
    made = outcome.summary["shown"]["messages"]
    assert told["missed"] > 10 * FROZEN_S, "messages were made all the while, and it knows that it missed them"
    assert told["received"] + told["missed"] <= made
    assert found["after"] - found["before"] < 24, "not even the pictures of a second were kept for it"


@pytest.mark.skipif("HSPC_FROZEN_S" not in os.environ, reason="takes a quiet machine: `make frozen`")
def test_a_live_run_beside_a_frozen_screen_decides_as_soon_as_one_without(tiny, processes, tmp_path):
    """Live, on a machine that does nothing else: the slowest hundredth of decisions, and frames that were dropped."""
    frames = round(100 * (FROZEN_S + 10))
    viewers: list[Viewer] = []

    def work(control: str) -> None:
        viewers.append(Viewer(control, tmp_path))
        viewers[0].freeze()
        time.sleep(FROZEN_S)
        viewers[0].thaw()

    summaries = []
    for onlooker in (None, Onlooker(work)):
        out = tmp_path / f"out-{len(summaries)}"
        order = Order(tiny(f"camera.frames={frames}"), live=True, arm_by="test", out=out)
        summaries.append(execute(order, onlooker or (lambda *_: None)).summary)
        if onlooker is not None:
            onlooker.done()
    for viewer in viewers:
        viewer.process.kill()
        viewer.process.communicate()
    alone, beside = (summary["latency_ms"] for summary in summaries)
    print(f"p50 {alone['p50']} → {beside['p50']} ms, p99 {alone['p99']} → {beside['p99']} ms")
    assert summaries[1]["frames"]["dropped"] == summaries[0]["frames"]["dropped"] == {}
    assert summaries[1]["shown"]["messages"] > 10 * FROZEN_S and summaries[0]["shown"]["messages"] == 0
    assert beside["p99"] < 1.5 * alone["p99"] + 5.0


def test_a_replay_is_held_still_and_let_go_frame_by_frame(live, replayed, replay):
    found: dict[str, list[int]] = {}

    def frames(address: str, for_s: float) -> list[int]:
        return [json.loads(s.told.standing.ledger)["frames"]["processed"] for s in look(address, for_s)]

    def work(control: str) -> None:
        address = show_address(control)
        assert ask(control, Pace(0)).done
        time.sleep(0.5)
        found["held"] = frames(address, 1.0)
        assert ask(control, Pace(3)).done
        time.sleep(0.5)
        found["stepped"] = frames(address, 1.0)
        assert ask(control, Pace(None)).done

    onlooker = Onlooker(work)
    outcome = replay(live.path, speed=0.5, listen=onlooker)
    onlooker.done()
    assert len(set(found["held"])) == 1, "nothing moves while it is held"
    assert set(found["stepped"]) == {found["held"][0] + 3}
    assert outcome.summary["decisions_sha256"] == replayed.summary["decisions_sha256"]


def test_a_live_run_is_not_held(tiny, tmp_path: Path):
    told = []
    onlooker = Onlooker(lambda control: told.append(ask(control, Pace(0))))
    execute(Order(tiny("camera.frames=100"), live=True, out=tmp_path / "out"), onlooker)
    onlooker.done()
    assert not told[0].done and "replay" in told[0].text
