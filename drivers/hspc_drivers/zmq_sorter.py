"""The host's half of a sorter that is a process of its own: it is spoken to over a link.

The host waits at an address and the device calls: nobody beyond this user or this machine can (`wire.address`), unless
keys and a list of them guard the address. The host knows the device's clock only from pings
(`sorter_clock.ClockEstimate`), sends every command in device time, and treats a device that says nothing for two
seconds, or that has been switched on anew, as failed.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence

from msgspec import Struct

from hspc_drivers.sorter_clock import ClockEstimate
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
    ToHost,
)
from hspc_live.core.clock import NS_PER_S
from hspc_live.core.errors import DeviceError, WireError
from hspc_live.core.values import Receipt, SortCommand
from hspc_live.wire.codec import Decoder, encode
from hspc_live.wire.keys import Guard
from hspc_live.wire.links import Link, open_router

SILENCE_NS = 2 * NS_PER_S
ARM_NS = NS_PER_S // 2
PINGS = 24
PONG_WAIT_S = 0.002
MOST_BYTES = 4096  # of one message of a device's
BURST = 256  # messages taken at once: a flood holds nobody up


class ZmqSorter:
    """A `core.protocols.Sorter` whose device calls at `address` within `start_s`. Use it from one thread."""

    def __init__(self, address: str, start_s: float = 30.0, guard: Guard | None = None) -> None:
        self._address = address
        self._guard = guard
        self._start_s = start_s
        self._decoder = Decoder[ToHost](ToHost)
        self._link: Link | None = None
        self._estimate = ClockEstimate()
        self._receipts: list[Receipt] = []
        self._session = 0
        self._begun = False
        self._heard_ns = 0
        self._silent = False
        self._armed = False
        self._failed = ""
        self._pongs = 0
        self._pinged: deque[int] = deque(maxlen=64)
        self._faults: Counter[str] = Counter()

    @property
    def armed(self) -> bool:
        """Whether the device last said that it accepts commands."""
        return self._armed

    @property
    def clock_bound_ns(self) -> int:
        """How far the estimate of the device's clock can be off now."""
        return self._estimate.offset_ns(time.perf_counter_ns())[1]

    @property
    def faults(self) -> Mapping[str, int]:
        """What went wrong between host and device so far, counted by name."""
        return self._faults

    def open(self) -> None:
        """Wait for the device and estimate its clock. Raises DeviceError."""
        try:
            self._link = open_router(self._address, self._guard, max_incoming_bytes=MOST_BYTES, max_incoming_parts=1)
        except WireError as error:
            raise DeviceError(f"sorter: {error} (sorter.address)") from error
        try:
            self._shake_hands(self._link)
        except DeviceError:
            self.close()
            raise

    def arm(self) -> None:
        """Let commands through. Raises DeviceError unless the device says within half a second that it does."""
        self._armed = False  # the device's word from before says nothing about now
        self._tell(ArmIt())
        deadline_ns = time.perf_counter_ns() + ARM_NS
        while not self._armed:
            if self._link is None or time.perf_counter_ns() > deadline_ns:
                self.disarm()  # should the order arrive after all, it must not find us gone
                raise DeviceError(f"sorter: the device did not confirm arming within {ARM_NS / NS_PER_S:g} s")
            self._link.wait(0.005)
            self._listen()

    def disarm(self) -> None:
        """Empty the queue and refuse what comes. A device that cannot be reached is left to its watchdog."""
        if self._link is None:
            return
        self._armed = False  # so that arming anew waits for a word of its own
        try:
            self._tell(DisarmIt())
        except DeviceError:
            self._unreachable()

    def send(self, command: SortCommand) -> None:
        """Hand one command over, in device time. Raises DeviceError when the device cannot be reached."""
        middle_ns = self._estimate.device_ns(command.fire_at_ns)
        opens_ns = middle_ns - command.width_ns // 2
        deadline_ns = middle_ns - (command.fire_at_ns - command.deadline_ns)
        self._tell(Fire(command.command, command.outlet, opens_ns, opens_ns + command.width_ns, deadline_ns))

    def poll(self) -> Sequence[Receipt]:
        """Receipts since the last call, in host time. Raises DeviceError once a failed device has no more to say."""
        self._listen()
        receipts, self._receipts = self._receipts, []
        if not receipts:
            self._check()
        return receipts

    def heartbeat(self) -> None:
        """Tell the device that the host lives; its answer also refreshes the clock estimate, so drift is followed."""
        pongs = self._pongs
        self._tell(Ping(now_ns := time.perf_counter_ns()))
        self._pinged.append(now_ns)
        # A reply left lying until the next poll would look like a long trip, so a moment is spent on waiting for it.
        deadline_ns = time.perf_counter_ns() + round(PONG_WAIT_S * NS_PER_S)
        while self._link is not None and self._pongs == pongs and time.perf_counter_ns() < deadline_ns:
            self._link.wait(0.001)
            self._listen()

    def close(self) -> None:
        """Disarm and let go; the device waits for its next host."""
        if self._link is not None:
            self.disarm()
            self._link.close()
            self._link = None

    def _unreachable(self) -> None:
        """No beat any more: the device's watchdog then brings it to rest, whatever becomes of the link."""
        self._fail("the device could not be told to disarm: left to its watchdog")

    def _fail(self, why: str) -> None:
        self._armed = False
        self._failed = self._failed or f"sorter: {why}"

    def _missing(self) -> str | None:
        """Why the device cannot be there any more, or None."""
        return None

    def _shake_hands(self, link: Link) -> None:
        """Wait for the device's first word, begin a session, then ping it until its clock is known."""
        self._session = 1 + secrets.randbelow(2**32 - 1)
        deadline_ns = time.perf_counter_ns() + round(self._start_s * NS_PER_S)
        asked = False
        while not self._begun:
            if time.perf_counter_ns() > deadline_ns:
                nobody = f"no device has called at {link.address} within {self._start_s:g} s"
                raise DeviceError(f"sorter: {nobody}: is its process running?")
            if (missing := self._missing()) is not None:
                raise DeviceError(f"sorter: {missing} while starting")
            link.wait(0.05)
            self._listen()
            if self._heard_ns and not asked:
                asked = link.try_send(encode(Begin(self._session)), DEVICE)
        for _ in range(PINGS):
            self.heartbeat()
        while self._pongs == 0:
            link.wait(0.05)
            self._listen()
            self._check()

    def _listen(self) -> None:
        """Take in all that has arrived. What was said before this session began is nothing to us."""
        if self._link is None:
            return
        for _ in range(BURST):
            if (got := self._link.try_recv()) is None:
                break
            if got[0] != DEVICE:
                self._faults["stranger"] += 1
                continue
            now_ns = time.perf_counter_ns()
            self._heard_ns = now_ns
            self._silent = False
            try:
                message = self._decoder.decode(got[1]).message
            except WireError as error:
                self._faults["nonsense"] += 1
                raise DeviceError(f"sorter: talks nonsense ({error})") from error
            match message:
                case Pong(session, sent_ns, device_ns) if self._ours(session):
                    if sent_ns not in self._pinged:  # each ping is answered once, whatever is repeated on the way
                        self._faults["repeated"] += 1
                        continue
                    self._pinged.remove(sent_ns)
                    self._estimate.add(sent_ns, device_ns, now_ns)
                    self._pongs += 1
                case State(session, armed) if self._ours(session):
                    self._armed = armed
                case Answered(command, kind, at_ns, reason) if self._begun:
                    self._receipts.append(Receipt(command, kind, self._estimate.host_ns(at_ns, now_ns), reason))
                case _:
                    pass

    def _ours(self, session: int) -> bool:
        """Whether this was said in our session. A device that has left it knows nothing of what it was told."""
        if session == self._session:
            self._begun = True
        elif self._begun and not self._failed:
            self._faults["restarted"] += 1
            self._fail("the device was switched on anew; start the run again")
        return session == self._session

    def _check(self) -> None:
        """Raise DeviceError if the device is gone."""
        if self._link is None:
            raise DeviceError("sorter: not open")
        if (missing := self._missing()) is not None:
            raise DeviceError(f"sorter: {missing}")
        if self._failed:
            raise DeviceError(self._failed)
        silent_ns = time.perf_counter_ns() - self._heard_ns
        if silent_ns > SILENCE_NS:
            self._faults["silent"] += 0 if self._silent else 1
            self._silent = True
            raise DeviceError(f"sorter: the device has been silent for {silent_ns / NS_PER_S:.1f} s")

    def _tell(self, message: Struct) -> None:
        """Send without blocking; a device that is gone is an error here and now."""
        if self._link is None:
            raise DeviceError("sorter: not open")
        if self._failed:
            raise DeviceError(self._failed)
        if not self._link.try_send(encode(message), DEVICE):
            self._faults["unreachable"] += 1
            raise DeviceError("sorter: the device cannot be reached")
