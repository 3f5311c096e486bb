"""A chamber run reached from outside, over its real socket: how it stands, ended, stopped."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chambers import GIVEN
from hspc_live.core.chamber import Visit
from hspc_live.core.errors import DeviceError, SettingsError, StoppedError
from hspc_live.processes.ask import ask
from hspc_live.processes.chamber import ChamberRun
from hspc_live.processes.chamber_control import run_sockets, serve
from hspc_live.processes.chamber_io import FieldSource
from hspc_live.processes.chamber_replay import RecordedFields
from hspc_live.processes.chamber_showing import ChamberShowing
from hspc_live.processes.chamber_values import ChamberReport
from hspc_live.recording.chamber_reader import open_chamber
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.load import load_run_text
from hspc_live.wire.address import running
from hspc_live.wire.chamber_telemetry import ChamberHead, ChamberShown, Mark, unpack_chamber
from hspc_live.wire.links import Link, open_sub
from hspc_live.wire.messages import (
    Answer,
    ArmNow,
    AskRun,
    AskStatus,
    DisarmNow,
    DriveStage,
    EndRun,
    Ready,
    SetGates,
    StopNow,
)
from hspc_live.wiring_chamber import build_chamber, chamber_recorder

Start = Callable[..., Any]


LARGE = (
    "camera.twin.width_mm=1.4", "camera.twin.height_mm=1.4",
    "chamber.tiling.area={kind: rectangle, x0_um: -600, y0_um: -600, width_um: 1200, height_um: 1200}",
)  # fmt: skip
"""So many fields that another command has started before the last is done."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("chamber") / "chamber.yaml"
    file.write_text(GIVEN)
    return file


class Asked:
    """A run with a recording; somebody sends `wishes` once `at` has been said."""

    def __init__(self, tmp_path: Path, wishes: list[Any], at: tuple[str, str], *overrides: str) -> None:
        settings = load_run_text(GIVEN, "small chamber", overrides)
        assert isinstance(settings, ChamberRunSettings)
        self.settings, self.wishes, self.at = settings, wishes, at
        self.path = tmp_path / "recording.h5"
        self.answers: list[Answer] = []
        self.said: list[tuple[str, str]] = []

    def listen(self, _role: str, kind: str, text: str) -> None:
        self.said.append((kind, text))
        if kind == self.at[0] and text.startswith(self.at[1]) and self.wishes:
            wishes, self.wishes = self.wishes, []
            self._asking = asyncio.get_running_loop().create_task(self._ask(wishes))

    async def _ask(self, wishes: list[Any]) -> None:
        for wish in wishes:
            self.answers.append(await asyncio.to_thread(ask, self.address, wish, 10.0))

    def run(self, *, revisit: bool = False) -> ChamberReport:
        recorder = chamber_recorder(self.settings, None, self.path, "run")
        parts, _ = build_chamber(self.settings, (recorder,))
        with run_sockets() as (control, _):
            self.address = control.address
            run = ChamberRun(parts, self.settings, revisit=revisit, listen=self.listen, control=control)
            return asyncio.run(run.run())


def test_it_says_how_it_stands_and_what_it_cannot_do(tmp_path: Path) -> None:
    gates = SetGates('{"outlets": []}', "anna")
    asked = Asked(
        tmp_path, [AskStatus(), ArmNow("anna"), DisarmNow("anna"), gates, Ready("segment", 1)], ("scan", "field 2 ")
    )
    report = asked.run()
    status, arm, disarm, gates_, worker = asked.answers
    told = json.loads(status.detail)
    assert status.done and told["mode"] == "chamber" and told["doing"] == "scan" and told["ending"] is None
    assert 2 <= told["fields"]["visited"] <= told["fields"]["planned"] == len(report.facts.plan)
    assert told["frames"]["captured"] >= 1
    assert not arm.done and arm.error == "ArmingError" and "makes a list" in arm.text
    assert disarm.done
    assert not gates_.done and "replay the recording" in gates_.text
    assert not worker.done and "chamber" in worker.text
    assert report.summary["ended_by"] is None and report.summary["picking"]["complete"]
    assert ("control", f"at {asked.address}") in asked.said
    assert not any(asked.address in found for found in running())  # the socket goes with the run


