"""The simulated sorter's own process: `SorterDevice` run on a clock of its own, against real time.

It sleeps until its next due moment, spins through the last half millisecond (a timer's wake-up is not that exact), and
between moments serves its host. It ends by itself when its host is gone, so a killed run leaves no orphan.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from io import BufferedWriter
from multiprocessing import parent_process
from pathlib import Path
from typing import assert_never

from hspc_drivers.sorter_clock import DeviceClock
from hspc_drivers.sorter_device import Answer, DeviceCommand, Output, SorterDevice
from hspc_drivers.sorter_diary import Bookkeeper
from hspc_drivers.sorter_wire import (
    DEVICE,
    Answered,
    ArmIt,
    DisarmIt,
    Fire,
    Ping,
    Pong,
    State,
    SwitchOff,
    ToDevice,
    ToHost,
)
from hspc_live.core.clock import NS_PER_MS, NS_PER_S
from hspc_live.core.errors import WireError
from hspc_live.settings.devices import SimulatedSorter
from hspc_live.twin.pulses import to_line
from hspc_live.wire.codec import Decoder, encode
from hspc_live.wire.links import Link, open_dealer

SPIN_NS = NS_PER_MS // 2
STATE_EVERY_NS = 100 * NS_PER_MS
IDLE_NS = 20 * NS_PER_MS
PARENT_EVERY_NS = NS_PER_S // 4


def device_main(settings_json: str, epoch_ns: int, address: str, diary_path: str | None, folder: str) -> None:
    """What `spawn` starts. `epoch_ns` is when the clock was switched on (host time); `folder` holds the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the host's terminal reaches the host alone
    if hasattr(os, "nice"):
        with contextlib.suppress(PermissionError):  # a real device has a processor of its own
            os.nice(-15)
    settings = SimulatedSorter.model_validate_json(settings_json)
    diary = Path(diary_path).open("ab") if diary_path is not None else None
    try:
        with open_dealer(address, DEVICE) as link:
            process = _DeviceProcess(settings, DeviceClock.of(settings, epoch_ns), link, diary)
            if not process.run():
                shutil.rmtree(folder, ignore_errors=True)  # the host cannot do it any more
    finally:
        if diary is not None:
            diary.close()


class _DeviceProcess:
    """The loop."""

    def __init__(self, settings: SimulatedSorter, clock: DeviceClock, link: Link, diary: BufferedWriter | None) -> None:
        self._device = SorterDevice(settings)
        self._clock = clock
        self._books = Bookkeeper(clock, round(settings.delay_error_ms * NS_PER_MS))
        self._link = link
        self._decoder = Decoder[ToDevice](ToDevice)
        self._diary = diary
        self._on = True

    def run(self) -> bool:
        """Until switched off (True) or orphaned (False)."""
        next_state_ns = next_parent_ns = 0
        while self._on:
            now_ns = time.perf_counter_ns()
            if now_ns >= next_state_ns:
                next_state_ns = now_ns + STATE_EVERY_NS
                self._tell(State(self._device.armed))
            if now_ns >= next_parent_ns:
                next_parent_ns = now_ns + PARENT_EVERY_NS
                parent = parent_process()
                if parent is None or not parent.is_alive():
                    self._do(self._device.disarm)
                    return False
            self._wait(min(next_state_ns, now_ns + IDLE_NS))
            # messages first: when it was this process that overslept, the host's words still prove it alive
            while (got := self._link.try_recv()) is not None:
                self._serve(got[1])
            self._do(self._device.advance)
        return True

    def _wait(self, until_ns: int) -> None:
        """Sleep until a message comes, until `until_ns` (host time), or exactly until the device's next due moment."""
        due = self._device.next_due_ns()
        due_ns = self._clock.host_ns(due) if due is not None else None
        if due_ns is None or due_ns > until_ns:
            self._link.wait(max(0, (until_ns - time.perf_counter_ns()) // NS_PER_MS) / 1e3)
            return
        whole_ms = (due_ns - SPIN_NS - time.perf_counter_ns()) // NS_PER_MS
        if whole_ms > 0 and self._link.wait(whole_ms / 1e3):
            return
        rest_ns = due_ns - SPIN_NS - time.perf_counter_ns()
        if rest_ns > 0:
            time.sleep(rest_ns / 1e9)
        while time.perf_counter_ns() < due_ns:
            pass

    def _serve(self, parts: list[bytes | memoryview]) -> None:
        """One message of the host's. What cannot be read is left out: the watchdog covers a host of nonsense."""
        try:
            message = self._decoder.decode(parts).message
        except WireError:
            return
        match message:
            case Ping(sent_ns):
                self._do(self._device.heartbeat)
                self._tell(Pong(sent_ns, self._now()))
            case ArmIt():
                self._do(self._device.arm)
                self._tell(State(self._device.armed))
            case DisarmIt():
                self._do(self._device.disarm)
                self._tell(State(self._device.armed))
            case Fire():
                command = DeviceCommand(
                    message.command, message.outlet, message.opens_ns, message.closes_ns, message.deadline_ns
                )
                self._do(lambda now: self._device.accept(command, now))
            case SwitchOff():
                self._do(self._device.disarm)
                self._on = False
            case _:
                assert_never(message)

    def _now(self) -> int:
        return self._clock.device_ns(time.perf_counter_ns())

    def _do(self, act: Callable[[int], list[Output]]) -> None:
        """Let the device act now; write its diary, then answer the host."""
        outputs = act(self._now())
        if not outputs:
            return
        written = len(self._books.entries)
        self._books.book(outputs)
        if self._diary is not None:
            for entry in self._books.entries[written:]:
                self._diary.write(to_line(entry))
            self._diary.flush()
        for output in outputs:
            if isinstance(output, Answer):
                self._tell(Answered(output.command, output.kind, output.at_ns, output.reason))

    def _tell(self, message: ToHost) -> None:
        # a full queue means a host that does not listen: its watchdog, not our memory, is the answer to that
        self._link.try_send(encode(message))
