"""The camera half of acquire: every frame is booked once, whatever the camera does; a bad one ends the run."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hspc_live.core.errors import DataLoss, DeviceError
from hspc_live.core.protocols import EndOfStream
from hspc_live.core.values import CameraInfo, Frame, Modality
from hspc_live.processes.capture import Capture, Captured
from hspc_live.settings.schema import RunSettings
from hspc_live.wire.ring import PixelRing

SHAPE = (24, 32)
SLOTS = 4
PERIOD_NS = 10_000_000


def picture(index: int, shape: tuple[int, int] = SHAPE, dtype: str = "uint8") -> NDArray:
    return np.random.default_rng(index).integers(90, 110, shape).astype(dtype)


def frame(index: int, *, at_ns: int | None = None, pixels: NDArray | None = None) -> Frame:
    captured_ns = (index + 1) * PERIOD_NS if at_ns is None else at_ns
    return Frame(index, captured_ns, captured_ns, picture(index) if pixels is None else pixels)


class Film:
    """A camera that hands over prepared frames; an exception among them is raised, None is a wait without a frame."""

    def __init__(self, *frames: Frame | Exception | None, exposed: int | None = None) -> None:
        self._frames = deque(frames)
        self._exposed = exposed
        self.running = False

    def open(self) -> CameraInfo:
        return info()

    def start(self) -> None:
        self.running = True

    def read(self, timeout_s: float) -> Frame | None:
        assert self.running
        if not self._frames:
            raise EndOfStream
        item = self._frames.popleft()
        if isinstance(item, Exception):
            raise item
        return item

    def stop(self) -> None:
        self.running = False

    @property
    def exposed(self) -> int | None:
        assert not self.running, "the count is final only when the camera has stopped"
        return self._exposed

    def close(self) -> None:
        self.running = False


def info(**said: Any) -> CameraInfo:
    return CameraInfo(*SHAPE, "uint8", 0.3, 100.0, Modality.DIC, **said)


Open = Callable[..., Capture]


@pytest.fixture
def capture(tmp_path: Path) -> Iterator[Open]:
    """Starts a capture on a ring of four slots."""
    settings = RunSettings.model_validate({"pipeline": {"ring_slots": SLOTS}})
    opened: list[Capture] = []
    with PixelRing.create(tmp_path, SLOTS, SHAPE[0] * SHAPE[1]) as ring:

        def start(camera: Film, *, live: bool = True, wake=lambda: None, **said: Any) -> Capture:
            one = Capture(camera, info(**said), settings, ring, live=live, wake=wake)
            opened.append(one)
            one.start()
            return one

        yield start
        for one in opened:
            one.stop()
            one.join()


def whole(one: Capture) -> list[Captured]:
    one.join()
    return one.take()


def logged(items: list[Captured]) -> list[tuple[int, str]]:
    return [(item.entry.index, item.entry.missing) for item in items]


def test_frames_are_logged_in_order_with_a_slot_and_a_background_each(capture):
    camera = Film(*map(frame, range(3)))
    one = capture(camera)
    items = whole(one)
    assert logged(items) == [(0, ""), (1, ""), (2, "")]
    assert len({item.ticket.slot for item in items}) == 3
    assert all(item.snapshot.number == item.ticket.background for item in items)
    assert (one.captured, one.error, one.finished, camera.running) == (3, None, True, False)


def test_a_gap_in_the_camera_s_numbers_is_booked_frame_by_frame_with_its_times(capture):
    one = capture(Film(frame(0), frame(4)))
    items = whole(one)
    assert logged(items) == [(0, ""), (1, "camera"), (2, "camera"), (3, "camera"), (4, "")]
    assert [item.entry.captured_ns for item in items] == [(i + 1) * PERIOD_NS for i in range(5)]
    assert (one.captured, one.dropped) == (5, {"camera": 3})


@pytest.mark.parametrize("live", [True, False])
def test_frames_dropped_before_the_first_one_are_booked_with_their_times(capture, live):
    one = capture(Film(frame(2), frame(3)), live=live)
    items = whole(one)
    assert logged(items) == [(0, "camera"), (1, "camera"), (2, ""), (3, "")]
    assert [item.entry.captured_ns for item in items] == [(i + 1) * PERIOD_NS for i in range(4)]
    assert (one.captured, one.dropped) == (4, {"camera": 2})


def test_frames_dropped_behind_the_last_one_are_booked_with_their_times(capture):
    one = capture(Film(frame(0), frame(1), exposed=4))
    items = whole(one)
    assert logged(items) == [(0, ""), (1, ""), (2, "camera"), (3, "camera")]
    assert [item.entry.captured_ns for item in items] == [(i + 1) * PERIOD_NS for i in range(4)]
    assert (one.captured, one.dropped, one.warnings) == (4, {"camera": 2}, [])


def test_a_camera_that_never_handed_a_frame_over_dropped_them_all(capture):
    one = capture(Film(exposed=3))
    assert logged(whole(one)) == [(0, "camera"), (1, "camera"), (2, "camera")]
    assert one.captured == 3


def test_after_a_failure_the_frames_that_did_not_come_are_booked_too(capture):
    one = capture(Film(frame(0), DeviceError("the cable is out"), exposed=2))
    assert logged(whole(one)) == [(0, ""), (1, "camera")] and one.error == "the cable is out"


@pytest.mark.parametrize("exposed", [1, 10**9])
def test_a_count_that_cannot_be_is_said_and_not_booked(capture, exposed):
    one = capture(Film(frame(0), frame(1), exposed=exposed))
    assert logged(whole(one)) == [(0, ""), (1, "")]
    assert any(f"counts {exposed} frames" in warning for warning in one.warnings)


def test_numbers_that_do_not_count_from_the_start_are_said(capture):
    one = capture(Film(frame(10**9)))
    assert whole(one) == [] and "count from its start" in one.error


def test_a_driver_that_fails_at_the_stop_still_ends_the_stream(capture):
    class Bad(Film):
        def stop(self) -> None:
            super().stop()
            raise RuntimeError("bug")

    one = capture(Bad(frame(0)))
    assert logged(whole(one)) == [(0, "")] and one.finished
    assert any("RuntimeError: bug" in warning for warning in one.warnings)


def test_a_gap_in_a_file_without_its_empty_frames_is_no_drop(capture):
    one = capture(Film(frame(1), frame(4), exposed=9), counts_gaps=False)
    assert logged(whole(one)) == [(1, ""), (4, "")]
    assert one.captured == 2 and not one.dropped


@pytest.mark.parametrize(
    ("index", "said"), [(0, "jumped from 2 to 0"), (1, "jumped from 2 to 1"), (10**9, "jumped from 2")]
)
def test_frame_numbers_that_jump_end_the_stream_and_are_said(capture, index, said):
    one = capture(Film(frame(0), frame(1), frame(2), frame(index, at_ns=9 * PERIOD_NS), frame(3)))
    assert logged(whole(one)) == [(0, ""), (1, ""), (2, "")]
    assert said in one.error


def test_a_frame_that_comes_twice_is_counted_and_left_out(capture):
    one = capture(Film(frame(0), frame(1), frame(1), frame(2)))
    items = whole(one)
    assert logged(items) == [(0, ""), (1, ""), (2, "")] and (one.error, one.out_of_order) == (None, 1)
    assert [item.entry.alarm for item in items] == ["", "", "out_of_order"], "whoever looks on is told"


def test_a_frame_that_comes_after_a_later_one_stays_booked_as_dropped(capture):
    """Its moment has been settled: the cells in it were judged without it."""
    one = capture(Film(frame(0), frame(2), frame(1), frame(3)))
    assert logged(whole(one)) == [(0, ""), (1, "camera"), (2, ""), (3, "")]
    assert (one.error, one.out_of_order, one.captured, one.dropped) == (None, 1, 4, {"camera": 1})


@pytest.mark.parametrize(
    ("ms", "said"),
    [(3_600_000, "3600.000 s after it came"), (500, "0.500 s after it came"), (-3_600_000, "before the one ahead")],
)
def test_live_times_that_cannot_be_end_the_stream(capture, ms, said):
    """A command for a moment in the next hour would wait in the sorter's queue for it; one a little off would miss."""
    long_ago = [frame(index, at_ns=10**13 + index * PERIOD_NS) for index in range(3)]
    jumped = Frame(2, long_ago[2].captured_ns + ms * 10**6, long_ago[2].received_ns, picture(2))
    one = capture(Film(*long_ago[:2], jumped, frame(3, at_ns=10**13 + 3 * PERIOD_NS)))
    assert logged(whole(one)) == [(0, ""), (1, "")]
    assert said in one.error and "cannot be trusted" in one.error


