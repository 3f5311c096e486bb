"""What holds of the sort core whatever happens: books balance, no late command, no cell twice, same verdicts."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hspc_live.core.events import (
    Action,
    Arm,
    Classify,
    Closed,
    Command,
    Disarm,
    Ended,
    Event,
    Finished,
    FrameMissing,
    FrameSeen,
    Gated,
    Received,
    Scored,
    Skipped,
    Tick,
)
from hspc_live.core.values import CellRecord, Detection, Receipt, ReceiptKind
from hspc_live.settings.sort import (
    AlarmSettings,
    CloseSettings,
    Outlet,
    RangeGate,
    ScoreGate,
    SortSettings,
    TimingSettings,
    TopPercentGate,
)
from hspc_live.stages.sort_core import SortCore
from hspc_live.stages.verdicts import VerdictHash

CLASSES = ("LT-HSC", "ST-HSC", "MPP")
SCORES = [(0.9, 0.06, 0.04), (0.1, 0.8, 0.1), (0.04, 0.06, 0.9), (0.34, 0.33, 0.33), (float("nan"),) * 3]
MS = 1_000_000
FRAME_NS = 10 * MS
FRAMES = 105
RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Thing:
    at_ms: int
    v: float
    y: float
    reject: int
    scores: tuple[float, ...]


things = st.lists(
    st.builds(
        Thing,
        at_ms=st.integers(10, 250),
        v=st.floats(3300, 4700),
        y=st.sampled_from([10.0, 25.0, 40.0, 55.0]),
        reject=st.sampled_from([0, 0, 0, 0, 2, 3]),
        scores=st.sampled_from(SCORES),
    ),
    max_size=14,
)

modes = st.sampled_from(["purity", "recovery", "single"])


@st.composite
def sort_settings(draw: st.DrawFn) -> SortSettings:
    left = Outlet(
        name="left",
        gate=ScoreGate(class_name="LT-HSC", min=0.5),
        mode=draw(modes),
        limit=draw(st.sampled_from([None, None, 1, 2])),
    )
    gate = draw(
        st.sampled_from(
            [
                ScoreGate(class_name="MPP", min=0.5),
                RangeGate(kind="range", feature="y_um", min=20.0),
                TopPercentGate(kind="top_percent", feature="score:MPP", percent=50, window=10),
            ]
        )
    )
    return SortSettings(
        outlets=(left, Outlet(name="right", gate=gate, mode=draw(modes), priority=1)),
        close=CloseSettings(views=draw(st.integers(1, 3))),
        timing=TimingSettings(max_pulse_ms=draw(st.sampled_from([20.0, 40.0, 60.0])), transit_sd_fraction=0.002),
        alarms=AlarmSettings(velocity_window=500, window=500, clog_frames=1000),
        total_limit=draw(st.sampled_from([None, None, 3])),
    )


def film(objects: list[Thing], index: int) -> list[tuple[Detection, Thing]]:
    """The objects in the field of view of frame `index`, sorted as segmentation does; no two look quite the same."""
    seen = []
    for number, thing in enumerate(objects):
        x = (index * 10 - thing.at_ms) * 1e-3 * thing.v
        if 8.0 < x < 248.0:
            seen.append(
                (Detection(x, thing.y, 50.0 + number, 8.0, 0.02, 120.0, 9.0, 3.0, 0, 0, 1, 1, thing.reject), thing)
            )
    return sorted(seen, key=lambda pair: pair[0])


def verdict(record: CellRecord, contents: dict[tuple[int, int], Detection]) -> tuple[object, ...]:
    predicted = None if record.classification is None else record.classification.predicted
    views = tuple((frame, contents[frame, view]) for frame, view in record.views)
    return views, record.outcome, record.reason, record.outlet, predicted


# ---- same events, another order -----------------------------------------------------------------------------------


def replay(
    sort: SortSettings, objects: list[Thing], *, shuffle: int | None = None, dice: random.Random | None = None
) -> tuple[list[tuple[object, ...]], VerdictHash]:
    """Run a whole film. `shuffle` permutes each frame's detections; `dice` delays and regroups the scores, in time."""
    core = SortCore(sort, CLASSES)
    contents: dict[tuple[int, int], Detection] = {}
    scores: dict[tuple[int, int], tuple[float, ...]] = {}
    waiting: list[tuple[int, tuple[int, int]]] = []
    verdicts: list[tuple[object, ...]] = []
    digest = VerdictHash()

    def take(actions: list[Action], now: int) -> None:
        for action in actions:
            match action:
                case Classify():
                    delay = 0 if dice is None else dice.choice([0, 0, 30, 150, 400, 10_000]) * MS
                    waiting.append((now + delay, (action.frame, action.view)))
                case Closed():
                    verdicts.append(verdict(action.record, contents))
                    digest.add(action.record)
                case _:
                    pass

    def answer(now: int, everything: bool) -> None:
        due = [key for at, key in waiting if everything or at <= now]
        waiting[:] = [(at, key) for at, key in waiting if not (everything or at <= now)]
        if dice is not None:
            dice.shuffle(due)
        while due:
            size = 1 if dice is None else dice.randint(1, len(due))
            batch, due = due[:size], due[size:]
            take(core.feed(Scored(tuple(batch), np.array([scores[key] for key in batch], dtype=np.float32)), now), now)

    now = 0
    take(core.feed(Arm("test"), now), now)
    for index in range(FRAMES):
        wake = core.next_wake_ns()
        if wake is not None and wake <= index * FRAME_NS:
            answer(now, everything=True)  # what the core's documentation asks of a replay
        now = index * FRAME_NS
        seen = film(objects, index)
        if shuffle is not None:
            random.Random(shuffle * 1000 + index).shuffle(seen)
        for view, (one, thing) in enumerate(seen):
            contents[index, view] = one
            scores[index, view] = thing.scores
        take(core.feed(FrameSeen(index, now, tuple(one for one, _ in seen)), now), now)
        answer(now, everything=False)
    take(core.feed(Ended(), now), now)
    answer(now, everything=True)
    take(core.feed(Finished(), now), now)
    assert core.ledger.balanced(captured=FRAMES) == []
    assert core.ledger.open == 0
    return sorted(verdicts, key=repr), digest


