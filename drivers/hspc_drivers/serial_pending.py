"""The commands a serial sorter has been sent: acknowledged or not, ended or not, and what to do about it. Pure.

A line that is not acknowledged goes out again, unchanged, before the command's deadline and never after it: the device
knows it by its number and cannot fire it twice. A report that is overdue is asked for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hspc_drivers.serial_protocol import Ask, Fault
from hspc_drivers.sorter_device import Refusal
from hspc_live.core.clock import NS_PER_MS
from hspc_live.core.values import SortCommand

AGAIN_NS = 30 * NS_PER_MS
UNHEARD_NS = 500 * NS_PER_MS
"""An answer may still come for so long after the line was first sent, although nothing is sent any more."""
OVERDUE_NS = 60 * NS_PER_MS
MOST_QUESTIONS = 4
_REFUSALS = frozenset(Refusal)


@dataclass(slots=True)
class _Sent:
    """One command on its way. `fresh`: its number has not been used before, so a `duplicate` is no plain refusal."""

    seq: int
    line: bytes
    fresh: bool
    deadline_ns: int
    closes_ns: int
    first_ns: int
    last_ns: int
    acknowledged: bool = False
    may_repeat: bool = True
    forgotten: bool = False
    given_up: bool = False
    asked: int = 0
    asked_ns: int = 0


class Commands:
    """What was sent and has no receipt yet. Counts what goes wrong in `faults`. Times are the host's."""

    def __init__(self, faults: Counter[str]) -> None:
        self._faults = faults
        self._sent: dict[int, _Sent] = {}
        self._by_seq: dict[int, int] = {}
        self._highest = -1

    def sent(self, command: SortCommand, seq: int, line: bytes, now_ns: int) -> None:
        """`line` with number `seq` goes out now."""
        closes_ns = command.fire_at_ns + command.width_ns // 2
        fresh = command.command > self._highest
        # a number used twice is the device's to refuse: the first one's fate stays the one that is waited for
        self._sent.setdefault(command.command, _Sent(seq, line, fresh, command.deadline_ns, closes_ns, now_ns, now_ns))
        self._highest = max(self._highest, command.command)
        self._number(seq, command.command)

    def asked(self, seq: int, command: int) -> None:
        """The question about `command` went out as number `seq`."""
        self._number(seq, command)

    def acknowledged(self, seq: int) -> None:
        """The device has it (or, asked, still has it)."""
        if (sent := self._sent.get(self._by_seq.get(seq, -1))) is not None:
            sent.acknowledged = True

    def refused(self, seq: int, reason: str) -> tuple[int, str] | None:
        """The command that was not taken, and what is wrong with the device, if that is no ordinary refusal.

        None if the answer was to something else, or leaves open what became of the command (then `unheard` says so).
        """
        command = self._by_seq.get(seq)
        if command is None or (sent := self._sent.get(command)) is None:
            return None
        repeats_another = reason == Refusal.DUPLICATE and seq != sent.seq
        if reason == Fault.FORGOTTEN or (reason == Refusal.DUPLICATE and sent.fresh and not repeats_another):
            sent.forgotten = True  # it was taken or not, fired or not: the device does not know any more
            return None
        if not repeats_another:
            del self._sent[command]
        return command, "" if reason in _REFUSALS else reason

    def ended(self, command: int) -> bool:
        """The device reports the end of `command`; whether that is news."""
        return self._sent.pop(command, None) is not None

    def again(self, now_ns: int) -> list[bytes]:
        """Lines to send again now."""
        lines = []
        for sent in self._sent.values():
            waits = not (sent.acknowledged or sent.forgotten) and now_ns - sent.last_ns >= AGAIN_NS
            if waits and sent.may_repeat and now_ns < sent.deadline_ns:
                sent.last_ns = now_ns
                self._faults["sent_again"] += 1
                lines.append(sent.line)
        return lines

    def questions(self, now_ns: int) -> list[Ask]:
        """Reports to ask for now."""
        asks = []
        for command, sent in self._sent.items():
            since_ns = max(sent.closes_ns, sent.asked_ns)
            if sent.acknowledged and sent.asked < MOST_QUESTIONS and now_ns - since_ns >= OVERDUE_NS:
                sent.asked, sent.asked_ns = sent.asked + 1, now_ns
                self._faults["asked"] += 1
                asks.append(Ask(command))
        return asks

    def unheard(self, now_ns: int) -> int | None:
        """One command of which nobody can say what became of it, each named once; None if there is none (more).

        It stays without a receipt, unless the device should still report its end.
        """
        for command, sent in self._sent.items():
            silent = not sent.acknowledged and now_ns > max(sent.deadline_ns, sent.first_ns + UNHEARD_NS)
            lost = sent.acknowledged and sent.asked == MOST_QUESTIONS and now_ns - sent.asked_ns > OVERDUE_NS
            if (silent or lost or sent.forgotten) and not sent.given_up:
                sent.given_up, sent.may_repeat = True, False
                self._faults["unacknowledged" if silent else "report_lost"] += 1
                return command
        return None

    def give_up_sending(self) -> None:
        """Send nothing again of what has been sent: the host has disarmed."""
        for sent in self._sent.values():
            sent.may_repeat = False

    def _number(self, seq: int, command: int) -> None:
        self._by_seq.pop(seq, None)
        self._by_seq[seq] = command
        while len(self._by_seq) > 1024:
            del self._by_seq[next(iter(self._by_seq))]
