"""A device at the end of a serial line, pure: bytes and its clock in, bytes and pulses out.

The rules are `SorterDevice`'s; this module gives them the line protocol, a 32-bit clock and a bounded memory. The
firmware in `drivers/firmware` does the same in C++, byte for byte, which a test holds it to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, assert_never

from hspc_drivers.serial_protocol import (
    TO_DEVICE,
    U32,
    UNASKED,
    VERSION,
    Ack,
    Arm,
    Ask,
    Bad,
    Disarm,
    Done,
    Drop,
    Fault,
    Fire,
    Hello,
    Hi,
    Line,
    LineReader,
    Nak,
    Ping,
    Pong,
    State,
    ToDevice,
    ToHost,
    encode,
    unwrap,
)
from hspc_drivers.sorter_device import Answer, ArmedChange, DeviceCommand, FiredPulse, Output, SorterDevice
from hspc_live.core.values import ReceiptKind
from hspc_live.settings.devices import SimulatedSorter

MEMORY = 24
"""Commands whose fate is remembered; more than ever stand in the queue."""
MOST_QUEUED = 16


class Brain(Protocol):
    """What thinks for a device. `now_us` is its clock, counted on without end; the wire shows 32 bits of it."""

    def feed(self, data: bytes, now_us: int) -> bytes:
        """Bytes have come from the host; what is said to it."""
        ...

    def advance(self, now_us: int) -> bytes:
        """Do what is due; what is said to the host."""
        ...

    def due_us(self, now_us: int) -> int | None:
        """When `advance` has something to do next (`now_us` if it is overdue); None while disarmed."""
        ...

    def outputs(self) -> list[FiredPulse | ArmedChange]:
        """What the actuator and the arming switch did since the last call. Device time in ns."""
        ...


@dataclass(slots=True)
class _Fate:
    """What is remembered of one command: the line that brought it, the answer to that, and how it ended."""

    seq: int
    refused: str
    end: Done | Drop | None = None


class SerialDevice:
    """A `Brain`. `settings` give lead, queue (at most `MOST_QUEUED`) and watchdog; outlets are numbered from 1."""

    def __init__(self, settings: SimulatedSorter, outlets: int = 2, board: str = "emulator") -> None:
        self._settings = settings.model_copy(update={"max_queue": min(settings.max_queue, MOST_QUEUED)})
        self._outlets = outlets
        self._board = board
        self._device = SorterDevice(self._settings, {str(number) for number in range(1, outlets + 1)})
        self._reader = LineReader(TO_DEVICE)
        self._session = 0
        self._fates: dict[int, _Fate] = {}
        self._done: list[FiredPulse | ArmedChange] = []

    def feed(self, data: bytes, now_us: int) -> bytes:
        """Bytes have come from the host; what is said to it."""
        said = b""
        for line in self._reader.feed(data):
            match line:
                case Bad(seq, fault):
                    said += encode(seq, Nak(fault))
                case Line(seq, message):
                    # any line that was understood proves the host alive, before anything that is due is done
                    said += self._told(self._device.heartbeat(now_us * 1000))
                    said += self._serve(seq, message, now_us)  # type: ignore[arg-type]  # the layout is the device's
        return said

    def advance(self, now_us: int) -> bytes:
        """Do what is due; what is said to the host."""
        return self._told(self._device.advance(now_us * 1000))

    def due_us(self, now_us: int) -> int | None:
        """When `advance` has something to do next (`now_us` if it is overdue); None while disarmed."""
        due = self._device.next_due_ns()
        return None if due is None else max(now_us, due // 1000)

    def outputs(self) -> list[FiredPulse | ArmedChange]:
        """What the actuator and the arming switch did since the last call."""
        done, self._done = self._done, []
        return done

    def _serve(self, seq: int, message: ToDevice, now_us: int) -> bytes:
        device, now_ns = self._device, now_us * 1000
        match message:
            case Hello(_, session):
                self._told(device.begin(now_ns))  # unsaid: what an earlier host had ordered is nothing to this one
                self._session = session
                self._fates.clear()
                return encode(seq, self._hello())
            case Ping():
                return encode(seq, Pong(self._session, now_us % U32, device.armed, device.queued))
            case Disarm():
                return self._told(device.disarm(now_ns), quiet=True) + encode(seq, State(False, "disarmed"))
            case _ if self._session == 0:
                return encode(seq, Nak(Fault.SESSION))
            case Arm():
                return self._told(device.arm(now_ns), quiet=True) + encode(seq, State(True, "armed"))
            case Fire():
                return encode(seq, self._fire(seq, message, now_us))
            case Ask(command):
                return encode(seq, self._fate(command))
            case _:
                assert_never(message)

    def _hello(self) -> Hi:
        settings = self._settings
        lead_us = round(max(settings.min_lead_ms, settings.latency_ms) * 1000)
        watchdog_us = round(settings.watchdog_ms * 1000)
        return Hi(VERSION, self._session, self._outlets, settings.max_queue, lead_us, watchdog_us, self._board)

    def _fire(self, seq: int, fire: Fire, now_us: int) -> Ack | Nak:
        """Queue it or say why not; a line that is only repeated gets the answer that may have been lost."""
        fate = self._fates.get(fire.command)
        if fate is None or fate.seq != seq:
            opens_us = unwrap(fire.opens_us, now_us)
            command = DeviceCommand(
                fire.command,
                str(fire.outlet),
                opens_us * 1000,
                (opens_us + fire.width_us) * 1000,
                unwrap(fire.deadline_us, now_us) * 1000,
            )
            answers = self._device.accept(command, now_us * 1000)
            refused = "".join(answer.reason for answer in answers if isinstance(answer, Answer))
            if refused == "duplicate":
                return Nak(refused)
            fate = self._remember(fire.command, _Fate(seq, refused))
        return Nak(fate.refused) if fate.refused else Ack()

    def _remember(self, command: int, fate: _Fate) -> _Fate:
        if len(self._fates) >= MEMORY:
            del self._fates[next(number for number, old in self._fates.items() if old.refused or old.end is not None)]
        self._fates[command] = fate
        return fate

    def _fate(self, command: int) -> Ack | Nak | Done | Drop:
        fate = self._fates.get(command)
        if fate is None:
            return Nak(Fault.FORGOTTEN)
        return Nak(fate.refused) if fate.refused else fate.end or Ack()

    def _told(self, outputs: list[Output], *, quiet: bool = False) -> bytes:
        """Book what happened, and say it; `quiet` about arming where that is answered by itself."""
        said: list[ToHost] = []
        for output in outputs:
            match output:
                case FiredPulse():
                    self._done.append(output)
                case ArmedChange(_, armed, reason):
                    self._done.append(output)
                    if not quiet:
                        said.append(State(armed, reason or "armed"))
                case Answer(command, kind, at_ns, reason):
                    at_us = at_ns // 1000 % U32
                    end = Done(command, at_us) if kind is ReceiptKind.FIRED else Drop(command, reason, at_us)
                    self._fates[command].end = end
                    said.append(end)
                case _:
                    assert_never(output)
        return b"".join(encode(UNASKED, message) for message in said)