def test_live_a_camera_may_be_ahead_by_what_it_states_of_its_times(capture):
    def film() -> Film:
        early = Frame(1, 2 * PERIOD_NS, 2 * PERIOD_NS - 8_000_000, picture(1))
        return Film(frame(0), early, frame(2))

    stated, exact = capture(film(), time_sd_us=1000.0), capture(film())
    assert logged(whole(stated)) == [(0, ""), (1, ""), (2, "")] and stated.error is None, "five times ± 1 ms, and 5 ms"
    assert logged(whole(exact)) == [(0, "")] and "cannot be trusted" in exact.error


def test_a_replay_takes_a_recording_s_times_as_they_are(capture):
    one = capture(Film(Frame(0, 10**10, 0, picture(0)), frame(1, at_ns=10**10 + PERIOD_NS)), live=False)
    assert logged(whole(one)) == [(0, ""), (1, "")] and one.error is None


@pytest.mark.parametrize(("empty", "silent"), [(4, False), (5, True)])
def test_live_five_periods_without_a_frame_are_silence(capture, empty, silent):
    """Looks that came back empty count, not the time that a busy computer did not look."""
    seen: list[bool] = []
    gate = threading.Event()

    class Gated(Film):
        def start(self) -> None:
            assert gate.wait(10)
            super().start()

        def read(self, timeout_s: float) -> Frame | None:
            assert timeout_s == pytest.approx(0.01), "a look is a frame period long"
            seen.append(one.silent)
            return super().read(timeout_s)

    one = capture(Gated(frame(0), *[None] * empty, frame(1), frame(2)))
    gate.set()
    whole(one)
    assert (True in seen) is silent and not one.silent, "it ends with the next frame"


