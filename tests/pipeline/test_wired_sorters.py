"""Whole runs with a sorter at the end of a wire: commands fire, the books balance, a pulled cable is not quiet."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from hspc_live.cli.execute import Order, execute
from hspc_live.core.errors import DeviceError
from hspc_live.recording.reader import open_recording
from hspc_live.settings.load import load
from hspc_live.settings.shipped import shipped_config
from hspc_live.twin.pulses import read_diary
from hspc_live.wire.links import endpoint, private_folder

WATCHDOG = ("--settings", json.dumps({"watchdog_ms": 2000.0}), "--outlets", "LT-HSC,other")


ENOUGH = 2  # pulses; a loaded machine may take its time for them
PATIENCE_S = 90.0


def delay(velocity_um_s: float, um: float) -> list[str]:
    """A delay as if calibrated just now: a real sorter is not armed without one."""
    return [
        f"sort.timing.sort_delay_ms={um / velocity_um_s * 1e3}",
        f"sort.timing.sort_delay_velocity_um_s={velocity_um_s}",
        f"sort.timing.sort_delay_date={datetime.now(UTC).isoformat(timespec='seconds')}",
        "sort.timing.max_clock_error_ms=20",  # a loaded machine makes round trips long
    ]


TINY_DELAY = (2000.0, 900.0 - 85.0)


@dataclass
class UntilPulses:
    """Listens to a run, and ends it by Ctrl-C once the device has made `ENOUGH` pulses."""

    diary: Path
    had: int = 0

    def __call__(self, role: str, kind: str, text: str) -> None:
        if kind == "armed":
            self.end = time.monotonic() + PATIENCE_S
            self._look()

    def _look(self) -> None:
        if len(read_diary(self.diary).pulses) >= self.had + ENOUGH or time.monotonic() > self.end:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            asyncio.get_running_loop().call_later(0.2, self._look)


@pytest.fixture
def wired(tiny_config, tmp_path):
    """The tiny rig's settings file with another sorter, as a person would write it."""

    def make(sorter):
        settings = yaml.safe_load(tiny_config.read_text()) | {"sorter": sorter}
        path = tmp_path / "wired.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    return make


def check(outcome, diary) -> None:
    s = outcome.summary
    assert outcome.error is None, (outcome.error, s["sorter"])
    assert s["ledger"]["balanced"] and s["sorter"]["failure"] == "", s["sorter"]
    commands = s["commands"]
    assert commands["sent"] == commands["fired"] + commands["refused"] + commands["unacknowledged"] > 0
    assert commands["fired"] > 0 and commands["unacknowledged"] == 0
    pulses = read_diary(diary).pulses
    assert len(pulses) == commands["fired"] and {pulse.outlet for pulse in pulses} == {"LT-HSC"}
    assert not read_diary(diary).entries[-1].on, "at rest when the run has ended"


@pytest.mark.parametrize("brain", ["python", "firmware"])
def test_a_serial_sorter_sorts(wired, emulator, request, brain):
    core = ("--firmware", request.getfixturevalue("firmware")) if brain == "firmware" else ()
    device = emulator(*WATCHDOG, *core)
    config = wired({"kind": "serial", "port": device.at, "outlets": {"LT-HSC": 1}})
    settings = load(config, delay(*TINY_DELAY), {})
    check(execute(Order(settings, live=True, arm_by="test", for_s=120.0), UntilPulses(device.diary)), device.diary)


def test_a_zmq_sorter_sorts_in_one_run_after_the_other(wired, start_device):
    folder = private_folder()
    try:
        address = endpoint(folder, "sorter")
        device = start_device("hspc_drivers.sorter_process", address, *WATCHDOG[:2])
        config = wired({"kind": "zmq", "address": address})
        settings = load(config, delay(*TINY_DELAY), {})
        fired = 0
        for _ in range(2):
            order = Order(settings, live=True, arm_by="test", for_s=120.0)
            outcome = execute(order, UntilPulses(device.diary, had=fired))
            assert outcome.error is None and outcome.summary["ledger"]["balanced"], outcome.error
            assert outcome.summary["commands"]["fired"] > 0
            fired += outcome.summary["commands"]["fired"]
        assert len(read_diary(device.diary).pulses) == fired
    finally:
        shutil.rmtree(folder)


def test_a_cable_pulled_in_mid_run_disarms_and_is_said(wired, emulator, start, tmp_path):
    """The run goes on, cells are still recognised, and its end is no success."""
    device = emulator(*WATCHDOG)
    config = wired({"kind": "serial", "port": device.at, "outlets": {"LT-HSC": 1}})
    out = tmp_path / "out"
    overrides = [f"--set={text}" for text in ("camera.frames=500", *delay(*TINY_DELAY))]
    command = start("run", config, "--arm", "--json", "--out", out, *overrides)
    command.until("armed")
    device.order("unplug")
    code, stdout, stderr = command.end()
    assert code == DeviceError.exit_code and "Traceback" not in stderr, stderr
    said = "".join(stderr.split())  # the lines of a terminal break anywhere
    assert said.count("unplugged?") >= 3 and device.at in said, "the alarm, the disarming, the error at the end"
    assert "".join("the sorter failed, the run went on disarmed".split()) in said
    s = json.loads(stdout)
    assert s["ledger"]["balanced"] and s["frames"]["captured"] == 500
    assert s["alarms"]["sorter"] == 1 and "unplugged?" in " ".join(s["disarmed"])
    assert s["sorter"]["faults"]["unplugged"] == 1
    with open_recording(out / "recording.rtdc") as recording:
        assert any(note["kind"] == "sorter" for note in recording.lines("notes"))
        assert recording.loss is None


def test_a_sorter_that_cannot_be_opened_keeps_the_run_from_starting(wired, tmp_path):
    config = wired({"kind": "serial", "port": str(tmp_path / "ttyACM9"), "outlets": {"LT-HSC": 1}})
    with pytest.raises(DeviceError, match="ttyACM9 cannot be opened"):
        execute(Order(load(config, ["camera.frames=50"], {}), live=True, arm_by="test"), lambda *_: None)


def test_the_shipped_config_runs_on_the_emulator(emulator, watch):
    """As its opening says, with the null engine for speed; a delay must be given, or nothing is armed."""
    device = emulator("--outlets", "LT-HSC,ST-HSC", "--settings", json.dumps({"watchdog_ms": 2000.0}))
    overrides = [f"sorter.port={device.at}", "engine.kind=null"]
    config = shipped_config("rigs/serial_sorter")
    settings = load(config, [*overrides, "sort.outlets.0.mode=recovery", *delay(4000.0, 2600.0 - 220.0)], {})
    outcome = execute(Order(settings, live=True, arm_by="test", for_s=120.0), UntilPulses(device.diary))
    check(outcome, device.diary)
    uncalibrated = load(config, [*overrides, "camera.frames=80"], {})
    refused = execute(Order(uncalibrated, live=True, arm_by="test"), watch).summary
    assert "calibrated" in refused["arming_refused"] and refused["commands"]["sent"] == 0
