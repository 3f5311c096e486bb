"""What goes wrong in mid-run: dead and hung processes, a dead sorter, Ctrl-C. Nothing is lost unsaid, or left over."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from drifting import drifting_sort
from hspc_live.cli.execute import Order, execute
from hspc_live.core.errors import HspcError
from hspc_live.processes.ask import ask
from hspc_live.recording.inspect import summarise
from hspc_live.recording.reader import open_recording
from hspc_live.wire.messages import ArmNow


def balanced(summary) -> bool:
    frames = summary["frames"]
    booked = frames["processed"] + sum(frames["dropped"].values()) + sum(frames["lost"].values())
    return summary["ledger"]["balanced"] and frames["captured"] == booked


def stop_by_ctrl_c(*_: str) -> None:
    os.kill(os.getpid(), signal.SIGINT)


# ---- the engine ------------------------------------------------------------------------------------------------------


def test_an_engine_that_drifts_in_mid_run_disarms_and_is_not_armed_again(tiny, watch, monkeypatch, tmp_path):
    """From the batch on that the canary rode along with, nothing is decided by it and nothing is sent."""
    refused: list[str] = []
    threads: list[threading.Thread] = []

    def arm_again(control: str) -> None:
        refused.append(ask(control, ArmNow("anna")).text)

    def disarmed(*_: str) -> None:
        control = next(text for _, kind, text in watch.said if kind == "running").rpartition(" ")[2]
        threads.append(threading.Thread(target=arm_again, args=(control,)))
        threads[-1].start()

    monkeypatch.setattr("hspc_live.wiring.sort_process", drifting_sort)
    watch.acts["disarmed"] = (0.0, disarmed)
    settings = tiny("camera.frames=700", "camera.twin.events_per_s=25")
    outcome = execute(Order(settings, live=True, arm_by="test", out=tmp_path / "out"), watch)
    for thread in threads:
        thread.join()
    s = outcome.summary
    assert balanced(s) and s["commands"]["sent"] > 0, "it sorted while the engine was sound"
    assert "the engine has drifted: it scores a known crop 0.900, 0.100, 0.000" in s["disarmed"][0]
    assert s["engine"]["canary_rides"] >= 2
    assert s["views"]["skipped"]["nan"] >= 1, "the batch that the canary rode along with is not used"
    assert len(refused) == 1 and "the engine has drifted" in refused[0]
    with open_recording(outcome.recording) as recording:
        notes = recording.lines("notes")
        commands = recording.table("commands")
    (drift,) = [note for note in notes if note["kind"] == "engine-drift"]
    assert "0.900" in drift["detail"] and (commands["sent_ns"] <= drift["at_ns"]).all()


# ---- workers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_a_worker_that_dies_or_hangs_is_replaced_and_every_frame_has_its_result(
    live, replay, replayed, watch, processes, signum
):
    """The decisions are those of an undisturbed replay."""
    expected = replayed.summary
    watch.acts["running"] = (0.5, lambda *_: os.kill(processes.of_role("segment-0"), signum))
    outcome = replay(live.path, "pipeline.lease_timeout_s=0.7", speed=1.0, listen=watch)
    s = outcome.summary
    assert outcome.error is None, outcome.error
    assert s["workers"]["replaced"] >= 1 and "replaced" in watch.kinds()
    assert balanced(s) and s["frames"]["lost"] == {} and s["frames"]["processed"] == expected["frames"]["processed"]
    assert s["decisions_sha256"] == expected["decisions_sha256"]


def test_live_the_frames_of_a_dead_worker_go_to_another_one(tiny, watch, processes):
    watch.acts["running"] = (0.6, lambda *_: processes.kill(processes.of_role("segment-1")))
    settings = tiny("camera.frames=150", "pipeline.workers=2")
    s = execute(Order(settings, live=True, arm_by="test"), watch).summary
    assert s["workers"]["replaced"] == 1 and balanced(s) and s["frames"]["lost"] == {}


def test_a_worker_that_keeps_dying_does_not_hold_the_run_up(live, replay, watch, processes):
    """A frame whose workers die twice counts as lost; the others go on."""
    watch.acts["running"] = (0.5, lambda *_: os.kill(processes.of_role("segment-0"), signal.SIGKILL))
    watch.acts["replaced"] = (0.0, lambda *_: os.kill(processes.of_role("segment-0.1"), signal.SIGKILL))
    s = replay(live.path, speed=1.0, listen=watch).summary
    assert s["workers"]["replaced"] == 2 and balanced(s)


def test_workers_that_cannot_live_end_the_run(tiny, processes, monkeypatch):
    """Nobody waits for ever on a pipeline that segments nothing."""
    monkeypatch.setattr("hspc_live.processes.supervisor.MOST_RESTARTS", 1)
    said: list[str] = []

    def listen(_: str, kind: str, text: str) -> None:
        said.append(f"{kind}: {text}")
        role = {"running": "segment-0", "replaced": "segment-0.1"}.get(kind)
        if role is not None:
            asyncio.get_running_loop().call_later(0.5, lambda: processes.kill(processes.of_role(role)))

    outcome = execute(Order(tiny(), live=True, arm_by="test", for_s=120.0), listen)
    assert "giving up" in str(outcome.error) and any("giving up" in line for line in said)
    assert balanced(outcome.summary) and outcome.summary["commands"]["unacknowledged"] == 0


def test_a_recorder_that_dies_after_the_last_cell_is_no_success(tiny, watch, processes, tmp_path):
    def pause(*_: str) -> None:
        pid = processes.of_role("record")
        os.kill(pid, signal.SIGSTOP)
        asyncio.get_running_loop().call_later(6.0, processes.kill, pid)

    watch.acts["running"] = (0.3, pause)
    outcome = execute(Order(tiny("camera.frames=100"), live=True, out=tmp_path / "out"), watch)
    assert outcome.error is not None and "record process died" in str(outcome.error)
    s = outcome.summary
    assert balanced(s) and s["recording"]["unrecorded"]["frames"] > 0


def test_a_worker_joins_from_outside_and_may_fail(tiny, watch, processes):
    """`hspc-live worker` lends a hand; when it hangs, its frames go out again."""
    visitors: list[subprocess.Popen[bytes]] = []

    def invite(_: str, text: str) -> None:
        address = text.removeprefix("control at ")
        visitors.append(subprocess.Popen([sys.executable, "-m", "hspc_live", "worker", address, "--name", "guest"]))

    watch.acts["running"] = (0.0, invite)
    watch.acts["joined"] = (0.5, lambda *_: visitors[0].send_signal(signal.SIGSTOP))  # it will hold what it is given
    watch.acts["hung"] = (0.5, stop_by_ctrl_c)
    try:
        outcome = execute(Order(tiny("pipeline.lease_timeout_s=0.7"), live=True, for_s=60.0), watch)
    finally:
        for visitor in visitors:
            visitor.kill()
            visitor.wait()
    assert "joined" in watch.kinds() and "hung" in watch.kinds(), watch.said
    s = outcome.summary
    assert outcome.error is None and balanced(s)
    assert s["workers"]["leased_again"] >= 1 and s["frames"]["lost"] == {}


def test_a_guest_where_no_run_is_under_way_is_told_so(tmp_path, monkeypatch):
    from hspc_live.cli.join import join
    from hspc_live.core.errors import SettingsError, WireError

    monkeypatch.setattr("hspc_live.processes.child.VISIT_S", 0.5)
    with pytest.raises(WireError, match="nobody answers"):
        join(f"ipc://{tmp_path}/control.sock", "guest")
    with pytest.raises(WireError, match="same machine"):
        join("tcp://127.0.0.1:5555", "guest")
    with pytest.raises(SettingsError, match="no control address"):
        join("tcp://10.0.0.1:5555", "guest")


# ---- the others ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["sort", "record", "acquire"])
def test_any_other_death_ends_the_run_loudly_and_leaves_no_process(tiny, watch, processes, tmp_path, role):
    """Above all sort's: its sorter must go too, and nothing is restarted silently."""
    everybody: list[int] = []

    def kill(*_: str) -> None:
        everybody.extend(processes.below(os.getpid()))
        processes.kill(processes.of_role(role))

    watch.acts["running"] = (0.5, kill)
    out = tmp_path / "out"
    order = Order(tiny(), live=True, arm_by="test", for_s=60.0, out=out)
    if role == "sort":
        with pytest.raises(HspcError, match=r"sort process died.*not restarted"):
            execute(order, watch)
    else:
        outcome = execute(order, watch)
        assert outcome.error is not None and outcome.error.exit_code != 0
        assert f"the {role} process died" in str(outcome.error)
        assert outcome.summary["ledger"]["balanced"], outcome.summary["ledger"]
    assert len(everybody) >= 5, everybody
    ours = {pid for pid in everybody if "resource_tracker" not in str(processes.below(os.getpid()).get(pid))}
    assert processes.gone(sorted(ours)) == []
    if role != "record":  # what the recorder had been given before is in the file
        assert summarise(out / "recording.rtdc")["readable_frames"] > 10
    else:  # sorting that nobody could explain afterwards ends, in good order, and what is in no file is counted
        s = outcome.summary
        assert "the recorder died" in s["disarmed"] and s["commands"]["unacknowledged"] == 0
        entered = s["frames"]["captured"] - sum(s["frames"]["dropped"].values())
        assert s["recording"]["frames"] + s["recording"]["unrecorded"]["frames"] == entered
        assert s["recording"]["frames"] == summarise(out / "recording.rtdc")["readable_frames"]


