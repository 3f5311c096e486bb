"""The line protocol between the host and a sorter on a serial port: bytes ↔ messages, pure.

One message is one line: `SEQ VERB fields*CRC` and a line feed, printable ASCII, at most 80 bytes. Every message has one
spelling only, so what reads back is what was meant, or a `Bad` line. `docs/serial-protocol.md` is the description to
build a device by; `drivers/firmware/hspc_sorter/line.h` is the same in C++.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import Any, Literal

VERSION = 1
MAX_LINE = 80
"""Bytes of the longest line, its line feed included."""
U32 = 1 << 32
UNASKED = 0
"""The sequence number of what the device says by itself; the host counts its own from 1."""


@dataclass(frozen=True, slots=True)
class Hello:
    """host → device: begin anew. Come to rest, forget every command, and answer `Hi`. `session` is not 0."""

    version: int
    session: int


@dataclass(frozen=True, slots=True)
class Ping:
    """host → device: alive; what does your clock read?"""


@dataclass(frozen=True, slots=True)
class Arm:
    """host → device: accept commands. Answered by `State`."""


@dataclass(frozen=True, slots=True)
class Disarm:
    """host → device: come to rest, empty the queue, refuse what comes. Answered by `State`."""


@dataclass(frozen=True, slots=True)
class Fire:
    """host → device: open `outlet` at `opens_us` for `width_us`; take it until `deadline_us` only. Device clock."""

    command: int
    outlet: int
    opens_us: int
    width_us: int
    deadline_us: int


@dataclass(frozen=True, slots=True)
class Ask:
    """host → device: what became of this command?"""

    command: int


@dataclass(frozen=True, slots=True)
class Hi:
    """device → host: who it is and what it can do; it is disarmed now."""

    version: int
    session: int
    outlets: int
    capacity: int
    lead_us: int
    watchdog_us: int
    board: str


@dataclass(frozen=True, slots=True)
class Pong:
    """device → host: the clock when the ping's last byte was read. `session` is 0 since a restart."""

    session: int
    clock_us: int
    armed: bool
    queued: int


@dataclass(frozen=True, slots=True)
class Ack:
    """device → host: the command stands in the queue."""


@dataclass(frozen=True, slots=True)
class Nak:
    """device → host: no, and why: a `Refusal`, a `Fault`, or a word of the device's own."""

    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """device → host: the pulse has ended; it opened at `opened_us`."""

    command: int
    opened_us: int


@dataclass(frozen=True, slots=True)
class Drop:
    """device → host: an accepted command was not fired."""

    command: int
    reason: str
    at_us: int


@dataclass(frozen=True, slots=True)
class State:
    """device → host: armed or not, by whose doing (`armed`, `disarmed`, `watchdog`)."""

    armed: bool
    reason: str


ToDevice = Hello | Ping | Arm | Disarm | Fire | Ask
ToHost = Hi | Pong | Ack | Nak | Done | Drop | State
Message = ToDevice | ToHost


class Fault(StrEnum):
    """Why a line was not understood; the words stand in `Nak`."""

    GARBLED = "garbled"  # no line of this protocol, or its checksum is wrong: nothing in it is believed
    SYNTAX = "syntax"  # the checksum is right, the fields are not
    UNKNOWN = "unknown"  # no such verb
    SESSION = "session"  # no Hello since the device was switched on
    FORGOTTEN = "forgotten"  # asked for a command of which the device knows nothing any more


@dataclass(frozen=True, slots=True)
class Line:
    """One line that was understood."""

    seq: int
    message: Message


@dataclass(frozen=True, slots=True)
class Bad:
    """One line that was not. `seq` is `UNASKED` where not even that can be believed."""

    seq: int
    fault: Fault


Field = Literal["u32", "u8", "flag", "word"]
_WORD = re.compile(rb"[A-Za-z0-9._-]{1,16}")
_SEQ = re.compile(rb"[0-9A-F]{4}")
_LIMITS: dict[Field, int] = {"u32": U32 - 1, "u8": 255, "flag": 1}