def test_ended_from_outside_it_lists_what_it_saw_and_says_that_it_is_not_all(tmp_path: Path) -> None:
    asked = Asked(tmp_path, [EndRun("anna"), AskStatus()], ("scan", "field 3 "))
    report = asked.run(revisit=True)
    assert asked.answers[0].done
    assert not report.interrupted and report.summary["ended_by"] == "anna" and report.failure is None
    assert 3 <= report.summary["fields"]["visited"] < report.summary["fields"]["planned"]
    assert report.summary["picking"]["complete"] is False and report.summary["picking"]["listed"] > 0
    assert report.summary["ledger"]["balanced"]
    with open_chamber(asked.path) as recording:
        assert ("ended_by", "anna") in [(note["kind"], note["detail"]) for note in recording.lines("notes")]


@pytest.mark.parametrize("at", [("scan", "field 3 "), ("revisit", "field")], ids=["in the scan", "second visit"])
def test_stopped_from_outside_there_is_no_list_and_the_recording_is_closed(tmp_path: Path, at: tuple[str, str]) -> None:
    asked = Asked(tmp_path, [StopNow("anna")], at)
    with pytest.raises(StoppedError, match=r"stopped by anna; no list is written") as caught:
        asked.run(revisit=True)
    assert caught.value.exit_code == 130 and asked.answers[0].text == "stopping"
    with open_chamber(asked.path) as recording:
        assert len(recording.numbers()) >= 3
        assert ("stopped", "anna") in [(note["kind"], note["detail"]) for note in recording.lines("notes")]
        assert recording.summary is None and not recording.attributes["closed"]


def test_stopped_while_the_camera_is_measured_nothing_more_moves(tmp_path: Path) -> None:
    asked = Asked(tmp_path, [StopNow("anna")], ("control", ""), "calibration={kind: measure}")
    with pytest.raises(StoppedError, match="stopped by anna before the first field"):
        asked.run()
    assert not asked.path.exists()


def larger() -> list[str]:
    return [word for change in LARGE for word in ("--set", change)]


def test_by_the_command_line_a_stop_leaves_a_recording_and_no_list(start: Start, config: Path, tmp_path: Path) -> None:
    command = start("run", config, "--revisit", "--json", "--out", tmp_path / "out", *larger())
    address = re.findall(r"ipc://\S+", command.until("control"))[0]
    command.until("planned")
    code, said, err = start("control", "status", "--at", address).end()
    assert code == 0 and "planned for the scan" in said, err
    code, _, err = start("control", "arm", "--at", address).end()
    assert code == 8 and "does not arm" in err
    assert start("control", "stop", "--at", address).end()[0] == 0
    code, said, err = command.end()
    assert code == 130 and json.loads(said)["exit_code"] == 130 and "no list is written" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["recording.h5"]


def test_by_the_command_line_an_end_leaves_a_list_that_says_it_is_not_all(
    start: Start, config: Path, tmp_path: Path
) -> None:
    command = start("run", config, "--json", "--out", tmp_path / "out", *larger())
    address = re.findall(r"ipc://\S+", command.until("control"))[0]
    command.until("planned")
    assert start("control", "end", "--at", address).end()[0] == 0
    code, said, err = command.end()
    assert code == 0, err
    assert json.loads(said)["ended_by"] and not json.loads(said)["interrupted"]
    assert (tmp_path / "out" / "picking_list_incomplete.csv").is_file()
    assert not (tmp_path / "out" / "picking_list.csv").exists()
    assert json.loads((tmp_path / "out" / "picking_list.json").read_text())["complete"] is False


# ---- looked at, and the stage driven ---------------------------------------------------------------------------------


