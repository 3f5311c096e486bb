"""The host's half of a sorter on a serial port: commands in device time, answers, and every way in which they fail.

What is not acknowledged is sent again, unchanged, until the command's deadline and never after it; a report that does
not come is asked for. A refusal is a receipt. Anything else (a line that is not acknowledged at all, a word of trouble,
silence, a device that was switched on anew, a port that is gone) is a DeviceError, counted in `faults`.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from hspc_drivers.serial_clock import SerialClock
from hspc_drivers.serial_pending import Commands
from hspc_drivers.serial_port import SerialPort
from hspc_drivers.serial_protocol import (
    VERSION,
    Ack,
    Arm,
    Bad,
    Disarm,
    Done,
    Drop,
    Fault,
    Fire,
    Hello,
    Hi,
    Line,
    Message,
    Nak,
    Ping,
    Pong,
    State,
    encode,
)
from hspc_live.core.clock import NS_PER_S
from hspc_live.core.errors import DeviceError
from hspc_live.core.values import Receipt, ReceiptKind, SortCommand
from hspc_live.settings import devices

START_S = 5.0
"""A board that restarts when its port is opened takes up to two seconds."""
HELLO_S = 0.25
ARM_S = 0.5
ARM_AGAIN_S = 0.1
SILENCE_NS = NS_PER_S
MOST_DISARMS = 10
"""So often it is said, with beats 50 ms apart; then the device hears no more beats."""
PINGS = 24
PING_EVERY_S = 0.01
PONG_WAIT_S = 0.05
LEAST_WATCHDOG_US = 100_000
"""The host beats every 50 ms; one lost beat must not disarm."""


class SerialSorter:
    """A `core.protocols.Sorter` on a serial port. Use it from one thread.

    `lead_ms` is how long before a pulse its command will come at the latest; a device that needs more is refused.
    """

    def __init__(self, settings: devices.SerialSorter, lead_ms: float) -> None:
        self._settings = settings
        self._lead_ms = lead_ms
        self._port: SerialPort | None = None
        self._seq = 0
        self._session = 0
        self._hi: Hi | None = None
        self._clock = SerialClock()
        self._armings: set[int] = set()
        self._faults: Counter[str] = Counter()
        self._commands = Commands(self._faults)
        self._receipts: list[Receipt] = []
        self._heard_ns = 0
        self._silent = False
        self._armed = False
        self._unconfirmed = 0
        self._failed = ""
        self._trouble = ""

    @property
    def armed(self) -> bool:
        """Whether the device last said that it accepts commands."""
        return self._armed

    @property
    def clock_bound_ns(self) -> int:
        """How far the estimate of the device's clock can be off now."""
        return self._clock.bound_ns(time.perf_counter_ns())

    @property
    def faults(self) -> Mapping[str, int]:
        """What went wrong on the wire so far, counted by name."""
        return self._faults

    def open(self) -> None:
        """Open the port, begin a session, estimate the clock. Raises DeviceError."""
        self._port = SerialPort(self._settings.port, self._settings.baud)
        self._session = 1 + secrets.randbelow(2**32 - 1)
        try:
            self._hi = self._greet(self._port)
            self._check_device(self._hi)
            for _ in range(PINGS):  # spread over a quarter of a second, from which the drift shows
                self.heartbeat()
                self._wait(lambda: not self._clock.waiting, PONG_WAIT_S)
                time.sleep(PING_EVERY_S)
            if not self._clock.known:
                raise DeviceError(f"sorter: the device at {self._settings.port} does not answer pings")
        except DeviceError:
            self.close()
            raise

    def arm(self) -> None:
        """Let commands through. Raises DeviceError unless the device says within half a second that it does."""
        self._armed = False
        self._unconfirmed = 0
        self._armings.clear()
        for _ in range(round(ARM_S / ARM_AGAIN_S)):  # asking again is harmless: armed is armed
            self._armings.add(self._say(Arm()))
            if self._wait(lambda: self._armed, ARM_AGAIN_S):
                return
            self._faults["arming_again"] += 1
        self.disarm()
        raise DeviceError(f"sorter: the device did not confirm arming within {ARM_S:g} s")

    def disarm(self) -> None:
        """Empty the queue and refuse what comes. Repeated by `heartbeat` until confirmed, or else beats end."""
        self._armed = False
        self._armings.clear()
        self._commands.give_up_sending()
        if self._port is None:
            return
        self._unconfirmed += 1
        try:
            self._say(Disarm())
        except DeviceError as error:  # the port is gone: the device's watchdog hears nothing any more, either
            self._failed = self._failed or str(error)

    def send(self, command: SortCommand) -> None:
        """Hand one command over, in device time. Raises DeviceError when that cannot be done."""
        self._check_open()
        outlet = self._settings.outlets.get(command.outlet)
        if outlet is None:
            self._faults["no_output"] += 1
            raise DeviceError(f"sorter: outlet {command.outlet!r} has no output (sorter.outlets)")
        opens_us = self._clock.wire_us(command.fire_at_ns - command.width_ns // 2)
        deadline_us = self._clock.wire_us(command.deadline_ns)
        fire = Fire(command.command, outlet, opens_us, command.width_ns // 1000, deadline_us)
        self._seq = self._seq % 0xFFFF + 1
        line = encode(self._seq, fire)
        self._commands.sent(command, self._seq, line, time.perf_counter_ns())
        self._write(line)

    def poll(self) -> Sequence[Receipt]:
        """Receipts since the last call, in host time. Raises DeviceError once a failed device has no more to say."""
        self._listen()
        if self._port is not None and not self._failed and not self._port.lost:
            now_ns = time.perf_counter_ns()
            for line in self._commands.again(now_ns):
                self._write(line)
            for ask in self._commands.questions(now_ns):
                self._commands.asked(self._say(ask), ask.command)
        receipts, self._receipts = self._receipts, []
        if not receipts:
            self._check()
        return receipts

    def heartbeat(self) -> None:
        """Tell the device that the host lives; its answer also refreshes the clock estimate, so drift is followed."""
        self._listen()
        self._check_open()
        if self._unconfirmed > MOST_DISARMS:
            self._faults["disarm_unconfirmed"] += 1
            self._failed = "sorter: the device did not confirm that it is disarmed: left to its watchdog"
            raise DeviceError(self._failed)
        if self._unconfirmed:
            self.disarm()
        sent_ns = time.perf_counter_ns()
        self._clock.pinged(self._say(Ping()), sent_ns)

    def close(self) -> None:
        """Disarm and let go; harmless when called twice."""
        if self._port is not None:
            self.disarm()
            self._port.close()
            self._port = None

    def _greet(self, port: SerialPort) -> Hi:
        """Say hello until the device answers in our session. The line feed ends whatever lay in its buffer."""
        for _ in range(round(START_S / HELLO_S)):
            port.write(b"\n")
            self._say(Hello(VERSION, self._session))
            if self._wait(lambda: self._hi is not None, HELLO_S):
                break
        if self._hi is None:
            heard = "something, but no sorter's words (baud rate?)" if self._faults["garbled"] else "nothing"
            raise DeviceError(f"sorter: {heard} was heard at {self._settings.port} within {START_S:g} s")
        self._faults.clear()  # what a board says while it starts is no fault
        return self._hi

    def _check_device(self, hi: Hi) -> None:
        """Raise DeviceError, with all reasons, for a device that does not fit the settings."""
        problems = []
        if hi.version != VERSION:
            problems.append(f"it speaks version {hi.version} of the protocol, this program version {VERSION}")
        for name, number in self._settings.outlets.items():
            if number > hi.outlets:
                problems.append(f"sorter.outlets.{name}: it has {hi.outlets} outputs, no number {number}")
        if hi.lead_us > self._lead_ms * 1000:
            problems.append(f"sort.timing.device_lead_ms is {self._lead_ms:g}, it needs {hi.lead_us / 1000:g}")
        if hi.watchdog_us < LEAST_WATCHDOG_US:
            problems.append(f"its watchdog of {hi.watchdog_us / 1000:g} ms is too short for beats every 50 ms")
        if problems:
            raise DeviceError(f"sorter: {hi.board} at {self._settings.port}: {'; '.join(problems)}")

    def _listen(self) -> None:
        """Take in all that has arrived."""
        while self._port is not None and (got := self._port.take()) is not None:
            at_ns, line = got
            match line:
                case Bad():
                    self._faults["garbled"] += 1
                case Line(seq, message):
                    self._heard_ns = at_ns
                    self._silent = False
                    self._take(seq, message, at_ns)

    def _take(self, seq: int, message: Message, at_ns: int) -> None:
        match message:
            case Hi():
                if message.session == self._session:
                    self._hi = message
            case Pong():
                self._pong(seq, message, at_ns)
            case State(armed):
                self._said_armed(armed, by_us=seq in self._armings)
            case Ack():
                self._commands.acknowledged(seq)
            case Nak(reason):
                self._refused(seq, reason, at_ns)
            case Done(command, opened_us):
                self._ended(Receipt(command, ReceiptKind.FIRED, self._clock.host_ns(opened_us, at_ns)))
            case Drop(command, reason, at_us):
                self._ended(Receipt(command, ReceiptKind.REFUSED, self._clock.host_ns(at_us, at_ns), reason))
            case _:
                self._faults["unknown"] += 1  # a word for devices: the wire echoes

    def _pong(self, seq: int, pong: Pong, at_ns: int) -> None:
        if self._hi is not None and pong.session != self._session:
            self._restarted()
            return
        self._clock.answered(seq, pong.clock_us, at_ns)
        if not pong.armed:
            self._said_armed(False, by_us=False)

    def _said_armed(self, armed: bool, *, by_us: bool) -> None:
        """The device's word on arming; an `armed` that we did not just ask for is older than our last disarming."""
        if not armed:
            self._armed = False
            self._unconfirmed = 0
        elif by_us:
            self._armed = True

    def _refused(self, seq: int, reason: str, at_ns: int) -> None:
        if reason == Fault.SESSION:
            self._restarted()
        match self._commands.refused(seq, reason):
            case None:
                self._faults[f"nak_{reason}"] += 1
            case command, trouble:
                if trouble:
                    self._faults[f"nak_{trouble}"] += 1
                    self._trouble = f"sorter: the device did not take command {command}: {trouble}"
                self._receipts.append(Receipt(command, ReceiptKind.REFUSED, at_ns, reason))

    def _ended(self, receipt: Receipt) -> None:
        if self._commands.ended(receipt.command):
            self._receipts.append(receipt)

    def _restarted(self) -> None:
        if not self._failed:
            self._faults["restarted"] += 1
            self._armed = False
            self._failed = "sorter: the device was switched on anew (its supply?); start the run again"

    def _check_open(self) -> None:
        if self._port is None:
            raise DeviceError("sorter: not open")
        if self._failed:
            raise DeviceError(self._failed)

    def _check(self) -> None:
        """Raise DeviceError if the device is gone, or for the trouble that it has had since."""
        self._check_open()
        assert self._port is not None
        if self._port.lost:
            self._faults["unplugged"] += 1
            self._armed = False
            self._failed = f"sorter: {self._port.lost}"
            raise DeviceError(self._failed)
        if (unheard := self._commands.unheard(time.perf_counter_ns())) is not None:
            self._trouble = self._trouble or f"sorter: the device does not say what became of command {unheard}"
        if self._trouble:
            trouble, self._trouble = self._trouble, ""
            raise DeviceError(trouble)
        if time.perf_counter_ns() - self._heard_ns > SILENCE_NS:
            self._wait(lambda: False, 0.02)  # when it was this process that slept, its words wait at the port
            silent_ns = time.perf_counter_ns() - self._heard_ns
            if silent_ns > SILENCE_NS:
                self._faults["silent"] += 0 if self._silent else 1
                self._silent = True
                raise DeviceError(f"sorter: the device has been silent for {silent_ns / NS_PER_S:.1f} s")

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Listen until `done` (True), or for so long, or until the port is lost (False)."""
        end = time.monotonic() + timeout_s
        while self._port is not None:
            self._listen()
            if done():
                return True
            if self._port.lost or time.monotonic() >= end:
                break
            self._port.wait(0.005)
        return False

    def _say(self, message: Message) -> int:
        """Send `message`; returns its number."""
        self._seq = self._seq % 0xFFFF + 1
        self._write(encode(self._seq, message))
        return self._seq

    def _write(self, line: bytes) -> None:
        if self._port is None:
            raise DeviceError("sorter: not open")
        try:
            self._port.write(line)
        except DeviceError as error:
            if not self._failed:
                self._faults["unplugged"] += 1
            self._failed = self._failed or str(error)
            raise