Layout = dict[bytes, tuple[type[Any], tuple[Field, ...]]]
TO_DEVICE: Layout = {
    b"HELLO": (Hello, ("u8", "u32")),
    b"PING": (Ping, ()),
    b"ARM": (Arm, ()),
    b"DISARM": (Disarm, ()),
    b"FIRE": (Fire, ("u32", "u8", "u32", "u32", "u32")),
    b"ASK": (Ask, ("u32",)),
}
TO_HOST: Layout = {
    b"HI": (Hi, ("u8", "u32", "u8", "u8", "u32", "u32", "word")),
    b"PONG": (Pong, ("u32", "u32", "flag", "u8")),
    b"ACK": (Ack, ()),
    b"NAK": (Nak, ("word",)),
    b"DONE": (Done, ("u32", "u32")),
    b"DROP": (Drop, ("u32", "word", "u32")),
    b"STATE": (State, ("flag", "word")),
}
_VERBS = {kind: (verb, fields) for layout in (TO_DEVICE, TO_HOST) for verb, (kind, fields) in layout.items()}


def crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE (polynomial 0x1021, start 0xFFFF, not reflected): 0x29B1 for b"123456789"."""
    return binascii.crc_hqx(data, 0xFFFF)


def encode(seq: int, message: Message) -> bytes:
    """The line of `message`, line feed included. Raises ValueError for a field out of its range."""
    verb, fields = _VERBS[type(message)]
    words = [_spell(kind, value) for kind, value in zip(fields, astuple(message), strict=True)]
    body = b" ".join((b"%04X" % seq, verb, *words))
    line = b"%s*%04X\n" % (body, crc16(body))
    if not 0 <= seq <= 0xFFFF or len(line) > MAX_LINE:
        raise ValueError(f"{message} with number {seq} is no line of the protocol")
    return line


def decode(line: bytes, layout: Layout) -> Line | Bad:
    """One line, without its line feed, as the messages of `layout` are spelt."""
    body, star, crc = line.rpartition(b"*")
    if not star or len(line) >= MAX_LINE or not _SEQ.fullmatch(crc) or int(crc, 16) != crc16(body):
        return Bad(UNASKED, Fault.GARBLED)
    number, *words = body.split(b" ")
    if not _SEQ.fullmatch(number) or not words:
        return Bad(UNASKED, Fault.GARBLED)
    seq = int(number, 16)
    if words[0] not in layout:
        return Bad(seq, Fault.UNKNOWN)
    kind, fields = layout[words[0]]
    if len(words) != 1 + len(fields):
        return Bad(seq, Fault.SYNTAX)
    values = [_read(field, word) for field, word in zip(fields, words[1:], strict=True)]
    if None in values:
        return Bad(seq, Fault.SYNTAX)
    return Line(seq, kind(*values))


class LineReader:
    """Cuts a stream of bytes into lines; a line that grows too long is one garbled line, up to its line feed."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._held = b""

    def feed(self, data: bytes) -> list[Line | Bad]:
        """What has been completed by `data`. Empty lines are nothing: a sender may begin with a line feed."""
        *lines, rest = (self._held + data).split(b"\n")
        self._held = rest[:MAX_LINE]  # the excess of an endless line is let go; it is known to be too long
        return [decode(line, self._layout) for line in lines if line]


def unwrap(reading_us: int, near_us: int) -> int:
    """The µs, counted on without end, that a 32-bit reading stands for, within 35 minutes of `near_us`."""
    half = U32 // 2
    return near_us + (reading_us - near_us + half) % U32 - half


def _spell(field: Field, value: object) -> bytes:
    if isinstance(value, str):
        word = value.encode()
        if field != "word" or not _WORD.fullmatch(word):
            raise ValueError(f"{value!r} is no word of the protocol: 1 to 16 letters, digits, '.', '_', '-'")
        return word
    if not isinstance(value, int) or field == "word" or not 0 <= value <= _LIMITS[field]:
        raise ValueError(f"{value!r} is no {field} of the protocol")
    return b"%d" % value


def _read(field: Field, word: bytes) -> int | str | None:
    """The value, or None for what no sender of this protocol writes (a sign, leading zeros, a number too large)."""
    if field == "word":
        return word.decode() if _WORD.fullmatch(word) else None
    if not word.isdigit() or len(word) > 10 or (word[0] == 0x30 and len(word) > 1):
        return None
    value = int(word)
    if value > _LIMITS[field]:
        return None
    return bool(value) if field == "flag" else value
