"""One suite for every sorter: what a host may rely on, whatever stands behind the protocol."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from hspc_drivers.serial_sorter import SerialSorter
from hspc_drivers.simulated_sorter import ProcessSorter
from hspc_drivers.virtual_sorter import VirtualSorter
from hspc_drivers.zmq_sorter import ZmqSorter
from hspc_live.core.clock import VirtualClock
from hspc_live.core.errors import DeviceError
from hspc_live.core.protocols import Sorter
from hspc_live.core.values import Receipt, ReceiptKind, SortCommand
from hspc_live.settings import devices
from hspc_live.settings.devices import SimulatedSorter
from hspc_live.twin.pulses import Diary, read_diary
from hspc_live.wire.links import endpoint, private_folder

MS = 1_000_000
LATE = 40 * MS  # a busy machine may wake the process late; its pulses are wide enough not to be slept through
SETTINGS = SimulatedSorter(kind="simulated", watchdog_ms=1000.0, min_lead_ms=5.0, max_queue=4)
OUTLETS = {"left": 1, "right": 2}


class Bench(Protocol):
    """A sorter with its time."""

    sorter: Sorter

    def now_ns(self) -> int: ...

    def run_for(self, ms: float, *, alive: bool = True) -> list[Receipt]: ...

    def diary(self) -> Diary: ...


@dataclass
class RealBench:
    """A device that is a process of its own, in real time."""

    sorter: ProcessSorter | ZmqSorter | SerialSorter
    path: Path

    def now_ns(self) -> int:
        return time.perf_counter_ns()

    def run_for(self, ms: float, *, alive: bool = True) -> list[Receipt]:
        receipts: list[Receipt] = []
        end_ns = self.now_ns() + round(ms * MS)
        while self.now_ns() < end_ns:
            if alive:
                self.sorter.heartbeat()
            receipts += self.sorter.poll()
            time.sleep(0.01)
        return receipts

    def diary(self) -> Diary:
        return read_diary(self.path)


@dataclass
class VirtualBench:
    sorter: VirtualSorter
    clock: VirtualClock

    def now_ns(self) -> int:
        return self.clock.now_ns()

    def run_for(self, ms: float, *, alive: bool = True) -> list[Receipt]:
        receipts: list[Receipt] = []
        end_ns = self.now_ns() + round(ms * MS)
        while self.now_ns() < end_ns:
            self.clock.advance_to(min(end_ns, self.now_ns() + 10 * MS))
            if alive:
                self.sorter.heartbeat()
            receipts += self.sorter.poll()
        return receipts

    def diary(self) -> Diary:
        return self.sorter.diary


@pytest.fixture(params=["process", "virtual", "zmq", "serial", "serial-firmware"])
def bench(
    request: pytest.FixtureRequest, tmp_path: Path, start_device: Callable[..., Any], emulator: Callable[..., Any]
) -> Iterator[Bench]:
    made: RealBench | VirtualBench
    given = ("--settings", json.dumps(SETTINGS.model_dump(mode="json")))
    folder = private_folder()
    match request.param:
        case "process":
            path = tmp_path / "pulses.jsonl"
            made = RealBench(ProcessSorter(SETTINGS, path), path)
        case "zmq":
            address = endpoint(folder, "sorter")
            device = start_device("hspc_drivers.sorter_process", address, *given)
            made = RealBench(ZmqSorter(address), device.diary)
        case "virtual":
            clock = VirtualClock(5_000_000_000)
            made = VirtualBench(VirtualSorter(SETTINGS, clock), clock)
        case brain:
            core = ("--firmware", request.getfixturevalue("firmware")) if brain == "serial-firmware" else ()
            device = emulator(*given, *core)
            settings = devices.SerialSorter(kind="serial", port=device.at, outlets=OUTLETS)
            made = RealBench(SerialSorter(settings, 20.0), device.diary)
    try:
        made.sorter.open()
        yield made
    finally:
        made.sorter.close()
        shutil.rmtree(folder)


def _command(bench: Bench, number: int, in_ms: float, width_ms: float = 80.0, outlet: str = "left") -> SortCommand:
    now_ns = bench.now_ns()
    fire_at_ns = now_ns + round(in_ms * MS)
    width_ns = round(width_ms * MS)
    return SortCommand(number, 100 + number, outlet, fire_at_ns, width_ns, fire_at_ns - width_ns // 2 - 5 * MS, now_ns)


def _kinds(receipts: list[Receipt]) -> dict[int, tuple[ReceiptKind, str]]:
    return {receipt.command: (receipt.kind, receipt.reason) for receipt in receipts}


def test_a_command_fires_once_at_its_time(bench: Bench) -> None:
    bench.sorter.arm()
    command = _command(bench, 1, 200.0)
    bench.sorter.send(command)
    receipts = bench.run_for(400.0)
    assert _kinds(receipts) == {1: (ReceiptKind.FIRED, "")}
    assert len(receipts) == 1
    pulses = bench.diary().pulses
    assert [(pulse.command, pulse.outlet) for pulse in pulses] == [(1, "left")]
    opened = command.fire_at_ns - command.width_ns // 2
    assert abs(pulses[0].opened_ns - opened) < LATE
    assert abs(pulses[0].closed_ns - opened - command.width_ns) < LATE
    assert abs(receipts[0].at_ns - opened) < LATE


def test_disarmed_from_the_start_and_again_after_disarm(bench: Bench) -> None:
    bench.sorter.send(_command(bench, 1, 200.0))
    receipts = bench.run_for(30.0)
    bench.sorter.arm()
    bench.sorter.send(_command(bench, 2, 300.0))
    receipts += bench.run_for(30.0)
    bench.sorter.disarm()
    bench.sorter.send(_command(bench, 3, 300.0))
    receipts += bench.run_for(500.0)
    assert _kinds(receipts) == dict.fromkeys((1, 2, 3), (ReceiptKind.REFUSED, "disarmed"))
    assert bench.diary().pulses == ()


def test_too_late_is_refused(bench: Bench) -> None:
    bench.sorter.arm()
    bench.sorter.send(_command(bench, 1, 42.0))  # opens in 2 ms
    overdue = _command(bench, 2, 300.0)
    bench.sorter.send(SortCommand(2, 2, "left", overdue.fire_at_ns, overdue.width_ns, bench.now_ns() - MS, 0))
    receipts = bench.run_for(400.0)
    assert _kinds(receipts) == dict.fromkeys((1, 2), (ReceiptKind.REFUSED, "too_late"))
    assert bench.diary().pulses == ()


def test_a_repeated_command_fires_once(bench: Bench) -> None:
    bench.sorter.arm()
    command = _command(bench, 1, 200.0)
    bench.sorter.send(command)
    bench.sorter.send(command)
    first = bench.run_for(400.0)
    bench.sorter.send(_command(bench, 1, 200.0))  # the same number once more, after it has fired
    later = bench.run_for(400.0)
    assert sorted((r.kind, r.reason) for r in first) == [(ReceiptKind.FIRED, ""), (ReceiptKind.REFUSED, "duplicate")]
    assert [(r.kind, r.reason) for r in later] == [(ReceiptKind.REFUSED, "duplicate")]
    assert len(bench.diary().pulses) == 1


def test_overlap_and_a_full_queue_are_refused(bench: Bench) -> None:
    bench.sorter.arm()
    bench.sorter.send(_command(bench, 1, 300.0))
    bench.sorter.send(_command(bench, 2, 370.0))
    for number in range(3, 7):
        bench.sorter.send(_command(bench, number, 100.0 + 100.0 * number))
    kinds = _kinds(bench.run_for(850.0))
    assert kinds[2] == (ReceiptKind.REFUSED, "overlap")
    assert kinds[6] == (ReceiptKind.REFUSED, "queue_full")
    assert [pulse.command for pulse in bench.diary().pulses] == [1, 3, 4, 5]


def test_commands_fire_in_the_order_of_their_times(bench: Bench) -> None:
    bench.sorter.arm()
    bench.sorter.send(_command(bench, 1, 350.0, outlet="right"))
    bench.sorter.send(_command(bench, 2, 200.0))
    bench.run_for(550.0)
    assert [(pulse.command, pulse.outlet) for pulse in bench.diary().pulses] == [(2, "left"), (1, "right")]


def test_a_silent_host_finds_the_queue_emptied(bench: Bench) -> None:
    bench.sorter.arm()
    bench.sorter.send(_command(bench, 1, 1500.0))
    receipts = bench.run_for(1300.0, alive=False)
    assert _kinds(receipts) == {1: (ReceiptKind.REFUSED, "watchdog")}
    bench.sorter.send(_command(bench, 2, 200.0))
    assert _kinds(bench.run_for(300.0)) == {2: (ReceiptKind.REFUSED, "watchdog")}
    bench.sorter.arm()
    bench.sorter.send(_command(bench, 3, 200.0))
    assert _kinds(bench.run_for(400.0)) == {3: (ReceiptKind.FIRED, "")}


def test_armed_is_the_device_s_own_word(bench: Bench) -> None:
    assert not bench.sorter.armed
    bench.sorter.arm()
    assert bench.sorter.armed, "arming returns when the device has confirmed it"
    bench.run_for(1300.0, alive=False)
    assert not bench.sorter.armed, "the watchdog has tripped"
    bench.sorter.arm()
    assert bench.sorter.armed
    bench.sorter.disarm()
    bench.run_for(50.0)
    assert not bench.sorter.armed


def test_the_device_s_clock_is_known_to_a_bound(bench: Bench) -> None:
    assert 0 <= bench.sorter.clock_bound_ns < 100 * MS


def test_heartbeats_hold_the_watchdog_off(bench: Bench) -> None:
    bench.sorter.arm()
    bench.sorter.send(_command(bench, 1, 1400.0))
    assert _kinds(bench.run_for(1600.0)) == {1: (ReceiptKind.FIRED, "")}


def test_closing_empties_the_queue_and_can_be_repeated(bench: Bench) -> None:
    bench.sorter.arm()
    bench.sorter.send(_command(bench, 1, 200.0))
    bench.sorter.close()
    bench.sorter.close()
    assert bench.diary().pulses == ()


def test_nothing_has_gone_wrong(bench: Bench) -> None:
    bench.sorter.arm()
    bench.run_for(100.0)
    assert set(bench.sorter.faults) <= {"arming_again"}, "a busy machine may take its time"


@pytest.mark.parametrize("act", [Sorter.arm, Sorter.heartbeat, Sorter.poll])
def test_unopened_is_a_device_error(act: Callable[[Sorter], object]) -> None:
    serial = SerialSorter(devices.SerialSorter(kind="serial", port="/nowhere", outlets=OUTLETS), 20.0)
    for sorter in (VirtualSorter(SETTINGS, VirtualClock()), ProcessSorter(SETTINGS), ZmqSorter("ipc://a"), serial):
        with pytest.raises(DeviceError, match="not open"):
            getattr(sorter, act.__name__)()
