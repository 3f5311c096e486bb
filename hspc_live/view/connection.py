"""Attached to a run, however often it goes and comes: asks what run it is, subscribes, notices its end. No Qt.

Nothing here waits: `poll` is called from the screen's timer and does what can be done at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from hspc_live.core.errors import WireError
from hspc_live.view.about import About, ChamberAbout, about
from hspc_live.wire.address import listens, running
from hspc_live.wire.chamber_telemetry import ChamberShown, unpack_chamber
from hspc_live.wire.codec import Decoder, encode
from hspc_live.wire.links import Link, open_dealer, open_sub
from hspc_live.wire.messages import Answer, AskRun
from hspc_live.wire.telemetry import Shown, unpack

LOOK_S = 0.5  # how often it is looked whether the run is still there, or another has come
ANSWER_S = 3.0
SILENT_S = 5.0  # over TCP nothing but silence says that a run has gone


class Bond(StrEnum):
    """How the connection stands."""

    SEARCHING = "searching"
    ASKING = "asking"
    ATTACHED = "attached"
    FINISHED = "finished"  # no run: the results of one, read from their file


class Connection:
    """To the run at `address`, or to the only one that `find` finds.

    When it has gone: to the same address again, or with `follow` to the only one that is there then.
    """

    def __init__(
        self, address: str | None = None, *, follow: bool = True, find: Callable[[], list[str]] = running
    ) -> None:
        self._address = address
        self._find = find
        self._follow = follow
        self._asked: Link | None = None
        self._asked_at = 0.0
        self._candidate = ""
        self._shown: Link | None = None
        self._looked = 0.0
        self._heard = 0.0
        self._answers = Decoder[Answer](Answer)
        self.about: About | ChamberAbout | None = None  # of the run attached to now, or the last one
        self.attached = 0  # how many times
        self.words = "looking for a run"

    @property
    def state(self) -> Bond:
        """How the connection stands."""
        if self._shown is not None:
            return Bond.ATTACHED
        return Bond.ASKING if self._asked is not None else Bond.SEARCHING

    @property
    def silent_s(self) -> float:
        """How long nothing has been heard while attached; 0 otherwise."""
        return time.monotonic() - self._heard if self._shown is not None else 0.0

    def poll(self) -> Shown | ChamberShown | None:
        """The newest message if one has come; on the way attach, notice the run's end, attach again."""
        now = time.monotonic()
        if self._shown is not None:
            if (shown := self._take(self._shown)) is not None:
                self._heard = now
                return shown
            if now - self._looked >= LOOK_S:
                self._looked = now
                if not self._there():
                    self._lost()
        elif self._asked is not None:
            self._await_answer(self._asked, now)
        elif now - self._looked >= LOOK_S:
            self._looked = now
            self._search(now)
        return None

    def close(self) -> None:
        """Let go of the links."""
        for link in (self._asked, self._shown):
            if link is not None:
                link.close()
        self._asked = self._shown = None

    def _take(self, link: Link) -> Shown | ChamberShown | None:
        if (got := link.try_recv()) is None:
            return None
        try:
            part = got[1][0]
            return unpack_chamber(part) if isinstance(self.about, ChamberAbout) else unpack(part)
        except WireError as error:
            self.words = str(error)
            return None

    def _there(self) -> bool:
        """Whether the run still takes wishes."""
        assert self.about is not None
        if self.about.control.startswith("ipc://"):
            return listens(Path(self.about.control.removeprefix("ipc://")))
        return self.silent_s < SILENT_S

    def _lost(self) -> None:
        assert self._shown is not None
        self._shown.close()
        self._shown = None
        self.words = "the run has gone; looking for it"

    def _search(self, now: float) -> None:
        """Ask the run that was named if it is there, else the only one under way."""
        address = self._address
        there = address is not None and (
            not address.startswith("ipc://") or listens(Path(address.removeprefix("ipc://")))
        )
        if not there:
            if address is not None and not (self._follow and self.attached):
                self.words = f"nobody answers at {address}" if not self.attached else "the run has ended"
                return
            found = self._find()
            if len(found) != 1:
                self.words = "no run is under way" if not found else "several runs are under way: name one (--connect)"
                return
            address = found[0]
        assert address is not None
        self._candidate = address
        link = open_dealer(address, f"view-{os.getpid()}-{time.monotonic_ns()}".encode())
        if link.try_send(encode(AskRun())):
            self._asked, self._asked_at = link, now
        else:
            link.close()

    def _await_answer(self, link: Link, now: float) -> None:
        if (got := link.try_recv()) is None:
            if now - self._asked_at > ANSWER_S:
                self._forget(link, f"nobody answers at {self._candidate}")
            return
        try:
            answer = self._answers.decode(got[1]).message
            found = about(answer.detail, self._candidate) if answer.done else None
        except (WireError, KeyError, ValueError) as error:
            self._forget(link, f"{self._candidate}: {error}")
            return
        self._forget(link, answer.text)
        if found is not None:
            self.about = found
            self._address = found.control
            self._shown = open_sub(found.show)
            self._heard = now
            self.attached += 1
            self.words = f"attached to {found.title}"

    def _forget(self, link: Link, words: str) -> None:
        link.close()
        self._asked = None
        self.words = words