class Looked(Asked):
    """As `Asked`, but the stage is kept afterwards: then `drives` are sent, and the run ended by `last`."""

    def __init__(self, tmp_path: Path, drives: list[Any], *overrides: str, last: Any = None) -> None:
        super().__init__(tmp_path, [AskRun(), DriveStage(0.0, 0.0, "anna")], ("scan", "field 2 "), *overrides)
        self.drives = [*drives, EndRun("anna") if last is None else last]
        self.stayed: list[ChamberReport] = []
        self.seen: list[ChamberShown] = []

    def listen(self, _role: str, kind: str, text: str) -> None:
        super().listen(_role, kind, text)
        if kind == "staying":
            self._driving = asyncio.get_running_loop().create_task(self._drive())

    def source(self, source: FieldSource) -> FieldSource:
        """What the run has for a stage."""
        return source

    async def _drive(self) -> None:
        await self._ask(self.drives[:-1])
        while self.seen[-1].told.standing.no_driving:  # until who looks on has been told, too
            await asyncio.sleep(0.05)
        await self._ask(self.drives[-1:])

    def run(self, *, revisit: bool = False) -> ChamberReport:
        recorder = chamber_recorder(self.settings, None, self.path, "run")
        parts, _ = build_chamber(self.settings, (recorder,))
        parts = replace(parts, source=self.source(parts.source))
        with run_sockets() as (control, shown):
            self.address = control.address
            showing = ChamberShowing(shown, self.settings, run="run-7", engine="null", live=True)
            looker = threading.Thread(target=self._look, args=(shown.address,))
            looker.start()
            try:
                whole = ChamberRun(
                    parts, self.settings, revisit=revisit, listen=self.listen, control=control, showing=showing,
                    stay=self.stayed.append,
                )  # fmt: skip
                return asyncio.run(whole.run())
            finally:
                self._done = True
                looker.join()

    _done = False

    def _look(self, address: str) -> None:
        with open_sub(address) as link:
            while not self._done:
                if link.wait(0.1) and (got := link.try_recv()) is not None:
                    self.seen.append(unpack_chamber(got[1][0]))


def test_the_stage_is_driven_only_when_the_run_has_let_go_of_it_and_only_where_it_may(tmp_path: Path) -> None:
    drives = [DriveStage(30.0, -20.0, "anna"), DriveStage(9e6, 0.0, "anna"), DriveStage(float("nan"), 0.0, "anna")]
    looked = Looked(tmp_path, drives)
    report = looked.run(revisit=True)
    about, early, there, beyond, nowhere = looked.answers[:5]  # that to the wish to end may come after the loop
    head = msgspec.json.decode(json.dumps(json.loads(about.detail)["head"]), type=ChamberHead)
    assert head.run == "run-7" and head.classes == ("LT-HSC", "ST-HSC", "MPP") and head.width_px == 512
    assert not early.done and "the run moves it" in early.text
    assert there.done and "stands at (30.0, -20.0)" in there.text
    for refused in (beyond, nowhere):
        assert (
            not refused.done and "outside the limits of travel" in refused.text and "nothing was moved" in refused.text
        )
    assert looked.stayed == [report] and report.handed_over and not report.interrupted
    assert report.summary["ended_by"] is None, "a run that came to its end was not ended early by who left it"
    with open_chamber(looked.path) as recording:
        assert recording.summary is not None and len(recording.cells()) == len(report.cells)


def test_who_looks_on_sees_the_map_grow_and_then_the_list(tmp_path: Path) -> None:
    looked = Looked(tmp_path, [DriveStage(30.0, -20.0, "anna"), AskStatus()])
    report = looked.run(revisit=True)
    first, last = looked.seen[0], looked.seen[-1]
    assert {shown.told.standing.doing for shown in looked.seen} >= {"scan", "staying"}
    assert len(first.planned) == len(report.facts.plan)
    visited = [len(shown.visited) for shown in looked.seen]
    assert visited == sorted(visited) and visited[-1] == len(report.facts.plan)
    assert last.pixels.shape == (512, 512)
    numbers = last.marks.kinds[:, 0].tolist()
    assert numbers == [cell.cell for cell in report.cells], "once the list is made, every object is there once"
    assert [line.cell for line in last.told.listed] == [pick.cell for pick in report.listed.picks]
    marks = last.marks.kinds[last.marks.kinds[:, 2] == Mark.LISTED]
    assert sorted(marks[:, 0].tolist()) == sorted(pick.cell for pick in report.listed.picks)
    fresh = {cell.cell: cell for cell in report.revisited}
    for line in last.told.listed:
        if not fresh[line.cell].lost:
            assert (line.x_um, line.y_um) == (fresh[line.cell].x_um, fresh[line.cell].y_um), "a pick goes to it"
            assert line.again.startswith("found")
    assert "stands at (30.0, -20.0)" in last.told.standing.driven and last.told.standing.no_driving == ""


def test_a_stop_while_the_stage_is_kept_halts_it_and_the_list_stays(tmp_path: Path) -> None:
    looked = Looked(tmp_path, [], last=StopNow("anna"))
    with pytest.raises(StoppedError, match="stopped by anna; the list had been made"):
        looked.run()
    assert looked.stayed and looked.stayed[0].cells


