"""What a sorter with a process of its own and its host say to each other over ZeroMQ.

Times are nanoseconds on the device's own clock unless the name says host. `docs/serial-protocol.md` describes this
wire, too.
"""

from __future__ import annotations

from msgspec import Struct

from hspc_live.core.values import ReceiptKind

DEVICE = b"sorter"
"""The name under which the device connects to its host."""


class Begin(Struct, frozen=True, tag="begin"):
    """host → device: begin anew. Come to rest, forget every command, and carry `session` (not 0) from now on.

    Said again in the same session it means nothing.
    """

    session: int


class Ping(Struct, frozen=True, tag="ping"):
    """host → device: alive; stamp this with your clock. `sent_ns` is host time and comes back untouched."""

    sent_ns: int


class ArmIt(Struct, frozen=True, tag="arm"):
    """host → device: accept commands."""


class DisarmIt(Struct, frozen=True, tag="disarm"):
    """host → device: empty the queue, refuse what comes."""


class Fire(Struct, frozen=True, tag="fire"):
    """host → device: one command."""

    command: int
    outlet: str
    opens_ns: int
    closes_ns: int
    deadline_ns: int


class SwitchOff(Struct, frozen=True, tag="off"):
    """host → device: come to rest and end. Only a run's own simulated sorter is told so."""


class Pong(Struct, frozen=True, tag="pong"):
    """device → host: the clock's reading between receiving a ping and answering it."""

    session: int
    sent_ns: int
    device_ns: int


class State(Struct, frozen=True, tag="state"):
    """device → host, unasked and often: still there. `session` is 0 until a host has begun one."""

    session: int
    armed: bool


class Answered(Struct, frozen=True, tag="answered"):
    """device → host: what became of one command."""

    command: int
    kind: ReceiptKind
    at_ns: int
    reason: str


ToDevice = Begin | Ping | ArmIt | DisarmIt | Fire | SwitchOff
ToHost = Pong | State | Answered