def test_a_sorter_that_dies_disarms_the_run_which_goes_on(tiny, watch, processes):
    def kill_sorter(*_: str) -> None:
        sort = processes.of_role("sort")
        children = processes.below(sort)
        devices = [pid for pid, line in children.items() if "spawn_main" in line]
        assert len(devices) == 1, children
        processes.kill(devices[0])

    watch.acts["running"] = (1.0, kill_sorter)
    outcome = execute(Order(tiny("camera.frames=250"), live=True, arm_by="test"), watch)
    s = outcome.summary
    assert any(reason.startswith("sorter:") for reason in s["disarmed"]), s["disarmed"]
    assert balanced(s) and 150 < s["frames"]["captured"] <= 250
    assert s["cells"]["aborted"].get("disarmed", 0) > 0


# ---- Ctrl-C --------------------------------------------------------------------------------------------------------


def test_ctrl_c_once_disarms_drains_and_closes_the_recording_whole(start, tiny_config, tmp_path, processes):
    out = tmp_path / "out"
    command = start("run", tiny_config, "--arm", "--out", out, "--json")
    command.until("armed")
    everybody = processes.below(command.process.pid)
    command.ctrl_c()
    code, stdout, stderr = command.end()
    assert code == 130, stderr
    assert "Traceback" not in stderr
    s = json.loads(stdout)
    assert s["interrupted"] and balanced(s) and "Ctrl-C" in s["disarmed"], s
    assert len(everybody) >= 5 and processes.gone(list(everybody)) == []
    with open_recording(out / "recording.rtdc") as recording:
        assert recording.loss is None and len(list(recording.frames())) == s["recording"]["frames"]
    recorded = summarise(out / "recording.rtdc")
    assert recorded["closed"] and recorded["ledger"]["frames"] == s["frames"], recorded