class Behind:
    """A source of fields behind which something is changed."""

    def __init__(self, source: FieldSource) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


class Slow(Behind):
    """Its stage is on its way, when a person drives it, until it is halted (or 20 s are over)."""

    def __init__(self, source: FieldSource) -> None:
        super().__init__(source)
        self.moving, self.halted, self.answered = threading.Event(), threading.Event(), threading.Event()

    def look_at(self, x_um: float, y_um: float) -> Visit:
        self.moving.set()
        text = "the stage was halted" if self.halted.wait(20.0) else "the stage went on"
        raise DeviceError(text)

    def halt(self) -> None:
        self.halted.set()
        self._source.halt()

    def close(self) -> None:
        self.answered.wait(5.0)  # who asked is in the run's own loop here, and would go with it
        self._source.close()


class CtrlC(Looked):
    """While the stage that is kept is on its way, somebody presses Ctrl-C twice."""

    slow: Slow

    def source(self, source: FieldSource) -> FieldSource:
        self.slow = Slow(source)
        return self.slow  # type: ignore[return-value]

    async def _drive(self) -> None:
        self._driven = asyncio.create_task(self._ask([DriveStage(30.0, -20.0, "anna")]))
        self._driven.add_done_callback(lambda _: self.slow.answered.set())
        await asyncio.to_thread(self.slow.moving.wait, 20.0)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.1)


def test_ctrl_c_ends_a_run_that_keeps_its_stage_and_twice_halts_a_stage_on_its_way(tmp_path: Path) -> None:
    pressed = CtrlC(tmp_path, [])
    with pytest.raises(StoppedError, match="stopped by Ctrl-C; the list had been made"):
        pressed.run()
    assert pressed.slow.halted.is_set() and pressed.answers[-1].text == "the stage was halted"
    assert not any("this field" in text for _, text in pressed.said), "there is none any more"


class Broken(Behind):
    """A driver with a bug, and a stage that does not take a stop."""

    def look_at(self, x_um: float, y_um: float) -> Visit:
        raise ZeroDivisionError("a bug of the driver")

    def halt(self) -> None:
        raise DeviceError("the stage does not answer")


class BrokenStage(Looked):
    def source(self, source: FieldSource) -> FieldSource:
        return Broken(source)  # type: ignore[return-value]


def test_every_wish_has_an_answer_whatever_the_stage_does(tmp_path: Path) -> None:
    looked = BrokenStage(tmp_path, [DriveStage(30.0, -20.0, "anna"), AskStatus()], last=StopNow("anna"))
    with pytest.raises(StoppedError, match="stopped by anna"):
        looked.run()
    drive, status = looked.answers[2:4]
    assert not drive.done and drive.text == "ZeroDivisionError: a bug of the driver"
    assert status.done and json.loads(status.detail)["doing"] == "staying"
    assert ("alarm", "the stage did not take the stop: the stage does not answer") in looked.said


class Unstoppable:
    """A run whose stage does not take a stop."""

    def standing(self) -> dict[str, Any]:
        return {"doing": "scan"}

    def about(self) -> None:
        return None

    async def drive(self, x_um: float, y_um: float, by: str) -> str:
        raise AssertionError

    def end(self, by: str) -> None:
        raise AssertionError

    def stop(self, by: str) -> None:
        raise DeviceError("the stage does not answer")


def test_a_stop_that_the_stage_does_not_take_is_answered_and_so_is_the_next_wish() -> None:
    async def both(control: Link) -> list[Answer]:
        serving = asyncio.create_task(serve(control, Unstoppable()))
        wishes = [StopNow("anna"), AskStatus()]
        answers = [await asyncio.to_thread(ask, control.address, wish, 10.0) for wish in wishes]
        serving.cancel()
        return answers

    with run_sockets() as (control, _):
        stop, status = asyncio.run(both(control))
    assert (stop.done, stop.text, stop.error) == (False, "the stage does not answer", "DeviceError")
    assert status.done and json.loads(status.detail) == {"doing": "scan"}


def test_a_replay_has_no_stage_to_drive(tmp_path: Path) -> None:
    source = RecordedFields(tmp_path / "recording.h5")
    with pytest.raises(SettingsError, match="it has no stage"):
        source.look_at(1.0, 2.0)
