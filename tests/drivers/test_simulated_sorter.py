"""The sorter's process: left alone it makes itself safe and ends; with a host it keeps time by another clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hspc_drivers.simulated_sorter import ProcessSorter
from hspc_live.core.errors import DeviceError, OutputError
from hspc_live.core.values import ReceiptKind, SortCommand
from hspc_live.settings.devices import SimulatedSorter
from hspc_live.twin.pulses import Armed, read_diary

MS = 1_000_000
SETTINGS = SimulatedSorter(kind="simulated", watchdog_ms=1000.0)

HOST = """
import sys, time
from pathlib import Path
from hspc_drivers.simulated_sorter import ProcessSorter
from hspc_live.core.values import SortCommand
from hspc_live.settings.devices import SimulatedSorter

def main():
    sorter = ProcessSorter(SimulatedSorter(kind="simulated", watchdog_ms=1000.0), Path(sys.argv[1]))
    sorter.open()
    sorter.arm()
    now = time.perf_counter_ns()
    for number, ms in enumerate((200, 2500)):
        at = now + ms * 1_000_000
        sorter.send(SortCommand(number, number, "left", at, 80_000_000, at - 60_000_000, now))
    while not sorter.poll():
        sorter.heartbeat()
        time.sleep(0.01)
    print(sorter.pid, flush=True)
    while True:
        sorter.heartbeat()
        time.sleep(0.01)

if __name__ == "__main__":
    main()
"""


def _alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes through /proc")
def test_a_killed_host_leaves_no_pulse_and_no_orphan(tmp_path: Path) -> None:
    script, diary = tmp_path / "host.py", tmp_path / "pulses.jsonl"
    script.write_text(HOST)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, script, diary], stdout=subprocess.PIPE, env=environment) as host:
        assert host.stdout is not None
        device = int(host.stdout.readline())
        host.send_signal(signal.SIGKILL)
        host.wait()
        killed_ns = time.perf_counter_ns()
    deadline = time.monotonic() + 10.0
    while _alive(device) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(device)
    entries = read_diary(diary)
    assert [pulse.command for pulse in entries.pulses] == [0]  # the second stood in the queue when the host died
    last = entries.entries[-1]
    assert isinstance(last, Armed) and not last.on
    assert last.at_ns < killed_ns + 1500 * MS


def test_a_dead_device_is_an_error_at_once(tmp_path: Path) -> None:
    sorter = ProcessSorter(SETTINGS)
    sorter.open()
    try:
        sorter.arm()
        assert sorter.pid is not None
        os.kill(sorter.pid, signal.SIGKILL)
        deadline = time.monotonic() + 2.0
        with pytest.raises(DeviceError, match="has ended"):
            while time.monotonic() < deadline:
                sorter.poll()
                time.sleep(0.01)
        sorter.disarm()  # must work at any time
    finally:
        sorter.close()


def test_a_frozen_device_is_noticed() -> None:
    sorter = ProcessSorter(SETTINGS)
    sorter.open()
    pid = sorter.pid
    assert pid is not None
    try:
        os.kill(pid, signal.SIGSTOP)
        deadline = time.monotonic() + 5.0
        with pytest.raises(DeviceError, match="silent"):
            while time.monotonic() < deadline:
                sorter.heartbeat()
                sorter.poll()
                time.sleep(0.02)
    finally:
        os.kill(pid, signal.SIGCONT)
        sorter.close()


def test_a_clock_far_off_and_drifting_is_followed(tmp_path: Path) -> None:
    wild = SETTINGS.model_copy(update={"clock_offset_ms": -987654.321, "clock_drift_ppm": 190.0})
    sorter = ProcessSorter(wild, tmp_path / "pulses.jsonl")
    sorter.open()
    try:
        sorter.arm()
        commands = []
        end = time.monotonic() + 3.0
        number = 0
        while time.monotonic() < end:
            at = time.perf_counter_ns() + 110 * MS
            commands.append(SortCommand(number, number, "left", at, 60 * MS, at - 40 * MS, 0))
            sorter.send(commands[-1])
            number += 1
            for _ in range(4):
                sorter.heartbeat()
                sorter.poll()
                time.sleep(0.03)
        assert sorter.clock_bound_ns < 2 * MS
    finally:
        sorter.close()
    pulses = {pulse.command: pulse for pulse in read_diary(tmp_path / "pulses.jsonl").pulses}
    assert len(pulses) >= len(commands) // 2
    off_ms = sorted(
        abs(pulses[c.command].opened_ns - (c.fire_at_ns - c.width_ns // 2)) / MS
        for c in commands
        if c.command in pulses
    )
    # a wrong clock shifts every pulse; a busy machine only makes some of them late
    assert off_ms[len(off_ms) // 5] < 1.0


def test_an_existing_pulse_log_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "pulses.jsonl"
    path.write_text("precious")
    with pytest.raises(OutputError, match="pulse log"):
        ProcessSorter(SETTINGS, path).open()
    assert path.read_text() == "precious"


def test_receipts_still_come_after_disarming() -> None:
    sorter = ProcessSorter(SETTINGS)
    sorter.open()
    try:
        sorter.arm()
        at = time.perf_counter_ns() + 500 * MS
        sorter.send(SortCommand(1, 1, "left", at, 10 * MS, at - 20 * MS, 0))
        sorter.disarm()
        deadline = time.monotonic() + 2.0
        receipts = []
        while not receipts and time.monotonic() < deadline:
            receipts += sorter.poll()
            time.sleep(0.01)
        assert [(r.command, r.kind, r.reason) for r in receipts] == [(1, ReceiptKind.REFUSED, "disarmed")]
        assert not sorter.armed
    finally:
        sorter.close()