def test_live_a_camera_that_gives_the_same_frame_for_ever_is_silent_and_ends_the_run(capture, monkeypatch):
    monkeypatch.setattr("hspc_live.processes.capture.STALL_S", 0.3)
    seen: list[bool] = []
    gate = threading.Event()

    class Stuck(Film):
        def start(self) -> None:
            assert gate.wait(10)
            super().start()

        def read(self, timeout_s: float) -> Frame | None:
            seen.append(one.silent)
            time.sleep(0.005)
            return super().read(timeout_s) if self._frames else frame(1)

    one = capture(Stuck(frame(0), frame(1)))
    gate.set()
    assert logged(whole(one)) == [(0, ""), (1, "")] and one.out_of_order > 3
    assert seen[-1] and not seen[2], "first it is silent, for which the sorter is disarmed"
    assert one.error is not None and "has given no frame for" in one.error


def test_a_replay_is_never_silent(capture):
    one = capture(Film(frame(0), *[None] * 20, frame(1)), live=False)
    assert logged(whole(one)) == [(0, ""), (1, "")] and not one.silent


def test_a_repeated_frame_of_a_file_ends_the_stream_and_is_said(capture):
    one = capture(Film(frame(1), frame(1)), counts_gaps=False)
    assert logged(whole(one)) == [(1, "")] and "came after frame 1" in one.error


