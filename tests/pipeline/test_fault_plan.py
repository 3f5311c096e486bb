"""Whole runs under fault plans: what the run's own books say is what was done to it, and the failure is always safe."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hspc_live.cli.execute import Order, Outcome, execute
from hspc_live.core.errors import DeviceError, HspcError, ModelError, OutputError, RecordingError
from hspc_live.recording.inspect import summarise
from hspc_live.settings.faults import FaultPlan
from hspc_live.twin.pulses import read_diary

Rough = Callable[..., Outcome]


def plan(*faults: dict[str, object], seed: int = 1) -> FaultPlan:
    return FaultPlan.model_validate({"seed": seed, "faults": faults})


@pytest.fixture
def rough(tiny, watch, tmp_path: Path) -> Rough:
    """An armed, recorded live run of the tiny rig under a fault plan."""

    def run(*faults: dict[str, object], frames: int = 300, overrides: tuple[str, ...] = ()) -> Outcome:
        settings = tiny(f"camera.frames={frames}", "camera.twin.events_per_s=20", *overrides)
        order = Order(settings, live=True, arm_by="test", out=tmp_path / "out", faults=plan(*faults))
        return execute(order, watch)

    return run


def books_balance(summary: dict[str, Any]) -> bool:
    """Whatever was done: nothing is lost without its name, and every command has one end."""
    frames = summary["frames"]
    booked = frames["processed"] + sum(frames["dropped"].values()) + sum(frames["lost"].values())
    return summary["ledger"]["balanced"] and frames["captured"] == booked


def whole(outcome: Outcome) -> dict[str, Any]:
    """The recording, which must be whole."""
    assert outcome.recording is not None
    found = summarise(outcome.recording)
    assert found["closed"] and found["loss"] is None, found
    assert found["readable_frames"] == outcome.summary["recording"]["frames"] > 0
    return found


def test_everything_at_once_is_counted_on_both_sides(rough, watch):
    """Frames lost, twice, out of order and spoilt; a worker killed; commands refused and late; the clock set."""
    outcome = rough(
        {"kind": "drop", "at_frame": 60, "count": 3},
        {"kind": "duplicate", "at_frame": 80},
        {"kind": "reorder", "at_frame": 100},
        {"kind": "corrupt", "at_frame": 120, "how": "black"},
        {"kind": "delay", "at_frame": 140, "by_ms": 30},
        {"kind": "kill", "process": "worker", "at_s": 1.2},
        {"kind": "nak", "at_s": 0.3},
        {"kind": "late", "at_s": 0.3, "by_ms": 700},
        {"kind": "clock_jump", "at_s": 0.5, "by_s": 3600},
        frames=400,
        overrides=("pipeline.workers=2",),
    )
    s = outcome.summary
    assert outcome.error is None and books_balance(s), outcome.error
    injected, observed = s["faults"]["injected"], s["faults"]["observed"]
    kinds = {"corrupt", "delay", "drop", "duplicate", "kill_worker", "late", "nak", "reorder", "clock_jump"}
    assert injected.keys() >= kinds - {"late"} and injected["drop"] == 1
    assert observed["frames_dropped"]["camera"] >= 4, "three dropped, and the one that came too late"
    assert observed["frames_out_of_order"] == 2 and observed["alarms"]["out_of_order"] == 2
    assert observed["alarms"]["black"] >= 1
    assert observed["workers_replaced"] == observed["processes_died"]["segment"] == 1
    not_fired = observed["commands_refused"] + observed["commands_unacknowledged"]
    assert not_fired >= injected["nak"] + injected.get("late", 0), "not one of them was tried again"
    assert s["commands"]["fired"] > 0 and s["disarmed"] == [], "it sorted on, and nobody set a clock to good effect"
    pulses = read_diary(outcome.diary).pulses
    assert len(pulses) == s["commands"]["fired"] == len({pulse.command for pulse in pulses})
    # and nobody can overlook that a plan was in force: at the terminal, among the alarms, in the recording
    assert watch.said[0][:2] == ("faults", "fault-plan") and "A FAULT PLAN IS IN FORCE" in watch.said[0][2]
    assert any(kind == "alarm" and "A FAULT PLAN IS IN FORCE" in text for _, kind, text in watch.said)
    assert s["alarms"]["fault_plan"] == 1
    assert [note["kind"] for note in whole(outcome)["notes"]].count("fault_plan") == 1


def test_without_a_plan_nothing_of_it_is_there(live):
    assert "faults" not in live.summary and "fault_plan" not in live.summary["alarms"]


# ---- the camera ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"kind": "disconnect", "at_frame": 120}, "does not answer any more"),
        ({"kind": "reshape", "at_frame": 120}, "start a new run for a new format"),
        ({"kind": "camera_clock", "at_frame": 120}, "cannot be trusted"),
        ({"kind": "stall", "at_frame": 120, "seconds": 60}, "no frame for"),
    ],
    ids=["unplugged", "another shape", "its clock jumps", "silent"],
)
def test_a_camera_that_fails_disarms_and_leaves_a_whole_recording(rough, fault, said):
    outcome = rough(fault, frames=3000)
    s = outcome.summary
    assert isinstance(outcome.error, DeviceError) and said in str(outcome.error)
    assert books_balance(s) and 100 <= s["frames"]["captured"] < 3000
    assert len(s["disarmed"]) == 1 and s["disarmed"][0].startswith("camera: "), s["disarmed"]
    if fault["kind"] == "stall":
        assert "20 frame periods" in s["disarmed"][0], "not only when the run is given up"
    assert s["commands"]["unacknowledged"] == 0 and s["commands"]["fired"] == len(read_diary(outcome.diary).pulses)
    whole(outcome)


def test_a_camera_that_comes_back_does_not_arm_by_itself(rough):
    outcome = rough({"kind": "stall", "at_frame": 100, "seconds": 0.6}, frames=400)
    s = outcome.summary
    assert outcome.error is None and books_balance(s) and s["frames"]["processed"] > 150
    assert [reason.partition(":")[0] for reason in s["disarmed"]] == ["camera"]
    assert s["cells"]["aborted"]["disarmed"] > 0, "cells came again, and were let go"
    whole(outcome)


# ---- processes -------------------------------------------------------------------------------------------------------


def test_when_the_sort_process_is_killed_the_sorter_empties_its_queue(rough, watch, tmp_path):
    """Its own watchdog does it: nobody else is left. The run ends loudly, and says what was done to it."""
    killed_ns: list[int] = []
    watch.acts["fault"] = (0.0, lambda *_: killed_ns.append(time.perf_counter_ns()))
    with pytest.raises(HspcError, match=r"sort process died.*not restarted") as raised:
        rough(
            {"kind": "kill", "process": "sort", "at_s": 1.5},
            frames=3000,
            overrides=("sorter.watchdog_ms=200", "sort.timing.junction_um=3000", "camera.twin.junction_um=3000"),
        )
    assert raised.value.exit_code != 0 and raised.value.known is not None
    known = raised.value.known["faults"]
    assert known == {"injected": {"kill_sort": 1}, "observed": {"processes_died": {"sort": 1}}}
    patience_ns = 400_000_000  # the watchdog's 200 ms, and a busy machine
    assert all(
        pulse.opened_ns < killed_ns[0] + patience_ns for pulse in read_diary(tmp_path / "out/pulses.jsonl").pulses
    )
    assert summarise(tmp_path / "out/recording.rtdc")["readable_frames"] > 10


def test_a_recorder_that_hangs_costs_unrecorded_frames_and_nothing_else(rough):
    """What it cannot take is counted, not gathered: the ring bounds the memory."""
    outcome = rough({"kind": "hang", "process": "record", "at_s": 0.5, "seconds": 2.0}, frames=450)
    s = outcome.summary
    assert outcome.error is None and books_balance(s) and s["disarmed"] == []
    unrecorded = s["recording"]["unrecorded"]["frames"]
    entered = s["frames"]["captured"] - sum(s["frames"]["dropped"].values())
    assert unrecorded > 20 and s["recording"]["frames"] + unrecorded == entered
    assert s["frames"]["dropped"].get("ring_full", 0) < 50, "the pipeline did not wait for it"
    assert s["faults"]["injected"] == {"hang_record": 1}
    found = summarise(outcome.recording)
    assert found["closed"] and not found["exact"], "and a replay of it is said not to be exact"


def test_a_disk_that_fills_up_is_announced_and_ends_the_run_in_good_order(rough, watch):
    """A busy machine films late or not at all for a while: neither that nor a slow host may disarm before the disk."""
    patient = ("pipeline.silent_periods=1000", "sorter.watchdog_ms=60000")
    outcome = rough({"kind": "disk_full", "at_s": 0.5, "left_kb": 12000}, frames=3000, overrides=patient)
    s = outcome.summary
    assert isinstance(outcome.error, RecordingError) and "disk full" in str(outcome.error)
    assert books_balance(s) and s["frames"]["captured"] < 3000
    assert any("full in about" in warning for warning in s["warnings"]), "before it was full"
    announced = next(at for at, (_, kind, text) in enumerate(watch.said) if kind == "warning" and "full in" in text)
    ended = next(at for at, (_, kind, text) in enumerate(watch.said) if kind == "draining" and "recorder died" in text)
    assert announced < ended
    assert s["disarmed"] == ["the recorder died"]
    found = summarise(outcome.recording)
    assert found["readable_frames"] == s["recording"]["frames"] > 20 and "disk was full" in found["loss"]


def test_a_second_run_into_the_same_file_is_refused_and_the_first_untouched(tiny, watch, tmp_path):
    refused: list[str] = []
    path = tmp_path / "shared.rtdc"
    settings = tiny("camera.frames=150", f"record.path={path}")

    def again(*_: str) -> None:
        with pytest.raises(OutputError, match="nothing is ever overwritten") as raised:
            execute(Order(settings, live=True), lambda *_: None)
        refused.append(str(raised.value))

    watch.acts["running"] = (0.5, again)
    outcome = execute(Order(settings, live=True), watch)
    assert outcome.error is None and len(refused) == 1 and str(path) in refused[0]
    whole(outcome)


# ---- the engine ------------------------------------------------------------------------------------------------------


def test_scores_that_are_no_numbers_are_waste_and_an_engine_without_memory_disarms(rough):
    outcome = rough(
        {"kind": "nan", "at_s": 0.3, "count": 4}, {"kind": "out_of_memory", "at_s": 1.5, "count": 1000}, frames=300
    )
    s = outcome.summary
    assert isinstance(outcome.error, ModelError) and "out of memory" in str(outcome.error)
    assert books_balance(s), s["ledger"]
    assert s["faults"]["injected"]["nan"] == 4 and s["faults"]["injected"]["out_of_memory"] >= 1
    assert s["views"]["skipped"]["nan"] > 4, "each view has its reason"
    assert len(s["disarmed"]) == 1 and ("out of memory" in s["disarmed"][0] or "drifted" in s["disarmed"][0])
    whole(outcome)


def test_an_engine_whose_scores_drift_is_found_out_by_the_canary_and_disarms(rough):
    outcome = rough({"kind": "drift", "at_s": 0.5, "by": 0.1}, frames=400)
    s = outcome.summary
    assert books_balance(s) and len(s["disarmed"]) == 1 and "drifted" in s["disarmed"][0]
    assert s["faults"]["observed"]["engine"]["drift"] == s["disarmed"][0]
    assert s["cells"]["aborted"]["disarmed"] > 0
    whole(outcome)


# ---- the sorter ------------------------------------------------------------------------------------------------------


def test_a_sorter_that_falls_silent_disarms_and_is_not_armed_by_itself(rough):
    outcome = rough({"kind": "silence", "at_s": 1.0, "seconds": 60}, frames=400, overrides=("sorter.watchdog_ms=300",))
    s = outcome.summary
    assert isinstance(outcome.error, DeviceError) and "silent" in str(outcome.error)
    assert books_balance(s) and len(s["disarmed"]) == 1 and s["alarms"]["sorter"] == 1
    assert s["cells"]["aborted"]["disarmed"] > 0
    assert len(read_diary(outcome.diary).pulses) <= s["commands"]["fired"] + s["commands"]["unacknowledged"]
    whole(outcome)


# ---- the flow --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "alarm"),
    [
        ({"kind": "clog", "at_s": 1.0, "seconds": 30, "slowing": 1.0}, "clog"),
        ({"kind": "velocity_drift", "per_s": 0.3}, "velocity_drift"),
    ],
    ids=["clog", "drift"],
)
def test_a_flow_that_clogs_or_drifts_disarms(rough, fault, alarm):
    outcome = rough(fault, frames=400, overrides=("sort.alarms.velocity_window=8",))
    s = outcome.summary
    assert outcome.error is None and books_balance(s)
    assert any(reason.startswith(alarm) for reason in s["disarmed"]), (s["disarmed"], s["alarms"])
    assert s["faults"]["injected"] == {alarm: 1} and s["faults"]["observed"]["alarms"][alarm] >= 1
    whole(outcome)


# ---- the command line ------------------------------------------------------------------------------------------------


def test_the_command_line_takes_a_plan_and_json_says_what_it_did(start, tiny_config, tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({"faults": [{"kind": "kill", "process": "sort", "at_s": 0.5}]}))
    code, out, err = start("run", tiny_config, "--for", "20s", "--faults", path, "--json").end()
    assert code == 1 and "A FAULT PLAN IS IN FORCE" in err and "Traceback" not in err, err
    assert json.loads(out)["faults"]["injected"] == {"kill_sort": 1}
