"""What the door of a run and a segment worker on another computer say to each other, over one guarded socket.

There is no ring between two computers, so pixels ride along: the arrays behind a `Work` are its new snapshots, then its
frames; those behind a `Done` are as in `messages.Results`. The worker is told what segmentation needs and no more.
"""

from __future__ import annotations

from msgspec import Struct

from hspc_live.wire.messages import ResultHead, SnapshotHead


class Hello(Struct, frozen=True, tag="hello"):
    """worker → door: here to help. `name` is what the run shall call it."""

    name: str


class Welcome(Struct, frozen=True, tag="welcome"):
    """door → worker: `segment` is the settings' section as JSON text; the rest is about camera and crops."""

    run: str
    segment: str
    um_per_px: float
    modality: str
    crop_px: int
    crop_um_per_px: float
    window_px: int


class Offer(Struct, frozen=True, tag="offer"):
    """worker → door: ready for `credit` pieces of work; each `Done` offers one more."""

    credit: int


class Frame(Struct, frozen=True, array_like=True):
    """A frame to segment and the snapshot that belongs to it."""

    index: int
    captured_ns: int
    background: int


class Work(Struct, frozen=True, tag="work"):
    """door → worker: segment these."""

    number: int
    frames: list[Frame]
    snapshots: list[SnapshotHead]


class Done(Struct, frozen=True, tag="done"):
    """worker → door: the results of every frame of that piece of work."""

    number: int
    frames: list[ResultHead]


class Alive(Struct, frozen=True, tag="alive"):
    """Both ways, often: still there."""


class Unknown(Struct, frozen=True, tag="unknown"):
    """door → worker: who are you? Say Hello (the connection was broken, or the door is a new one)."""


class Bye(Struct, frozen=True, tag="bye"):
    """door → worker: it is over, and why. worker → door: gone."""

    why: str


def printable(text: str, most: int = 80) -> str:
    """The first `most` characters of what somebody far away says, without those that command a terminal."""
    return "".join(c for c in text[:most] if c.isprintable())


ToDoor = Hello | Offer | Done | Alive | Bye
FromDoor = Welcome | Work | Alive | Unknown | Bye