@RELAXED
@given(sort_settings(), things, st.integers(0, 1000))
def test_the_order_of_the_detections_in_a_frame_changes_no_verdict(
    sort: SortSettings, objects: list[Thing], shuffle: int
) -> None:
    assert replay(sort, objects)[0] == replay(sort, objects, shuffle=shuffle)[0]


@RELAXED
@given(sort_settings(), things, st.integers(0, 2**32))
def test_when_and_how_scores_arrive_before_the_deadline_changes_no_verdict(
    sort: SortSettings, objects: list[Thing], seed: int
) -> None:
    prompt, delayed = replay(sort, objects), replay(sort, objects, dice=random.Random(seed))
    assert prompt[0] == delayed[0]
    assert prompt[1].decisions_sha256 == delayed[1].decisions_sha256
    assert prompt[1].outcomes_sha256 == delayed[1].outcomes_sha256


# ---- whatever happens -----------------------------------------------------------------------------------------------


class AnySequence(RuleBasedStateMachine):
    """Frames, gaps, scores, silence, garbage and people, in any order and at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.index = 0
        self.captured = 0
        self.waiting: list[tuple[int, int]] = []
        self.sent: list[int] = []
        self.commanded: set[int] = set()
        self.closed: set[int] = set()
        self.gated: set[int] = set()

    @initialize(sort=sort_settings(), objects=things, armed=st.booleans())
    def begin(self, sort: SortSettings, objects: list[Thing], armed: bool) -> None:
        self.core = SortCore(sort.model_copy(update={"max_tracks": 5}), CLASSES)
        self.objects = objects
        if armed:
            self.feed(Arm("test"))

    def feed(self, event: Event) -> None:
        for action in self.core.feed(event, self.now):
            match action:
                case Classify():
                    self.waiting.append((action.frame, action.view))
                case Command():
                    command = action.command
                    assert self.now <= command.deadline_ns and command.sent_ns <= command.deadline_ns
                    assert command.deadline_ns < command.fire_at_ns - command.width_ns // 2
                    assert self.core.armed
                    assert command.cell not in self.commanded | self.closed
                    self.commanded.add(command.cell)
                    self.sent.append(command.command)
                case Gated():
                    assert action.decision.cell not in self.gated | self.closed
                    self.gated.add(action.decision.cell)
                case Closed():
                    assert action.record.cell not in self.closed
                    assert (action.record.command is not None) == (action.record.cell in self.commanded)
                    self.closed.add(action.record.cell)
                case _:
                    pass

    @rule(count=st.integers(1, 20), latency=st.sampled_from([0, 0, 20 * MS, 90 * MS]))
    def frames(self, count: int, latency: int) -> None:
        for _ in range(count):
            captured = self.index * FRAME_NS
            self.now = max(self.now, captured + latency)
            seen = tuple(one for one, _ in film(self.objects, self.index))
            self.feed(FrameSeen(self.index, captured, seen))
            self.index += 1
            self.captured += 1

    @rule(back=st.integers(0, 3), over_cap=st.integers(0, 2), shift=st.integers(-30, 5))
    def strange_frame(self, back: int, over_cap: int, shift: int) -> None:
        index = max(self.index - back, 0)
        seen = tuple(one for one, _ in film(self.objects, index))
        before = self.core.ledger.frames.captured
        self.feed(FrameSeen(index, (index + shift) * FRAME_NS, seen, over_cap, ("frozen",)))
        self.captured += self.core.ledger.frames.captured - before
        self.index = max(self.index, index + 1)

    @rule(known=st.booleans(), dropped=st.booleans())
    def missing(self, known: bool, dropped: bool) -> None:
        self.feed(FrameMissing(self.index, self.index * FRAME_NS if known else None, "test", dropped))
        self.index += 1
        self.captured += 1

    @rule(count=st.integers(0, 12), scores=st.sampled_from(SCORES))
    def scored(self, count: int, scores: tuple[float, ...]) -> None:
        keys, self.waiting = tuple(self.waiting[:count]), self.waiting[count:]
        self.feed(Scored(keys, np.array([scores] * len(keys), dtype=np.float32).reshape(len(keys), 3)))

    @rule(count=st.integers(0, 3))
    def skipped(self, count: int) -> None:
        keys, self.waiting = tuple(self.waiting[:count]), self.waiting[count:]
        self.feed(Skipped(keys))

    @rule(frame=st.integers(-1, 200), view=st.integers(0, 3), columns=st.integers(1, 4))
    def score_nobody_asked_for(self, frame: int, view: int, columns: int) -> None:
        if (frame, view) not in self.waiting:
            self.feed(Scored(((frame, view),), np.full((1, columns), 1 / columns, dtype=np.float32)))

    @rule(ms=st.sampled_from([0, 1, 5, 40, 700]))
    def time_passes(self, ms: int) -> None:
        self.now += ms * MS
        self.feed(Tick())

    @rule()
    def wake(self) -> None:
        wake = self.core.next_wake_ns()
        if wake is not None:
            self.now = max(self.now, wake)
            before = len(self.closed)
            self.feed(Tick())
            assert len(self.closed) > before, "a wake-up must not be in vain, or the caller would spin"

    @rule(fired=st.booleans(), invented=st.integers(0, 50))
    def receipt(self, fired: bool, invented: int) -> None:
        kind = ReceiptKind.FIRED if fired else ReceiptKind.REFUSED
        number = self.sent.pop(0) if self.sent else invented
        self.feed(Received((Receipt(number, kind, self.now), Receipt(number, kind, self.now))))

    @rule(arm=st.booleans())
    def person(self, arm: bool) -> None:
        self.feed(Arm("test") if arm else Disarm("test"))
        assert self.core.armed == arm

    @rule()
    def end_of_frames(self) -> None:
        if self.index > 60:
            self.feed(Ended())

    @invariant()
    def books_balance(self) -> None:
        if hasattr(self, "core"):
            assert self.core.ledger.balanced(captured=self.captured) == []
            assert self.core.ledger.cells.tracked - self.core.ledger.cells.open == len(self.closed)

    def teardown(self) -> None:
        if hasattr(self, "core"):
            self.feed(Finished())
            assert self.core.ledger.balanced(captured=self.captured) == []
            assert self.core.ledger.open == 0
            assert self.core.next_wake_ns() is None
            assert len(self.closed) == self.core.ledger.cells.tracked


AnySequence.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestAnySequence = AnySequence.TestCase
