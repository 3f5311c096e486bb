"""sort's line to the recorder. Live it never waits: what the recorder cannot take is counted, not queued for ever."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

from hspc_live.core.events import Scored
from hspc_live.core.values import CellRecord, FrameResult, Receipt, SortCommand
from hspc_live.processes.child import Child
from hspc_live.processes.results import encode_results
from hspc_live.stages.ledger import Ledger
from hspc_live.wire.codec import encode
from hspc_live.wire.links import Link, open_dealer
from hspc_live.wire.messages import Books, CloseRecording, Note, RunningLedger, Scores

END_PATIENCE_S = 30.0
LEDGER_S = 0.5
MOST_NOTES = 1000


class Scribe:
    """Sends rows, scores, cells, commands, receipts and notes; does nothing where there is no recording."""

    def __init__(self, child: Child, address: str | None, *, live: bool) -> None:
        self._child = child
        self._run = child.plan.run_id
        self._link: Link | None = open_dealer(address, b"sort") if address is not None else None
        self._live = live
        self._cells: list[CellRecord] = []
        self._commands: list[SortCommand] = []
        self._receipts: list[Receipt] = []
        self._notes: list[Note] = []
        self._ledger_sent = 0.0
        self.unrecorded = 0

    async def rows(self, result: FrameResult) -> None:
        """One frame's objects and views."""
        if self._link is not None:
            await self._send(encode_results([result], self._run))

    async def scores(self, scored: Scored) -> None:
        """The scores of some views."""
        if self._link is not None:
            await self._send(encode(Scores(list(scored.keys)), [scored.scores], run=self._run))

    def cell(self, record: CellRecord) -> None:
        """A cell that came to its end; goes out with the next `flush`."""
        self._cells.append(record)

    def command(self, command: SortCommand) -> None:
        """A command that was sent."""
        self._commands.append(command)

    def receipts(self, receipts: Sequence[Receipt]) -> None:
        """What the sorter answered."""
        self._receipts.extend(receipts)

    def note(self, kind: str, detail: str, at_ns: int) -> None:
        """Something a person did or must know."""
        self._notes.append(Note(kind, detail, at_ns))

    async def flush(self, ledger: Ledger | None = None) -> None:
        """Send what has gathered, and now and then the ledgers as they stand."""
        if self._link is None:
            self._cells, self._commands, self._receipts, self._notes = [], [], [], []
            return
        if self._cells or self._commands or self._receipts:
            books = Books(self._cells, self._commands, self._receipts)
            self._cells, self._commands, self._receipts = [], [], []
            await self._send(encode(books, run=self._run))
        await self._send_notes()
        now = time.monotonic()
        if ledger is not None and now - self._ledger_sent >= LEDGER_S:
            self._ledger_sent = now
            await self._send(encode(RunningLedger(json.dumps(ledger.to_json())), run=self._run))

    async def end(self, ledgers: dict[str, Any], summary: dict[str, Any]) -> None:
        """The last message; waited for even live, because the ledgers must be in the recording."""
        await self.flush()
        if self._link is None:
            return
        message = CloseRecording(json.dumps(ledgers), json.dumps(summary))
        deadline = asyncio.get_running_loop().time() + END_PATIENCE_S
        while self._notes or not self._link.try_send(encode(message, run=self._run)):
            if self._child.quit or self._child.recorder_gone or asyncio.get_running_loop().time() > deadline:
                self.unrecorded += 1 + len(self._notes)
                return
            await asyncio.sleep(0.005)
            self._child.turn()
            await self._send_notes()

    def recorder_gone(self) -> None:
        """Nobody writes any more."""
        self.close()
        self._link = None

    def close(self) -> None:
        """Let go of the link."""
        if self._link is not None:
            self._link.close()

    async def _send_notes(self) -> None:
        """Notes say what a person did: they are few, and wait where the recorder is behind for a while."""
        assert self._link is not None
        while self._notes:
            parts = encode(self._notes[0], run=self._run)
            if self._live and not self._link.try_send(parts):
                if len(self._notes) > MOST_NOTES:
                    self.unrecorded += len(self._notes) - MOST_NOTES
                    del self._notes[:-MOST_NOTES]
                return
            if not self._live:
                await self._send(parts)
            del self._notes[0]

    async def _send(self, parts: list[Any]) -> None:
        assert self._link is not None
        while not self._link.try_send(parts):
            if self._live or self._child.quit or self._child.recorder_gone:
                self.unrecorded += 1
                return
            await asyncio.sleep(0.001)
            self._child.turn()
