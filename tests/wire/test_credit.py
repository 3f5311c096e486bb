"""No frame is lost without being counted, none ends twice, and no slot is given to two frames."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hspc_live.wire.credit import MOST_CREDIT, MOST_WORKERS, Balance, LeaseTable

workers = st.sampled_from(["a", "b", "c"])


class Leasing(RuleBasedStateMachine):
    """A writer with a few slots, workers that come and die, and results that arrive early, late or twice."""

    @initialize(slots=st.integers(1, 6), attempts=st.integers(1, 3))
    def start(self, slots, attempts):
        self.table = LeaseTable(attempts)
        self.attempts = attempts
        self.free = set(range(slots))
        self.held: dict[int, int] = {}  # frame → slot, of frames that have not ended
        self.at: dict[int, str] = {}  # frame → worker it is out with
        self.went_out: dict[int, int] = {}
        self.ended: dict[int, str] = {}
        self.credit = {"a": 0, "b": 0, "c": 0}
        self.again: list[int] = []
        self.next = self.now = self.repeated = self.strange = 0

    def lease(self, batch):
        self.now += 1
        worker = self.table.lease_batch(batch, self.now)
        if worker is None:
            assert not any(self.credit.values())
            return False
        self.credit[worker] -= 1
        assert self.credit[worker] >= 0
        for frame, slot in batch:
            assert frame not in self.at
            self.held[frame] = slot
            self.at[frame] = worker
            self.went_out[frame] = self.went_out.get(frame, 0) + 1
            assert self.went_out[frame] <= self.attempts
        return True

    @rule(worker=workers, credit=st.integers(1, 3))
    def grant(self, worker, credit):
        if self.table.grant(worker, credit):
            self.credit[worker] += credit
        else:
            assert self.credit[worker] + credit > MOST_CREDIT

    @rule(count=st.integers(1, 3))
    def lease_new(self, count):
        batch = [(self.next + number, slot) for number, slot in enumerate(sorted(self.free)[:count])]
        if batch and self.lease(batch):
            self.next += len(batch)
            self.free -= {slot for _, slot in batch}

    @precondition(lambda self: self.again)
    @rule()
    def lease_again(self):
        frame = self.again[0]
        if not self.table.waiting(frame):
            assert frame in self.ended
            self.again.pop(0)
        elif self.lease([(frame, self.held[frame])]):
            self.again.pop(0)

    @precondition(lambda self: self.at)
    @rule(data=st.data())
    def lease_to_a_full_queue(self, data):
        frame = data.draw(st.sampled_from(sorted(self.at)))
        self.table.unsent([frame])
        del self.at[frame]
        self.went_out[frame] -= 1
        if self.went_out[frame]:
            self.again.append(frame)
        else:
            self.free.add(self.held.pop(frame))

    @rule(data=st.data())
    def release(self, data):
        frame = data.draw(st.integers(0, self.next + 1))
        slot = self.table.release(frame)
        if frame in self.held:
            assert slot == self.held.pop(frame)
            assert slot not in self.free
            self.free.add(slot)
            self.at.pop(frame, None)
            self.ended[frame] = "released"
        else:
            assert slot is None
            self.repeated += frame in self.ended
            self.strange += frame not in self.ended

    @rule(worker=workers)
    def lose(self, worker):
        orphans = self.table.worker_lost(worker)
        self.credit[worker] = 0
        assert {frame for frame, _ in orphans.again + orphans.lost} == {f for f, w in self.at.items() if w == worker}
        for frame, slot in orphans.again:
            assert self.held[frame] == slot
            assert self.went_out[frame] < self.attempts
            del self.at[frame]
            self.again.append(frame)
        for frame, slot in orphans.lost:
            assert self.went_out[frame] == self.attempts
            assert slot == self.held.pop(frame)
            self.free.add(slot)
            del self.at[frame]
            self.ended[frame] = "lost"

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def no_slot_is_given_twice(self, data):
        taken = data.draw(st.sampled_from(sorted(self.held.values())))
        with pytest.raises(ValueError, match="another frame holds it"):
            self.table.lease_batch([(self.next + 10, taken)], self.now)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def what_has_ended_stays_ended(self, data):
        frame = data.draw(st.sampled_from(sorted(self.ended)))
        with pytest.raises(ValueError, match="has ended"):
            self.table.lease_batch([(frame, 99)], self.now)

    @invariant()
    def books_balance(self):
        if not hasattr(self, "table"):
            return
        ends = list(self.ended.values())
        assert self.table.balance() == Balance(
            taken=len(self.held) + len(ends),
            out=len(self.at),
            waiting=len(self.held) - len(self.at),
            released=ends.count("released"),
            lost=ends.count("lost"),
            repeated=self.repeated,
            strange=self.strange,
        )
        assert self.table.has_credit() == any(self.credit.values())


Leasing.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_leasing = Leasing.TestCase


def test_work_goes_around_among_those_with_credit():
    table = LeaseTable()
    table.grant("a", 3)
    table.grant("b", 1)
    table.grant("c", 2)
    assert [table.lease_batch([(n, n)], n) for n in range(7)] == ["a", "b", "c", "a", "c", "a", None]


def test_a_batch_costs_one_credit_and_is_taken_whole_or_not_at_all():
    table = LeaseTable()
    assert table.lease_batch([(0, 0), (1, 1)], 0) is None
    table.grant("a", 1)
    with pytest.raises(ValueError, match="another frame holds it"):
        table.lease_batch([(0, 0), (1, 0)], 0)
    with pytest.raises(ValueError, match="twice"):
        table.lease_batch([(0, 0), (0, 1)], 0)
    assert table.balance().taken == 0
    assert table.lease_batch([(0, 0), (1, 1)], 0) == "a"
    assert table.lease_batch([(2, 2)], 0) is None


def test_a_worker_that_sits_on_a_frame_is_named_with_it():
    table = LeaseTable()
    table.grant("a", 2)
    table.lease_batch([(0, 0)], 100)
    table.lease_batch([(1, 1)], 150)
    assert table.expired(110, 10) == {}
    assert table.expired(111, 10) == {"a": [0]}
    assert table.expired(200, 10) == {"a": [0, 1]}
    table.worker_lost("a")
    assert table.expired(200, 10) == {}


def test_a_worker_that_has_done_its_batch_is_not_late_though_the_result_waits_for_another_s():
    """Results are used in capture order: one hung worker must not make the others look hung."""
    table = LeaseTable()
    table.grant("hung", 1)
    table.grant("busy", 2)
    table.lease_batch([(0, 0)], 0)
    table.lease_batch([(1, 1)], 0)
    table.grant("busy", 1)
    table.lease_batch([(2, 2), (3, 3)], 90)
    assert table.expired(100, 50) == {"hung": [0]}
    assert table.expired(200, 50) == {"hung": [0], "busy": [2, 3]}
    table.release(0)
    assert "hung" in table.expired(100, 50), "given up elsewhere, it is at it all the same"
    table.unsent([2, 3])
    assert table.expired(200, 50) == {"hung": [0]}


def test_the_memory_of_ended_frames_is_bounded():
    table = LeaseTable(memory=10)
    for frame in range(100):
        table.grant("a", 1)
        table.lease_batch([(frame, 0)], frame)
        table.release(frame)
    table.release(99)
    table.release(1)
    assert (table.balance().repeated, table.balance().strange) == (1, 1)


@pytest.mark.parametrize("credit", [0, -1, -(2**63), MOST_CREDIT + 1, 2**63])
def test_a_grant_of_nothing_or_of_too_much_is_refused(credit):
    table = LeaseTable()
    assert not table.grant("a", credit) and not table.has_credit()
    assert table.grant("a", MOST_CREDIT) and not table.grant("a", 1), "however it comes to be too much"


def test_no_more_workers_are_remembered_than_there_can_be():
    table = LeaseTable()
    assert sum(table.grant(f"w{number}", 1) for number in range(2 * MOST_WORKERS)) == MOST_WORKERS
    table.worker_lost("w0")
    assert table.grant("another", 1) and not table.grant("one more", 1)


def test_a_frame_that_waits_keeps_its_slot():
    table = LeaseTable()
    table.grant("a", 1)
    table.lease_batch([(0, 5)], 0)
    table.worker_lost("a")
    table.grant("b", 1)
    with pytest.raises(ValueError, match="lies in slot 5, not 6"):
        table.lease_batch([(0, 6)], 1)
