"""A sorter without a board: a device of its own process on a pseudo-terminal, with faults to be switched on.

    python -m hspc_drivers.serial_emulator /tmp/sorter

makes /tmp/sorter a serial port (`sorter.port`) at whose other end the line protocol is spoken. Lines on standard input
switch faults: `nak=1`, `silent=1`, `deaf=1`, `late_ms=80`, `corrupt=0.1`, `restart`, `unplug`; its end, or a signal,
ends the device. Its brain is `SerialDevice`, or with `--firmware` the compiled core of the reference firmware.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BufferedWriter
from pathlib import Path

from hspc_drivers.serial_device import Brain, SerialDevice
from hspc_drivers.serial_firmware import Firmware
from hspc_drivers.serial_protocol import TO_DEVICE, Disarm, Fire, Line, Nak, decode, encode
from hspc_drivers.sorter_clock import DeviceClock
from hspc_drivers.sorter_device import FiredPulse
from hspc_drivers.sorter_diary import Bookkeeper
from hspc_drivers.sorter_process import SPIN_NS, be_urgent
from hspc_live.core.errors import DeviceError
from hspc_live.settings.devices import SimulatedSorter
from hspc_live.twin.pulses import to_line

IDLE_S = 0.02
_STOP = encode(1, Disarm())


@dataclass(slots=True)
class Faults:
    """What goes wrong. Both directions share one stream of chances, so a seed repeats a run of bad luck."""

    nak: int = 0
    """So many commands are answered with a word of trouble and not looked at."""
    silent: bool = False
    """Nothing is said any more."""
    deaf: bool = False
    """Nothing is heard any more."""
    late_ms: float = 0.0
    """Everything is said so much later."""
    corrupt: float = 0.0
    """Share of lines, in both directions, in which one bit is turned."""
    chances: random.Random = field(default_factory=lambda: random.Random(1))

    def switch(self, order: str) -> None:
        """Obey `name=value`. Raises ValueError for anything else."""
        name, _, value = order.partition("=")
        if name not in ("nak", "silent", "deaf", "late_ms", "corrupt"):
            raise ValueError(f"no fault is called {name!r}")
        setattr(self, name, type(getattr(self, name))(float(value)))

    def spoil(self, line: bytes) -> bytes:
        """`line`, or by chance one with a bit turned. The line feed is left alone: it would only make two of one."""
        if len(line) < 2 or self.chances.random() >= self.corrupt:
            return line
        spoilt = bytearray(line)
        spoilt[self.chances.randrange(len(line) - 1)] ^= 1 << self.chances.randrange(8)
        return bytes(spoilt)


class Emulator:
    """One device. `make` switches its brain on; `names` are those that the diary gives to outlets 1, 2, ..."""

    def __init__(
        self,
        make: Callable[[], Brain],
        clock: DeviceClock,
        names: list[str],
        diary: BufferedWriter | None,
        link: Path,
    ) -> None:
        self._make = make
        self._brain = make()
        self._clock = clock
        self._names = names
        self._books = Bookkeeper(clock, 0)
        self._diary = diary
        self._link = link
        self._faults = Faults()
        self._heard = b""
        self._to_say: list[tuple[int, bytes]] = []
        self._master, self._slave = _terminal()
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(self._slave))

    def run(self) -> None:
        """Until standard input ends."""
        orders = b""
        while True:
            self._wait()
            ready, _, _ = select.select([sys.stdin.fileno(), *self._ends()], [], [], 0)
            if sys.stdin.fileno() in ready:
                came = os.read(sys.stdin.fileno(), 4096)
                if not came:
                    return
                *lines, orders = (orders + came).split(b"\n")
                for order in lines:
                    self._obey(order.decode().strip())
            if self._master in ready:
                self._hear(os.read(self._master, 4096))
            self._do(self._brain.advance)
            self._speak()

    def close(self) -> None:
        """Unplug, and let go of all."""
        self._unplug()
        if isinstance(self._brain, Firmware):
            self._brain.close()

    def _ends(self) -> list[int]:
        return [self._master] if self._master >= 0 else []

    def _wait(self) -> None:
        """Sleep until something comes, or until just before the next due moment; then spin up to it."""
        now_ns = time.perf_counter_ns()
        due = [when_ns for when_ns, _ in self._to_say[:1]]
        if (brain_us := self._brain.due_us(self._now_us())) is not None:
            due.append(self._clock.host_ns(brain_us * 1000))
        due_ns = min(due, default=now_ns + 10**12)
        rest_s = min(IDLE_S, (due_ns - SPIN_NS - now_ns) / 1e9)
        if rest_s > 0:
            ready, _, _ = select.select([sys.stdin.fileno(), *self._ends()], [], [], rest_s)
            if ready:
                return
        if due_ns - time.perf_counter_ns() <= SPIN_NS:
            while time.perf_counter_ns() < due_ns:
                pass

    def _hear(self, data: bytes) -> None:
        if self._faults.deaf:
            return
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            got = decode(line, TO_DEVICE)
            if self._faults.nak > 0 and isinstance(got, Line) and isinstance(got.message, Fire):
                self._faults.nak -= 1
                self._say(encode(got.seq, Nak("valve_stuck")))
                continue
            spoilt = self._faults.spoil(line + b"\n")
            self._do(lambda now_us, spoilt=spoilt: self._brain.feed(spoilt, now_us))  # type: ignore[misc]

    def _do(self, act: Callable[[int], bytes]) -> None:
        """Let the brain act now; write the diary, then say what it says."""
        said = act(self._now_us())
        written = len(self._books.entries)
        for output in self._brain.outputs():
            if isinstance(output, FiredPulse):
                name = self._names[int(output.outlet) - 1]
                output = FiredPulse(output.command, name, output.opened_ns, output.closed_ns, output.deflects)
            self._books.book([output])
        if self._diary is not None and len(self._books.entries) > written:
            self._diary.writelines(map(to_line, self._books.entries[written:]))
            self._diary.flush()
        for line in said.splitlines(keepends=True):
            self._say(line)

    def _say(self, line: bytes) -> None:
        if not self._faults.silent:
            when_ns = time.perf_counter_ns() + round(self._faults.late_ms * 1e6)
            self._to_say.append((when_ns, self._faults.spoil(line)))

    def _speak(self) -> None:
        while self._to_say and self._to_say[0][0] <= time.perf_counter_ns():
            _, line = self._to_say.pop(0)
            if self._master >= 0:
                with contextlib.suppress(BlockingIOError):  # nobody reads: it is lost, as on a wire
                    os.write(self._master, line)

    def _obey(self, order: str) -> None:
        match order:
            case "unplug":
                self._unplug()
            case "restart":
                self._do(lambda now_us: self._brain.feed(_STOP, now_us)[:0])  # its supply fails: the actuator rests
                self._brain = self._make()
            case "":
                pass
            case _:
                self._faults.switch(order)
        print(f"did {order}", flush=True)

    def _unplug(self) -> None:
        if self._master >= 0:
            os.close(self._slave)
            os.close(self._master)
            self._master = -1
            self._link.unlink(missing_ok=True)

    def _now_us(self) -> int:
        return self._clock.device_ns(time.perf_counter_ns()) // 1000


def _terminal() -> tuple[int, int]:
    """A pseudo-terminal that passes bytes as they are. Raises DeviceError where there are none."""
    try:
        import tty
    except ImportError as error:
        raise DeviceError("the emulator needs pseudo-terminals, which this system does not have") from error
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    return master, slave


def main() -> None:
    """A sorter that is not there: a device on a pseudo-terminal."""
    parser = argparse.ArgumentParser(prog="python -m hspc_drivers.serial_emulator", description=main.__doc__)
    parser.add_argument("link", type=Path, help="where the serial port is to appear, e.g. /tmp/sorter")
    parser.add_argument("--outlets", default="left,right", help="names for outlets 1, 2, ... in the diary")
    parser.add_argument("--diary", type=Path, help="new file for what the actuator did, one JSON object a line")
    parser.add_argument("--settings", default="{}", help="JSON: min_lead_ms, max_queue, watchdog_ms, clock_drift_ppm")
    parser.add_argument("--clock-us", type=int, default=0, help="what its clock reads when it is switched on")
    parser.add_argument("--firmware", type=Path, help="the compiled core of the firmware, to be the brain")
    given = parser.parse_args()
    settings = SimulatedSorter.model_validate({"kind": "simulated", **json.loads(given.settings)})
    names = given.outlets.split(",")

    def make() -> Brain:
        if given.firmware is not None:
            return Firmware(given.firmware, settings, len(names))
        return SerialDevice(settings, len(names))

    now_ns = time.perf_counter_ns()
    clock = DeviceClock(given.clock_us * 1000 - now_ns, settings.clock_drift_ppm * 1e-6, now_ns)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    be_urgent()
    with given.diary.open("xb") if given.diary is not None else contextlib.nullcontext() as diary:
        device = Emulator(make, clock, names, diary, given.link)
        try:
            print(f"ready {given.link}", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                device.run()
        finally:
            device.close()


if __name__ == "__main__":
    main()
