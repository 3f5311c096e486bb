"""The camera half of acquire: one thread that turns what the camera gives into log entries and ring slots.

It decides nothing about cells. It books every gap, before the first frame and behind the last one too, counts what
comes twice or out of order, refuses a frame of another shape or with an impossible time, marks a frozen one, asks the
background for its snapshot, and either waits for a free slot (replay) or drops the frame and says so (live).
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hspc_live.core.clock import NS_PER_S, NS_PER_US
from hspc_live.core.errors import DataLoss, DeviceError, HspcError
from hspc_live.core.protocols import Camera, EndOfStream
from hspc_live.core.values import CameraInfo, Frame, Pixels
from hspc_live.settings.schema import RunSettings
from hspc_live.stages.background import Background, Snapshot
from hspc_live.wire.messages import Entry, Ticket
from hspc_live.wire.ring import PixelRing

READ_S = 0.1
LARGEST_GAP = 100_000
STALL_S = 2.0
LEAST_LOOK_S = 0.002
OVERSLEPT = 3.0  # a look that took so many times as long as it should has looked at nothing
BACK_NS = NS_PER_S  # so far back is another time base; less is the sort core's, which disarms
AHEAD_NS = 5_000_000  # no driver can honestly be ahead of its frame's coming, but for what it states (`time_sd_us`)
SURE = 5.0  # standard deviations


@dataclass(frozen=True, slots=True, eq=False)
class Captured:
    """One entry of the capture log, with its ticket and background where there are pixels."""

    entry: Entry
    ticket: Ticket | None = None
    snapshot: Snapshot | None = None


class Capture:
    """Reads `camera` in a thread until it ends, fails or is stopped. `take` empties what has gathered."""

    def __init__(
        self,
        camera: Camera,
        info: CameraInfo,
        settings: RunSettings,
        ring: PixelRing,
        *,
        live: bool,
        wake: Callable[[], None],
    ) -> None:
        self._camera = camera
        self._info = info
        self._dtype = np.dtype(info.dtype)
        self._ring = ring
        self._live = live
        self._wake = wake
        self._background = Background(settings.background, (info.height_px, info.width_px), self._dtype)
        self._free: deque[int] = deque(range(settings.pipeline.ring_slots))
        self._slots = threading.Semaphore(settings.pipeline.ring_slots)
        self._out: deque[Captured] = deque()
        self._stop = threading.Event()
        self._pacing = threading.Lock()
        self._left: int | None = None  # frames to let through before holding still; None: go on
        self._paced = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._expected: int | None = 0 if info.counts_gaps else None
        self._last_ns: int | None = None
        self._ahead_ns = AHEAD_NS + round(SURE * info.time_sd_us * NS_PER_US)
        self._period_ns = round(NS_PER_S / info.frames_per_s) if info.frames_per_s > 0 else 0
        self._previous: Pixels | None = None
        self._snapshot: Snapshot | None = None
        self._look_s = READ_S
        if live and info.frames_per_s > 0:
            self._look_s = min(READ_S, max(LEAST_LOOK_S, 1.0 / info.frames_per_s))
        self._quiet_s = 0.0
        self._silent_s = settings.pipeline.silent_periods / info.frames_per_s if info.frames_per_s > 0 else 0.0
        self._stall_s = max(STALL_S, 5.0 / info.frames_per_s) if info.frames_per_s > 0 else STALL_S
        self.busy_ns = 0
        self.silent = False  # live: no frame for some periods, in which it was looked for one
        self.captured = 0
        self.out_of_order = 0  # frames that came twice, or after a later one
        self._stray = False
        self.dropped: Counter[str] = Counter()
        self.error: str | None = None
        self.warnings: list[str] = []
        self.finished = False

    def start(self) -> None:
        """Start the sequence."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end; frames already taken stay."""
        self._stop.set()

    def join(self) -> None:
        """Wait for the thread's end."""
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def pending(self) -> bool:
        """Whether something waits to be taken."""
        return bool(self._out)

    def take(self) -> list[Captured]:
        """What has gathered since the last call, in capture order."""
        batch: list[Captured] = []
        while self._out:
            batch.append(self._out.popleft())
        return batch

    @property
    def held(self) -> int:
        """How many slots of the ring are taken."""
        return self._ring.slots - len(self._free)

    def pace(self, frames: int | None) -> None:
        """Replay: let `frames` more through and then hold still; None lets the replay go on."""
        with self._pacing:
            self._left = frames
        self._paced.set()

    def free(self, slot: int) -> None:
        """A slot's pixels are needed no longer."""
        self._free.append(slot)
        self._slots.release()

    def _run(self) -> None:
        try:
            self._camera.start()
            self._read()
        except EndOfStream:
            pass
        except DataLoss as error:
            self.error = f"data loss: {error}"
        except HspcError as error:
            self.error = str(error)
        except Exception as error:  # a driver's bug must end the run loudly, not its thread silently
            self.error = f"camera driver failed: {type(error).__name__}: {error}"
        finally:
            try:
                self._camera.stop()
                self._book_end()
            except HspcError as error:
                self.warnings.append(f"camera did not stop cleanly: {error}")
            except Exception as error:  # likewise: whoever waits for the end must not wait for ever
                self.warnings.append(f"camera driver failed at the stop: {type(error).__name__}: {error}")
            self.finished = True
            self._wake()

    def _read(self) -> None:
        last_frame = time.monotonic()
        while not self._stop.is_set():
            if self._left == 0:
                self._paced.wait(READ_S)
                self._paced.clear()
                continue
            looked = time.monotonic()
            frame = self._camera.read(self._look_s)
            if frame is None:
                self._look_for_silence(time.monotonic() - looked, self._look_s)
            else:
                with self._pacing:
                    if self._left:
                        self._left -= 1
                started = time.thread_time_ns()
                new = self._put(frame)
                self.busy_ns += time.thread_time_ns() - started
                if new:
                    last_frame = time.monotonic()
                    self._quiet_s, self.silent = 0.0, False
                    continue
                took_s = time.monotonic() - looked
                self._look_for_silence(took_s, min(took_s, self._look_s))
            if self._live and time.monotonic() - last_frame > self._stall_s:
                raise DeviceError(f"the camera has given no frame for {self._stall_s:.1f} s")

    def _look_for_silence(self, took_s: float, counts_s: float) -> None:
        """A look came back empty, or with what came before. A computer that was busy elsewhere has not looked."""
        if not self._live or not self._silent_s or took_s > OVERSLEPT * self._look_s:
            return
        self._quiet_s += counts_s
        if not self.silent and self._quiet_s > self._silent_s - self._look_s / 2:
            self.silent = True
            self._wake()

    def _put(self, frame: Frame) -> bool:
        """Book a frame; False for one that came before. Raises DeviceError for one that ends the run."""
        pixels = frame.pixels
        if pixels.shape != (self._info.height_px, self._info.width_px) or pixels.dtype != self._dtype:
            raise DeviceError(
                f"frame {frame.index} is {pixels.dtype} {pixels.shape[0]} x {pixels.shape[1]}, the run began with "
                f"{self._info.dtype} {self._info.height_px} x {self._info.width_px}: start a new run for a new format"
            )
        if self._is_stray(frame):
            self.out_of_order += 1
            self._stray = True
            return False
        self._check_time(frame)
        self._book_gap(frame)
        alarm = "frozen" if self._previous is not None and np.array_equal(pixels, self._previous) else ""
        if self._stray:
            alarm, self._stray = alarm or "out_of_order", False
        self._previous = pixels
        snapshot = self._background.update(pixels, frame.captured_ns, frame.background)
        if snapshot is not None:
            self._snapshot = snapshot
        assert self._snapshot is not None, "the first frame yields a snapshot"
        slot = self._slot()  # ends the stream if the run is stopped while it waits: then this frame was never taken
        self.captured += 1
        if slot is None:
            self.dropped["ring_full"] += 1
            self._emit(Captured(Entry(frame.index, frame.captured_ns, frame.received_ns, "ring_full", alarm)))
            return True
        generation = self._ring.write(slot, pixels)
        ticket = Ticket(frame.index, frame.captured_ns, frame.received_ns, slot, generation, self._snapshot.number)
        entry = Entry(frame.index, frame.captured_ns, frame.received_ns, "", alarm, slot, generation)
        self._emit(Captured(entry, ticket, self._snapshot))
        return True

    def _is_stray(self, frame: Frame) -> bool:
        """Whether it came before, or after a later one, when it was booked as dropped: its moment has been settled.

        A camera that counts anew has later times.
        """
        expected, last_ns = self._expected, self._last_ns
        if not self._info.counts_gaps or expected is None or last_ns is None:
            return False
        return frame.index < expected and frame.captured_ns <= last_ns

    def _check_time(self, frame: Frame) -> None:
        """Live: a deadline can only be kept by times that can be true. Raises DeviceError."""
        if not self._live:
            return
        ahead_ns = frame.captured_ns - frame.received_ns
        back_ns = 0 if self._last_ns is None else self._last_ns - frame.captured_ns
        if ahead_ns > self._ahead_ns:
            by_ns, what = ahead_ns, "after it came"
        elif back_ns > BACK_NS:
            by_ns, what = back_ns, "before the one ahead of it"
        else:
            return
        by = f"{by_ns / NS_PER_S:.3f} s {what}"
        raise DeviceError(f"frame {frame.index} was taken {by}, by the camera's clock: it cannot be trusted")

    def _book_gap(self, frame: Frame) -> None:
        if self._expected is not None and self._info.counts_gaps:
            gap = frame.index - self._expected
            if not 0 <= gap <= LARGEST_GAP:
                raise DeviceError(
                    f"frame number jumped from {self._expected - 1} to {frame.index}"
                    if self._last_ns is not None
                    else f"the first frame has number {frame.index}: the camera's numbers must count from its start"
                )
            if self._last_ns is None:
                self._last_ns = max(0, frame.captured_ns - (gap + 1) * self._period_ns)
            step_ns = (frame.captured_ns - self._last_ns) // (gap + 1)
            self._book_dropped(frame.index, self._last_ns, step_ns, frame.received_ns)
        elif self._expected is not None and frame.index < self._expected:
            raise DeviceError(f"frame {frame.index} came after frame {self._expected - 1}")
        self._expected = frame.index + 1
        self._last_ns = frame.captured_ns

    def _book_end(self) -> None:
        """Book what the camera took after the last frame that came: no later one will show the gap."""
        exposed = self._camera.exposed
        if exposed is None or self._expected is None or not self._info.counts_gaps:
            return
        if not 0 <= exposed - self._expected <= LARGEST_GAP:
            raise DeviceError(f"it counts {exposed} frames, the last one it gave had number {self._expected - 1}")
        now_ns = time.perf_counter_ns()
        last_ns = self._last_ns if self._last_ns is not None else now_ns - exposed * self._period_ns
        self._book_dropped(exposed, last_ns, self._period_ns, now_ns)

    def _book_dropped(self, until: int, last_ns: int, step_ns: int, received_ns: int) -> None:
        """Frames from the expected one to before `until`; the first was due `step_ns` after `last_ns`, and so on."""
        assert self._expected is not None
        for position, index in enumerate(range(self._expected, until), start=1):
            self.captured += 1
            self.dropped["camera"] += 1
            self._emit(Captured(Entry(index, last_ns + position * step_ns, received_ns, "camera")))

    def _slot(self) -> int | None:
        """A free slot; live None when there is none, otherwise wait for one (or for the stop)."""
        if self._live:
            return self._free.popleft() if self._slots.acquire(blocking=False) else None
        while not self._slots.acquire(timeout=READ_S):
            if self._stop.is_set():
                raise EndOfStream
        return self._free.popleft()

    def _emit(self, item: Captured) -> None:
        self._out.append(item)
        if len(self._out) == 1:  # whoever takes what lies before it takes this too
            self._wake()
