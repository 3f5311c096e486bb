"""A sorter at the end of a wire, and all that wires and boards do: nothing fires twice, late or unsaid."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hspc_drivers import serial_sorter
from hspc_drivers.serial_protocol import U32
from hspc_drivers.serial_sorter import SerialSorter
from hspc_live.core.errors import DeviceError
from hspc_live.core.values import Receipt, ReceiptKind, SortCommand
from hspc_live.settings import devices
from hspc_live.twin.pulses import Armed, Pulse, read_diary

MS = 1_000_000
QUICK = ("--settings", json.dumps({"watchdog_ms": 1000.0}))


@dataclass
class Rig:
    """An emulator and its host, armed."""

    device: Any
    sorter: SerialSorter
    receipts: list[Receipt] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def send(self, number: int, in_ms: float = 300.0, width_ms: float = 60.0, lead_ms: float = 30.0) -> SortCommand:
        at = time.perf_counter_ns() + round(in_ms * MS)
        half = round(width_ms * MS / 2)
        command = SortCommand(number, number, "left", at, 2 * half, at - half - round(lead_ms * MS), 0)
        self.sorter.send(command)
        return command

    def run(self, done: Callable[[], object] = lambda: False, at_most_s: float = 5.0, *, beats: bool = True) -> None:
        """Beat and poll, as the sort process does, until `done`."""
        end, beat = time.monotonic() + at_most_s, 0.0
        while not done() and time.monotonic() < end:
            try:
                if beats and time.monotonic() - beat >= 0.05:
                    beat = time.monotonic()
                    self.sorter.heartbeat()
                self.receipts += self.sorter.poll()
            except DeviceError as error:
                self.errors.append(str(error))
            time.sleep(0.005)

    def failed(self) -> str:
        """Wait for the driver to raise; what it says."""
        self.run(lambda: self.errors)
        assert self.errors, f"nothing was said; receipts {self.receipts}, faults {dict(self.sorter.faults)}"
        return self.errors[0]

    def pulses(self) -> tuple[Pulse, ...]:
        return read_diary(self.device.diary).pulses


@pytest.fixture
def rig(emulator: Callable[..., Any]) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(*arguments: object, before: str = "") -> Rig:
        device = emulator(*(arguments or QUICK))
        if before:
            device.order(before)
        settings = devices.SerialSorter(kind="serial", port=device.at, outlets={"left": 1, "right": 2})
        made.append(Rig(device, SerialSorter(settings, 20.0)))
        made[-1].sorter.open()
        made[-1].sorter.arm()
        return made[-1]

    yield make
    for one in made:
        one.sorter.close()


def test_trouble_of_the_device_is_a_refusal_and_an_error(rig: Callable[..., Rig]) -> None:
    r = rig()
    r.device.order("nak=1")
    r.send(1)
    assert "valve_stuck" in r.failed() and "command 1" in r.errors[0]
    assert [(x.command, x.kind, x.reason) for x in r.receipts] == [(1, ReceiptKind.REFUSED, "valve_stuck")]
    assert r.sorter.faults["nak_valve_stuck"] == 1
    r.sorter.disarm()
    r.run(at_most_s=0.3)
    assert not r.sorter.armed and len(r.errors) == 1, "said once"


def test_a_command_that_never_arrived_is_not_sent_after_its_deadline(rig: Callable[..., Rig]) -> None:
    r = rig()
    r.device.order("deaf=1")
    command = r.send(1, in_ms=200.0, lead_ms=100.0)
    r.run(lambda: time.perf_counter_ns() > command.deadline_ns)
    r.device.order("deaf=0")  # there would still be time before the pulse
    assert "command 1" in r.failed()
    assert r.sorter.faults["unacknowledged"] == 1 and r.receipts == []
    r.run(at_most_s=0.3)
    assert r.pulses() == ()


def test_a_command_lost_on_the_way_is_sent_again_in_time_and_fires_once(rig: Callable[..., Rig]) -> None:
    r = rig()
    r.device.order("deaf=1")
    r.send(1, in_ms=900.0)
    r.run(at_most_s=0.1)
    r.device.order("deaf=0")
    r.run(lambda: r.receipts)
    assert [x.kind for x in r.receipts] == [ReceiptKind.FIRED] and r.sorter.faults["sent_again"] >= 1
    assert [pulse.command for pulse in r.pulses()] == [1] and not r.errors


def test_lost_answers_are_got_again(rig: Callable[..., Rig]) -> None:
    """The acknowledgement: the same line brings it once more. The report: it is asked for."""
    r = rig()
    r.device.order("silent=1")
    r.send(1, in_ms=700.0)
    r.run(at_most_s=0.1)
    r.device.order("silent=0")
    r.run(at_most_s=0.25)
    r.device.order("silent=1")
    r.run(lambda: r.pulses(), 3.0)
    r.device.order("silent=0")
    r.run(lambda: r.receipts)
    assert [x.kind for x in r.receipts] == [ReceiptKind.FIRED]
    assert r.sorter.faults["sent_again"] >= 1 and r.sorter.faults["asked"] >= 1
    assert len(r.pulses()) == 1 and not r.errors


@pytest.mark.parametrize("how", ["unplug", "killed"])
def test_an_unplugged_device_is_said_at_once(rig: Callable[..., Rig], how: str) -> None:
    r = rig()
    r.send(1, in_ms=1500.0)
    r.run(at_most_s=0.1)
    if how == "unplug":
        r.device.order("unplug")
    else:
        r.device.process.kill()
    assert "unplugged?" in r.failed() and r.device.at in r.errors[0]
    r.sorter.disarm()  # must work at any time
    assert not r.sorter.armed and r.sorter.faults["unplugged"] == 1
    with pytest.raises(DeviceError, match="unplugged"):
        r.sorter.arm()


def test_silence_is_said(rig: Callable[..., Rig]) -> None:
    r = rig()
    r.device.order("silent=1")
    assert "silent" in r.failed()
    assert r.sorter.faults["silent"] == 1
    r.device.order("silent=0")
    r.run(at_most_s=0.2)
    r.errors.clear()
    r.run(at_most_s=0.2)
    assert not r.errors, "it speaks again"


def test_a_device_switched_on_anew_ends_the_session(rig: Callable[..., Rig]) -> None:
    r = rig()
    r.send(1, in_ms=1000.0)
    r.device.order("restart")
    assert "switched on anew" in r.failed() and r.sorter.faults["restarted"] == 1
    assert not r.sorter.armed
    with pytest.raises(DeviceError, match="anew"):
        r.send(2)
    assert r.pulses() == ()


def test_an_order_to_disarm_that_is_not_heard_is_left_to_the_watchdog(rig: Callable[..., Rig]) -> None:
    r = rig()
    r.send(1, in_ms=3000.0)
    r.run(at_most_s=0.1)
    r.device.order("deaf=1")
    r.sorter.disarm()
    assert "watchdog" in r.failed()
    r.run(lambda: not read_diary(r.device.diary).entries[-1].on)  # type: ignore[union-attr]
    last = read_diary(r.device.diary).entries[-1]
    assert isinstance(last, Armed) and (last.on, last.reason) == (False, "watchdog") and r.pulses() == ()


def test_a_disarming_lost_on_the_way_is_said_again(rig: Callable[..., Rig]) -> None:
    r = rig()
    r.send(1, in_ms=1500.0)
    r.run(at_most_s=0.1)
    r.device.order("deaf=1")
    r.sorter.disarm()
    r.device.order("deaf=0")
    r.run(lambda: r.receipts)
    assert [(x.kind, x.reason) for x in r.receipts] == [(ReceiptKind.REFUSED, "disarmed")] and not r.errors


@pytest.mark.parametrize("brain", ["python", "firmware"])
def test_on_a_bad_wire_nothing_fires_twice_or_unasked(
    rig: Callable[..., Rig], request: pytest.FixtureRequest, brain: str
) -> None:
    core = ("--firmware", request.getfixturevalue("firmware")) if brain == "firmware" else ()
    r = rig(*QUICK, *core)
    r.device.order("corrupt=0.15")
    sent = []
    for number in range(25):
        sent.append(r.send(number, in_ms=150.0, width_ms=40.0))
        r.run(at_most_s=0.1)
    r.device.order("corrupt=0")
    r.run(at_most_s=0.8)
    fired = [x.command for x in r.receipts if x.kind is ReceiptKind.FIRED]
    pulses = [pulse.command for pulse in r.pulses()]
    assert len(pulses) == len(set(pulses)) and len(fired) == len(set(fired))
    assert set(fired) <= set(pulses) <= {command.command for command in sent}
    assert r.sorter.faults["garbled"] >= 1 and r.sorter.faults["sent_again"] >= 1
    answered = {x.command for x in r.receipts}
    unknown = r.sorter.faults["unacknowledged"] + r.sorter.faults["report_lost"]
    assert len(sent) - len(answered) <= unknown, "what has no receipt has been said"
    assert bool(unknown) <= bool(r.errors)


def test_a_clock_that_wraps_and_drifts_is_followed(rig: Callable[..., Rig]) -> None:
    """A ceramic resonator 0.4 % off; the 32-bit microseconds begin anew in mid-run."""
    r = rig("--settings", json.dumps({"watchdog_ms": 1000.0, "clock_drift_ppm": 4000.0}), "--clock-us", U32 - 1_500_000)
    commands = []
    for number in range(20):
        commands.append(r.send(number, in_ms=120.0, width_ms=60.0, lead_ms=20.0))
        r.run(at_most_s=0.15)
    r.run(at_most_s=0.3)
    pulses = {pulse.command: pulse for pulse in r.pulses()}
    assert len(pulses) >= len(commands) // 2 and not r.errors
    assert (
        max(p.device_opened_ns for p in pulses.values()) > U32 * 1000 > min(p.device_opened_ns for p in pulses.values())
    )
    off_ms = sorted(
        abs(pulses[c.command].opened_ns - (c.fire_at_ns - c.width_ns // 2)) / MS
        for c in commands
        if c.command in pulses
    )
    # a wrong clock shifts every pulse; a busy machine only makes some of them late
    assert off_ms[len(off_ms) // 5] < 1.0
    at = {x.command: x.at_ns for x in r.receipts if x.kind is ReceiptKind.FIRED}
    assert sorted(abs(at[n] - pulses[n].opened_ns) for n in at)[len(at) // 5] < MS, "receipts are in host time"


def test_a_slow_wire_is_known_to_be_one(rig: Callable[..., Rig]) -> None:
    r = rig(before="late_ms=40")
    assert r.sorter.clock_bound_ns >= 20 * MS, "the self-test then refuses to arm"
    r.send(1)
    r.run(lambda: r.receipts)
    assert [x.kind for x in r.receipts] == [ReceiptKind.FIRED]


# ---- opening ---------------------------------------------------------------------------------------------------------


def _settings(port: str, **outlets: int) -> devices.SerialSorter:
    return devices.SerialSorter(kind="serial", port=port, outlets=outlets or {"left": 1})


def test_a_port_that_is_not_there_is_named(tmp_path: Path) -> None:
    port = str(tmp_path / "ttyACM9")
    with pytest.raises(DeviceError, match=rf"{port} cannot be opened.*serial ports here"):
        SerialSorter(_settings(port), 20.0).open()


def test_a_port_that_says_nothing_is_no_sorter(emulator: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_sorter, "START_S", 0.5)
    device = emulator()
    device.order("silent=1")
    with pytest.raises(DeviceError, match="nothing was heard"):
        SerialSorter(_settings(device.at), 20.0).open()
    device.order("silent=0")
    device.order("corrupt=1")
    with pytest.raises(DeviceError, match="baud"):
        SerialSorter(_settings(device.at), 20.0).open()
    device.order("corrupt=0")
    sorter = SerialSorter(_settings(device.at), 20.0)
    sorter.open()
    try:
        with pytest.raises(DeviceError, match="cannot be opened"):  # nobody else may speak to it
            SerialSorter(_settings(device.at), 20.0).open()
    finally:
        sorter.close()


def test_a_device_that_does_not_fit_is_refused_with_all_reasons(emulator: Callable[..., Any]) -> None:
    device = emulator("--settings", json.dumps({"min_lead_ms": 30.0, "watchdog_ms": 60.0}))
    with pytest.raises(DeviceError) as caught:
        SerialSorter(_settings(device.at, left=1, far=7), 20.0).open()
    for word in ("sorter.outlets.far", "device_lead_ms", "watchdog"):
        assert word in str(caught.value)


def test_the_next_host_begins_anew(rig: Callable[..., Rig]) -> None:
    """Numbers begin at 0 in every run; what an earlier one has left in the queue is forgotten."""
    r = rig()
    r.send(7, in_ms=900.0)
    r.run(at_most_s=0.05)
    r.sorter._port.close()  # the host dies without a word
    again = SerialSorter(_settings(r.device.at), 20.0)
    again.open()
    try:
        again.arm()
        second = Rig(r.device, again)
        second.send(0, in_ms=300.0)
        second.run(at_most_s=1.2)
        assert [(x.command, x.kind) for x in second.receipts] == [(0, ReceiptKind.FIRED)] and not second.errors
        assert [pulse.command for pulse in r.pulses()] == [0]
    finally:
        again.close()
