"""The simulated sorter's own process: `SorterDevice` run on a clock of its own, against real time.

It sleeps until its next due moment, spins through the last half millisecond (a timer's wake-up is not that exact), and
between moments serves its host. A run's own sorter ends by itself when its host is gone, so a killed run leaves no
orphan. Started by hand it is a device elsewhere, for `sorter.kind: zmq`, and waits for one host after the other:

    python -m hspc_drivers.sorter_process tcp://127.0.0.1:5570
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
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
    Begin,
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
from hspc_live.wire.keys import Pass, read_public, read_secret
from hspc_live.wire.links import Link, open_dealer

SPIN_NS = NS_PER_MS // 2
STATE_EVERY_NS = 100 * NS_PER_MS
IDLE_NS = 20 * NS_PER_MS
MOST_BYTES = 4096  # of one message of the host's
BURST = 256  # messages before the device looks after its actuator again
PARENT_EVERY_NS = NS_PER_S // 4


def device_main(settings_json: str, epoch_ns: int, address: str, diary_path: str | None, folder: str) -> None:
    """What `spawn` starts. `epoch_ns` is when the clock was switched on (host time); `folder` holds the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the host's terminal reaches the host alone
    settings = SimulatedSorter.model_validate_json(settings_json)
    diary = Path(diary_path).open("ab") if diary_path is not None else None
    if not _run(settings, epoch_ns, address, diary, _parent_alive):
        shutil.rmtree(folder, ignore_errors=True)  # the host cannot do it any more


def main() -> None:
    """A simulated sorter started by hand, for hosts that wait for it at an address."""
    parser = argparse.ArgumentParser(prog="python -m hspc_drivers.sorter_process", description=main.__doc__)
    parser.add_argument("address", help="where the host waits, e.g. tcp://127.0.0.1:5570 (sorter.address)")
    parser.add_argument("--diary", type=Path, help="new file for what the actuator did, one JSON object a line")
    parser.add_argument("--settings", default="{}", help="JSON of the simulated sorter's settings")
    parser.add_argument("--secret", type=Path, help="this device's secret key file, where the host asks for keys")
    parser.add_argument("--host-key", type=Path, help="the host's public key file, with --secret")
    given = parser.parse_args()
    if (given.secret is None) != (given.host_key is None):
        parser.error("--secret and --host-key go together")
    own = Pass(read_secret(given.secret), read_public(given.host_key)) if given.secret is not None else None
    settings = SimulatedSorter.model_validate({"kind": "simulated", **json.loads(given.settings)})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    diary = given.diary.open("xb") if given.diary is not None else None
    with contextlib.suppress(KeyboardInterrupt):
        _run(settings, time.perf_counter_ns(), given.address, diary, lambda: True, own)


def _parent_alive() -> bool:
    parent = parent_process()
    return parent is not None and parent.is_alive()


def _run(
    settings: SimulatedSorter,
    epoch_ns: int,
    address: str,
    diary: BufferedWriter | None,
    host_alive: Callable[[], bool],
    own: Pass | None = None,
) -> bool:
    """Be the device until switched off (True) or orphaned (False). Closes the diary."""
    be_urgent()
    with contextlib.closing(diary) if diary is not None else contextlib.nullcontext():
        with open_dealer(address, DEVICE, own, max_incoming_bytes=MOST_BYTES, max_incoming_parts=1) as link:
            return _DeviceProcess(settings, DeviceClock.of(settings, epoch_ns), link, diary, host_alive).run()


def be_urgent() -> None:
    """Go before other processes where that is allowed: a real device has a processor of its own."""
    if hasattr(os, "nice"):
        with contextlib.suppress(PermissionError):
            os.nice(-15)


class _DeviceProcess:
    """The loop."""

    def __init__(
        self,
        settings: SimulatedSorter,
        clock: DeviceClock,
        link: Link,
        diary: BufferedWriter | None,
        host_alive: Callable[[], bool],
    ) -> None:
        self._device = SorterDevice(settings)
        self._clock = clock
        self._books = Bookkeeper(clock, round(settings.delay_error_ms * NS_PER_MS))
        self._link = link
        self._decoder = Decoder[ToDevice](ToDevice)
        self._diary = diary
        self._host_alive = host_alive
        self._session = 0
        self._on = True

    def run(self) -> bool:
        """Until switched off (True) or orphaned (False)."""
        next_state_ns = next_parent_ns = 0
        while self._on:
            now_ns = time.perf_counter_ns()
            if now_ns >= next_state_ns:
                next_state_ns = now_ns + STATE_EVERY_NS
                self._say_state()
            if now_ns >= next_parent_ns:
                next_parent_ns = now_ns + PARENT_EVERY_NS
                if not self._host_alive():
                    self._do(self._device.disarm)
                    return False
            self._wait(min(next_state_ns, now_ns + IDLE_NS))
            # messages first: when it was this process that overslept, the host's words still prove it alive
            for _ in range(BURST):
                if (got := self._link.try_recv()) is None:
                    break
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
            case Begin(session) if session == self._session:
                self._say_state()  # said again: to forget what has fired would let it fire again
            case Begin(session):
                self._do(self._device.begin)
                self._session = session
                self._say_state()
            case Ping(sent_ns):
                self._do(self._device.heartbeat)
                self._tell(Pong(self._session, sent_ns, self._now()))
            case ArmIt():
                self._do(self._device.arm)
                self._say_state()
            case DisarmIt():
                self._do(self._device.disarm)
                self._say_state()
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

    def _say_state(self) -> None:
        self._tell(State(self._session, self._device.armed))

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


if __name__ == "__main__":
    main()
