"""Who works on which frame: credit, leases and their ends, as pure bookkeeping.

Workers ask for work (`grant`), first some batches ahead and then one for each that they have done; a frame, whose
pixels lie in a slot of the ring, is leased to the worker that has waited longest. A lease ends once: released by the
one who needed the result, or lost after `attempts` workers died or hung over it. Until then its slot is taken. That a
lease has not ended says nothing about its worker: the result may wait for that of an earlier frame. No I/O, no clock:
times are passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

MOST_CREDIT = 16
MOST_WORKERS = 256


@dataclass(frozen=True, slots=True)
class Balance:
    """Frames by where they are: taken in = out with a worker + waiting to go out again + released + lost.

    `repeated` counts releases of frames that had ended already, `strange` those of frames never leased (or ended so
    long ago that it is forgotten). Neither has an effect.
    """

    taken: int
    out: int
    waiting: int
    released: int
    lost: int
    repeated: int
    strange: int


@dataclass(frozen=True, slots=True)
class Orphans:
    """(frame, slot) of a lost worker, in lease order: those to lease once more, and those that ended as lost.

    The slots of the lost are free again.
    """

    again: tuple[tuple[int, int], ...]
    lost: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class _Lease:
    slot: int
    worker: str | None
    attempts: int


class LeaseTable:
    """The leases of one run. A frame goes out at most `attempts` times; `memory` ended frames are remembered."""

    def __init__(self, attempts: int = 2, memory: int = 65536) -> None:
        self._attempts = attempts
        self._memory = memory
        self._credit: dict[str, int] = {}
        self._queue: deque[str] = deque()
        self._at_work: dict[str, deque[tuple[int, tuple[int, ...]]]] = {}  # batches not yet done: since when, frames
        self._leases: dict[int, _Lease] = {}
        self._slots: set[int] = set()
        self._ended: dict[int, None] = {}
        self._taken = self._released = self._lost = self._repeated = self._strange = 0

    def grant(self, worker: str, credit: int) -> bool:
        """`worker` is ready for `credit` more batches: it has done its oldest ones, if it had any.

        False, and nothing changes, for a credit that is not positive, or that would bring it above `MOST_CREDIT`, and
        for one worker more than `MOST_WORKERS`: no honest worker asks for so much.
        """
        known = worker in self._at_work or len(self._at_work) < MOST_WORKERS
        if not 1 <= credit <= MOST_CREDIT - self._credit.get(worker, 0) or not known:
            return False
        batches = self._at_work.setdefault(worker, deque())
        for _ in range(min(credit, len(batches))):
            batches.popleft()
        if worker not in self._credit:
            self._queue.append(worker)
        self._credit[worker] = self._credit.get(worker, 0) + credit
        return True

    def lease_batch(self, frames: Sequence[tuple[int, int]], now_ns: int) -> str | None:
        """Lease these (frame, slot) together, for one credit, to the worker whose turn it is.

        None, and nothing changes, when no worker has credit. Raises ValueError for a frame that is out or has ended
        (`waiting` tells beforehand), and for a slot that another frame holds.
        """
        new_slots: set[int] = set()
        for frame, slot in frames:
            held = self._leases.get(frame)
            if frame in self._ended or (held is not None and held.worker is not None):
                raise ValueError(f"frame {frame} cannot be leased: it is out, or has ended")
            if held is None and (slot in self._slots or slot in new_slots):
                raise ValueError(f"frame {frame} cannot have slot {slot}: another frame holds it")
            if held is not None and slot != held.slot:
                raise ValueError(f"frame {frame} lies in slot {held.slot}, not {slot}")
            new_slots.add(slot)
        if len({frame for frame, _ in frames}) < len(frames):
            raise ValueError("a frame is in the batch twice")
        if not self._queue:
            return None
        worker = self._queue.popleft()
        self._credit[worker] -= 1
        if self._credit[worker]:
            self._queue.append(worker)
        else:
            del self._credit[worker]
        self._at_work[worker].append((now_ns, tuple(frame for frame, _ in frames)))
        for frame, slot in frames:
            if held := self._leases.pop(frame, None):  # to the end of the table, which stays in lease order
                self._leases[frame] = _Lease(slot, worker, held.attempts + 1)
            else:
                self._taken += 1
                self._slots.add(slot)
                self._leases[frame] = _Lease(slot, worker, 1)
        return worker

    def unsent(self, frames: Sequence[int]) -> None:
        """Take leases back that never reached their worker: as if they had not been made, but for the spent credit.

        A frame's first lease is forgotten and its slot is the caller's; a later one leaves the frame waiting.
        """
        for frame in frames:
            held = self._leases.get(frame)
            if held is None or held.worker is None:
                continue
            batches = self._at_work.get(held.worker, deque())
            if batches and frame in batches[-1][1]:
                batches.pop()
            held.worker = None
            held.attempts -= 1
            if held.attempts == 0:
                del self._leases[frame]
                self._slots.discard(held.slot)
                self._taken -= 1

    def release(self, frame: int) -> int | None:
        """The frame is done with: its slot, now free. None for one that ended before, or was never leased (counted)."""
        held = self._leases.get(frame)
        if held is None:
            if frame in self._ended:
                self._repeated += 1
            else:
                self._strange += 1
            return None
        self._released += 1
        return self._end(frame)

    def worker_lost(self, worker: str) -> Orphans:
        """`worker` is dead or given up: its credit is void, its frames wait to go out again or end as lost."""
        if self._credit.pop(worker, None) is not None:
            self._queue.remove(worker)
        self._at_work.pop(worker, None)
        again, lost = [], []
        for frame, held in list(self._leases.items()):
            if held.worker != worker:
                continue
            if held.attempts < self._attempts:
                held.worker = None
                again.append((frame, held.slot))
            else:
                self._lost += 1
                lost.append((frame, self._end(frame)))
        return Orphans(tuple(again), tuple(lost))

    def expired(self, now_ns: int, timeout_ns: int) -> dict[str, list[int]]:
        """Workers that have been busy with a batch for longer than `timeout_ns`, with its frames. Nothing changes."""
        late: dict[str, list[int]] = {}
        for worker, batches in self._at_work.items():
            frames = [frame for since_ns, batch in batches if now_ns - since_ns > timeout_ns for frame in batch]
            if frames:
                late[worker] = frames
        return late

    def waiting(self, frame: int) -> bool:
        """Whether the frame is to be leased once more: a late result of a lost worker may have ended it meanwhile."""
        held = self._leases.get(frame)
        return held is not None and held.worker is None

    def has_credit(self) -> bool:
        """Whether some worker is ready."""
        return bool(self._queue)

    def balance(self) -> Balance:
        """The counts, which always balance."""
        waiting = sum(held.worker is None for held in self._leases.values())
        return Balance(
            taken=self._taken,
            out=len(self._leases) - waiting,
            waiting=waiting,
            released=self._released,
            lost=self._lost,
            repeated=self._repeated,
            strange=self._strange,
        )

    def _end(self, frame: int) -> int:
        """Forget the lease, remember the frame, return the slot."""
        slot = self._leases.pop(frame).slot
        self._slots.discard(slot)
        self._ended[frame] = None
        if len(self._ended) > self._memory:
            del self._ended[next(iter(self._ended))]
        return slot
