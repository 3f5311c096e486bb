"""sort's window to the outside: now and then, and only while somebody looks, what the run sees and how it stands.

Nothing here may cost a cell its time. Without a subscriber a frame costs one assignment; with one, a message is made at
most every `PERIOD_S`, after the engine has been given its work, and handed to a link that never waits.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hspc_live.core.clock import NS_PER_MS
from hspc_live.core.errors import WireError
from hspc_live.core.values import OBJECT_DTYPE, CellOutcome, CellRecord, Pixels
from hspc_live.processes.order import Ordered
from hspc_live.stages.track import Track
from hspc_live.wire.links import Publisher
from hspc_live.wire.ring import PixelRing
from hspc_live.wire.telemetry import LATENCY_BINS, OutletCount, Seen, Standing, Telemetry, pack

PERIOD_S = 0.04
IDLE_S = 0.25  # without a new frame the standing is shown as often as that
CELLS = 64  # the last of them ride along in every message, so that a lost message loses no cell
CROPS = 24
LOOKS = 256  # crops kept until their cell has come to its end

_NO_MASKS = np.empty((0, 0), np.uint8)
_NO_PIXELS = np.empty((0, 0), np.uint8)
_NO_CROPS = np.empty((0, 0, 0), np.uint8)
_NO_OBJECTS = np.empty(0, OBJECT_DTYPE)


class Showing:
    """Publishes on `link`. `ring` is the file that the frames' pixels lie in, `shape` and `dtype` are theirs."""

    def __init__(
        self, link: Publisher, ring: Path, shape: tuple[int, int], dtype: str, run: str, classes: Sequence[str]
    ) -> None:
        self._link = link
        self._path = ring
        self._ring: PixelRing | None = None
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._run = run
        self._classes = len(classes)
        self._newest: tuple[Ordered, list[Track | None]] | None = None
        self._sent: tuple[Ordered, list[Track | None]] | None = None
        self._due = 0.0
        self._idle_due = 0.0
        self._watched = False
        self._cells: deque[CellRecord] = deque(maxlen=CELLS)
        self._looks: dict[tuple[int, int], Pixels] = {}
        self._crops: deque[tuple[tuple[int, int, int], Pixels]] = deque(maxlen=CROPS)
        self._latencies = np.zeros(LATENCY_BINS, np.uint32)
        self._sorted: Counter[str] = Counter()
        self._score_sums: dict[str, list[float]] = {}
        self.made = 0
        self.stale = 0
        self.busy_ns = 0

    # ---- what the sort loop tells ------------------------------------------------------------------------------------

    def frame(self, item: Ordered, followed: list[Track | None]) -> None:
        """A frame that has been looked at; `followed` are the tracks of its objects, by row."""
        if item.result is not None:
            self._newest = (item, followed)

    def look(self, key: tuple[int, int], crop: Pixels) -> None:
        """The crop of a view that is to be classified."""
        if self._watched:
            self._looks[key] = crop.copy()
            if len(self._looks) > LOOKS:
                del self._looks[next(iter(self._looks))]

    def gated(self, latency_ns: int | None) -> None:
        """A decision, and how long it took if that is known."""
        if latency_ns is not None:
            self._latencies[min(max(0, latency_ns // NS_PER_MS), LATENCY_BINS - 1)] += 1

    def cell(self, record: CellRecord) -> None:
        """A cell's last word."""
        if record.outcome is CellOutcome.SORTED and record.outlet is not None:
            self._sorted[record.outlet] += 1
            sums = self._score_sums.setdefault(record.outlet, [0.0] * self._classes)
            if record.classification is not None:
                for place, score in enumerate(record.classification.scores):
                    sums[place] += score
        if self._watched:
            self._cells.append(record)
            for frame, view in record.views:
                crop = self._looks.pop((frame, view), None)
                if crop is not None:
                    self._crops.append(((record.cell, frame, view), crop))

    def sorted(self) -> list[OutletCount]:
        """Cells sorted by outlet, and the sums of their scores."""
        return [OutletCount(name, count, self._score_sums[name]) for name, count in self._sorted.items()]

    # ---- out ---------------------------------------------------------------------------------------------------------

    def due(self) -> bool:
        """Whether a message should be made now."""
        now = time.monotonic()
        if now < self._due:
            return False
        self._watched = self._link.listened()
        if not self._watched:
            self._due = now + PERIOD_S
            return False
        return self._newest is not self._sent or now >= self._idle_due

    def publish(self, standing: Standing) -> None:
        """Make a message and hand it over."""
        started = time.perf_counter_ns()
        newest, self._sent = self._newest, self._newest
        head: dict[str, Any] = {"frame": -1, "captured_ns": 0, "received_ns": 0, "alarms": (), "mask_shape": (0, 0)}
        arrays: list[Any] = [_NO_PIXELS, _NO_OBJECTS, _NO_MASKS]
        seen: list[Seen] = []
        slot = None
        if newest is not None:
            (item, followed) = newest
            entry, result = item.entry, item.result
            assert result is not None, "only such frames are kept"
            head |= {"frame": entry.index, "captured_ns": entry.captured_ns, "received_ns": entry.received_ns}
            head |= {"alarms": result.alarms, "mask_shape": result.masks.shape[1:]}
            tracks = followed if len(followed) == len(result.objects) else [None] * len(result.objects)
            seen = [_seen(track) for track in tracks]
            packed = np.packbits(result.masks.reshape(len(result.masks), -1), axis=1) if len(result.masks) else None
            slot = (entry.slot, entry.generation)
            pixels = self._pixels(*slot)
            arrays = [pixels, result.objects, _NO_MASKS if packed is None else packed]
        crops = np.stack([crop for _, crop in self._crops]) if self._crops else _NO_CROPS
        told = Telemetry(
            number=self.made,
            sent_ns=time.perf_counter_ns(),
            seen=seen,
            cells=list(self._cells),
            crops=[name for name, _ in self._crops],
            standing=standing,
            **head,
        )
        message = pack(told, [*arrays, self._latencies, crops], self._run)
        now = time.monotonic()
        self._due, self._idle_due = now + PERIOD_S, now + IDLE_S
        if slot is not None and arrays[0].size and not (self._ring and self._ring.still_valid(*slot)):
            self.stale += 1  # another frame was written under our hands: this picture may be torn
        else:
            self._link.try_send(message)
            self.made += 1
        self.busy_ns += time.perf_counter_ns() - started

    def _pixels(self, slot: int, generation: int) -> Pixels:
        """The frame's pixels in the ring, lent; none if they have gone, or if it cannot be opened."""
        if slot < 0:
            return _NO_PIXELS
        try:
            if self._ring is None:
                self._ring = PixelRing.attach(self._path)
            return self._ring.view(slot, generation, self._shape, self._dtype)
        except WireError:  # mostly a slot in use again; whatever it is, no cell may suffer from it
            self.stale += 1
            return _NO_PIXELS

    def report(self) -> dict[str, int]:
        """For the summary: messages made, those without a picture because its slot was in use again, time spent.

        `refused` counts what others sent here: who looks on has nothing to say.
        """
        made = {"messages": self.made, "without_picture": self.stale, "busy_ns": self.busy_ns}
        return {**made, "refused": self._link.refused}

    def close(self) -> None:
        """Let go of the ring; the link belongs to who opened it."""
        if self._ring is not None:
            self._ring.close()


def _seen(track: Track | None) -> Seen:
    if track is None:
        return Seen(-1, -1)
    cell = track.cell
    if cell is None:
        return Seen(track.number, -1, track.first_frame, track.v_um_s)
    verdict = cell.classification
    known = ("", 0.0) if verdict is None else (verdict.predicted, max(verdict.scores))
    return Seen(track.number, cell.number, track.first_frame, track.v_um_s, *known, cell.state.value)
