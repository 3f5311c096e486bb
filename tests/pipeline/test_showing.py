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

LOOKER = """
import sys
from hspc_live.wire.links import open_sub
with open_sub(sys.argv[1]) as link:
    assert link.wait(60)
    print("looking", flush=True)
    while True:
        link.wait(1)
        link.try_recv()
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
    assert live.summary["shown"] == {"messages": 0, "without_picture": 0, "busy_ns": 0}, (
        "nobody looked, nothing was made"
    )


def test_a_frozen_onlooker_changes_nothing(live, replayed, replay, tmp_path):
    """The same recording replayed with someone who looks on and then stands still: the very same verdicts."""
    started: list[subprocess.Popen[str]] = []
    frozen = threading.Event()

    def work(control: str) -> None:
        address = show_address(control)
        process = subprocess.Popen([sys.executable, "-c", LOOKER, address], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "looking\n"
        os.kill(process.pid, signal.SIGSTOP)
        frozen.set()

    onlooker = Onlooker(work)
    try:
        outcome = replay(live.path, speed=0.25, listen=onlooker)
        onlooker.done()
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert frozen.is_set()
    assert outcome.error is None
    assert outcome.summary["decisions_sha256"] == replayed.summary["decisions_sha256"]
    assert outcome.summary["outcomes_sha256"] == replayed.summary["outcomes_sha256"]
    assert outcome.summary["frames"] == replayed.summary["frames"]


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
