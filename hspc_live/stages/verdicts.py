"""Two fingerprints of a run: what was decided about every cell, and what was done about it and when.

Canonical bytes of every closed cell, in the order in which the cells were first seen, into SHA-256. Cells close in
another order than they are seen, so records wait here until all earlier cells have closed; memory does not grow with
the run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from hspc_live.core.values import CellRecord


class VerdictHash:
    """Running digests over the records of one run; cells are numbered 0, 1, 2 … in the order of their first view."""

    def __init__(self) -> None:
        self._decisions = hashlib.sha256()
        self._outcomes = hashlib.sha256()
        self._waiting: dict[int, tuple[bytes, bytes]] = {}
        self._next = 0

    def add(self, record: CellRecord) -> None:
        """Take in one closed cell. Raises ValueError for a cell that was added before."""
        if record.cell < self._next or record.cell in self._waiting:
            raise ValueError(f"cell {record.cell} was added before")
        decision = decision_bytes(record)
        self._waiting[record.cell] = (decision, decision if record.command is None else outcome_bytes(record))
        while self._next in self._waiting:
            decision, outcome = self._waiting.pop(self._next)
            self._decisions.update(decision)
            self._outcomes.update(outcome)
            self._next += 1

    @property
    def decisions_sha256(self) -> str:
        """Fingerprint of the verdicts: no number that a clock or rounding could change goes in."""
        return _finish(self._decisions, (self._waiting[cell][0] for cell in sorted(self._waiting)))

    @property
    def outcomes_sha256(self) -> str:
        """Fingerprint of verdicts and of every command's arrival time: equal only where the clock is virtual."""
        return _finish(self._outcomes, (self._waiting[cell][1] for cell in sorted(self._waiting)))


def decision_bytes(record: CellRecord) -> bytes:
    """One cell's verdict in canonical bytes: first view, views, outcome, reason, outlet, predicted class.

    ASCII unit separators between the fields and a record separator at the end; the names are UTF-8.
    """
    predicted = "" if record.classification is None else record.classification.predicted
    views = " ".join(f"{frame}.{view}" for frame, view in record.views)
    fields = (str(record.first_frame), views, str(record.outcome), record.reason, record.outlet or "", predicted)
    return "\x1f".join(fields).encode() + b"\x1e"


def outcome_bytes(record: CellRecord) -> bytes:
    """`decision_bytes`, and for a sorted cell its arrival and the arrival's uncertainty: what the command is made of.

    Not the command's number: commands go out as verdicts come in, and that may depend on the engine's speed.
    """
    if record.command is None:
        return decision_bytes(record)
    return decision_bytes(record) + f"{record.arrival_ns}\x1f{record.arrival_sd_ns}\x1e".encode()


def _finish(running: hashlib._Hash, rest: Iterable[bytes]) -> str:
    whole = running.copy()
    for piece in rest:
        whole.update(piece)
    return whole.hexdigest()