@pytest.mark.parametrize(
    "pixels", [picture(2, (24, 30)), picture(2, (30, 24)), picture(2, dtype="uint16")], ids=["width", "turned", "type"]
)
def test_a_frame_of_another_format_ends_the_run_and_names_both(capture, pixels):
    one = capture(Film(frame(0), frame(1), frame(2, pixels=pixels), frame(3)))
    assert logged(whole(one)) == [(0, ""), (1, "")], "what came before is kept"
    assert "frame 2" in one.error and "24 x 32" in one.error and "new run" in one.error


def test_frozen_frames_are_marked_but_kept(capture):
    still = picture(0)
    one = capture(Film(frame(0, pixels=still), frame(1, pixels=still.copy()), frame(2)))
    assert [item.entry.alarm for item in whole(one)] == ["", "frozen", ""]


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_saturated_frames_pass_through(capture, level):
    flat = np.full(SHAPE, level, np.uint8)
    assert logged(whole(capture(Film(frame(0, pixels=flat), frame(1))))) == [(0, ""), (1, "")]


def test_time_that_runs_backwards_is_handed_on_as_it_is(capture):
    """The sort core refuses to track such a frame, and says so; here nothing may break."""
    one = capture(Film(frame(0, at_ns=500), frame(1, at_ns=400), frame(5, at_ns=300)))
    items = whole(one)
    assert logged(items) == [(0, ""), (1, ""), (2, "camera"), (3, "camera"), (4, "camera"), (5, "")]
    assert one.error is None and items[-1].entry.captured_ns == 300


def test_live_a_full_ring_drops_and_says_so(capture):
    one = capture(Film(*map(frame, range(SLOTS + 3))))
    items = whole(one)
    assert logged(items)[SLOTS:] == [(i, "ring_full") for i in range(SLOTS, SLOTS + 3)]
    assert one.dropped == {"ring_full": 3} and one.captured == SLOTS + 3


def test_replay_waits_for_a_slot_and_drops_nothing(capture):
    news = threading.Semaphore(0)
    one = capture(Film(*map(frame, range(SLOTS + 3))), live=False, wake=news.release)
    items: list[Captured] = []
    while not (one.finished and not one.pending):
        assert news.acquire(timeout=30), f"the capture stopped after {len(items)} frames"
        for item in one.take():
            one.free(item.ticket.slot)
            items.append(item)
    assert logged(items) == [(i, "") for i in range(SLOTS + 3)] and not one.dropped


def test_a_stop_ends_the_wait_for_a_slot(capture):
    one = capture(Film(*map(frame, range(SLOTS + 3))), live=False)
    one.stop()
    one.join()
    assert one.finished and one.error is None and len(one.take()) <= SLOTS


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (DeviceError("the cable is out"), "the cable is out"),
        (DataLoss("half the file is gone"), "data loss: half the file is gone"),
        (RuntimeError("bug"), "camera driver failed: RuntimeError: bug"),
    ],
)
def test_a_failing_camera_ends_the_stream_and_what_came_before_is_kept(capture, failure, said):
    camera = Film(frame(0), failure, frame(1))
    one = capture(camera)
    assert logged(whole(one)) == [(0, "")]
    assert one.error == said and not camera.running


def test_a_live_camera_that_falls_silent_is_an_error(capture, monkeypatch):
    monkeypatch.setattr("hspc_live.processes.capture.STALL_S", 0.05)

    class Silent(Film):
        def read(self, timeout_s: float) -> Frame | None:
            return super().read(timeout_s) if self._frames else None

    one = capture(Silent(frame(0)))
    assert logged(whole(one)) == [(0, "")] and "no frame for" in one.error
