"""Whatever order results arrive in, sort sees every captured frame once, in the order of its capture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.core.events import FrameMissing, FrameSeen
from hspc_live.core.values import OBJECT_DTYPE, FrameResult
from hspc_live.processes.order import FrameOrder, Ordered
from hspc_live.wire.messages import Entry

DEADLINE_NS = 1_000


def result(index: int) -> FrameResult:
    return FrameResult(
        index=index,
        captured_ns=index,
        objects=np.empty(0, OBJECT_DTYPE),
        crops=np.empty((0, 4, 4), np.uint8),
        windows=np.empty((0, 4, 4), np.uint8),
        masks=np.empty((0, 4, 4), np.uint8),
        background=0,
    )


def entry(index: int, missing: str = "", received_ns: int = 0) -> Entry:
    return Entry(index, index, received_ns, missing)


@dataclass(frozen=True)
class Story:
    """What becomes of each frame, and the order in which sort hears of it."""

    dropped: frozenset[int]
    lost: frozenset[int]
    steps: tuple[tuple[str, int], ...]
    indices: tuple[int, ...]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    indices = tuple(sorted(draw(st.sets(st.integers(0, 40), min_size=1, max_size=14))))
    fates = {index: draw(st.sampled_from(["result", "twice", "dropped", "lost", "both"])) for index in indices}
    heard = [("result", i) for i, fate in fates.items() if fate in ("result", "twice", "both")]
    heard += [("result", i) for i, fate in fates.items() if fate == "twice"]
    heard += [("lost", i) for i, fate in fates.items() if fate in ("lost", "both")]
    log = [("log", i) for i in indices]
    places = sorted(draw(st.lists(st.integers(0, len(heard)), min_size=len(log), max_size=len(log))))
    steps = list(draw(st.permutations(heard)))
    for offset, (place, item) in enumerate(zip(places, log, strict=True)):
        steps.insert(place + offset, item)
    return Story(
        frozenset(i for i, fate in fates.items() if fate == "dropped"),
        frozenset(i for i, fate in fates.items() if fate in ("lost", "both")),
        tuple(steps),
        indices,
    )


def play(order: FrameOrder, story: Story, now_ns: int = 0) -> list[Ordered]:
    taken: list[Ordered] = []
    for what, index in story.steps:
        match what:
            case "log":
                order.log([entry(index, "camera" if index in story.dropped else "")])
            case "result":
                order.result(result(index))
            case _:
                order.lost([index], "worker_died_twice")
        taken += order.take(now_ns)
    return taken


@given(stories())
def test_every_logged_frame_comes_once_in_capture_order(story: Story) -> None:
    order = FrameOrder(None)
    taken = play(order, story)
    assert order.empty
    assert [item.entry.index for item in taken] == list(story.indices)
    for item in taken:
        index = item.entry.index
        if index in story.dropped:
            assert item.event == FrameMissing(index, index, "camera", dropped=True) and not item.held
        elif isinstance(item.event, FrameSeen):
            assert item.held and item.result is not None and item.result.index == index
        else:
            assert index in story.lost and item.held and not item.event.dropped
    counted = sum(what == "result" for what, _ in story.steps)
    used = sum(item.result is not None for item in taken)
    assert order.unexpected == counted - used, "a result that changes nothing is counted"


@given(stories())
def test_nothing_is_kept_of_frames_that_have_passed(story: Story) -> None:
    order = FrameOrder(None)
    play(order, story)
    for what, index in story.steps:
        if what == "result":
            order.result(result(index))
        order.lost([index], "again")
    assert order.take(0) == [] and not order._results and not order._lost


def test_a_missing_result_holds_back_what_comes_behind_it_until_its_deadline() -> None:
    order = FrameOrder(DEADLINE_NS)
    order.log([entry(0), entry(1, received_ns=500)])
    order.result(result(1))
    assert order.take(DEADLINE_NS) == []
    late, seen = order.take(DEADLINE_NS + 1)
    assert late.event == FrameMissing(0, 0, "no_result_in_time", dropped=False) and late.held
    assert isinstance(seen.event, FrameSeen) and seen.event.index == 1
    order.result(result(0))
    assert order.unexpected == 1 and order.empty


def test_replay_waits_for_ever() -> None:
    order = FrameOrder(None)
    order.log([entry(0)])
    assert order.take(10**18) == [] and not order.empty


@pytest.mark.parametrize("alarm", ["frozen", ""])
def test_alarms_of_camera_and_segmentation_come_together(alarm: str) -> None:
    order = FrameOrder(None)
    order.log([Entry(0, 0, 0, "", alarm)])
    dark = result(0)
    order.result(FrameResult(**{name: getattr(dark, name) for name in dark.__slots__} | {"alarms": ("black",)}))
    [item] = order.take(0)
    assert isinstance(item.event, FrameSeen)
    assert item.event.alarms == (("black", "frozen") if alarm else ("black",))