def test_ctrl_c_twice_stops_now(start, tiny_config, tmp_path, processes):
    out = tmp_path / "out"
    command = start("run", tiny_config, "--arm", "--out", out, "--set", "sort.timing.junction_um=100000")
    command.until("armed")
    everybody = processes.below(command.process.pid)
    command.ctrl_c()
    command.until("interrupted")
    command.ctrl_c()
    code, _, stderr = command.end()
    assert code == 130 and "Traceback" not in stderr, stderr
    assert len(everybody) >= 5 and processes.gone(list(everybody)) == []


def test_ctrl_c_while_the_processes_start_ends_cleanly(start, tiny_config, processes):
    command = start("run", tiny_config, "--set", "engine.kind=torch", "--set", "engine.model=twin-lsm")
    while not any("spawn_main" in line for line in processes.below(command.process.pid).values()):
        assert command.process.poll() is None, command.end()
    command.ctrl_c()
    code, _, stderr = command.end()
    assert code == 130 and "Traceback" not in stderr, stderr


def test_the_parent_s_sudden_death_takes_everyone_along(start, tiny_config, processes):
    command = start("run", tiny_config, "--arm")
    command.until("armed")
    everybody = processes.below(command.process.pid)
    assert len(everybody) >= 4
    processes.kill(command.process.pid)
    command.end()
    assert processes.gone(list(everybody)) == []


# ---- a silent host ---------------------------------------------------------------------------------------------------


def test_a_host_that_was_silent_is_told_that_its_sorter_has_disarmed_itself(tiny, watch, processes):
    """The watchdog empties the queue; that is said, and never counted as a run that sorted on."""

    def pause(*_: str) -> None:
        os.kill(processes.of_role("sort"), signal.SIGSTOP)
        asyncio.get_running_loop().call_later(0.8, os.kill, processes.of_role("sort"), signal.SIGCONT)

    watch.acts["running"] = (1.0, pause)
    settings = tiny("camera.frames=500", "sorter.watchdog_ms=300", "camera.twin.events_per_s=20")
    s = execute(Order(settings, live=True, arm_by="test"), watch).summary
    assert balanced(s)
    assert any("disarmed itself" in reason for reason in s["disarmed"]), s
    assert s["cells"]["aborted"].get("disarmed", 0) > 0, s["cells"]
    assert "disarmed" in watch.kinds()
