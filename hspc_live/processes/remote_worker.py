"""A segment worker on another computer: it has no ring and no plan, only a guarded link to the run's door.

It holds no state that matters, like every segment worker: it may vanish at any moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

import cv2
from msgspec import Struct
from numpy.typing import NDArray

from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import WireError
from hspc_live.core.values import FrameResult, Modality, Pixels
from hspc_live.processes.results import pack_results
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages.segment import Segmenter
from hspc_live.wire.codec import Decoder, encode
from hspc_live.wire.keys import Pass
from hspc_live.wire.links import Link, open_dealer
from hspc_live.wire.remote import Alive, Bye, Done, FromDoor, Hello, Offer, Unknown, Welcome, Work, printable

CREDIT = 4
LOOP_S = 0.05
ALIVE_S = 0.5
HELLO_S = 1.0
PATIENCE_S = 10.0


@dataclass(slots=True)
class _Post:
    """What a run has let this worker know."""

    segment: Segmenter
    snapshots: dict[int, tuple[Pixels, float]] = field(default_factory=dict)


class RemoteWorker:
    """Works for the run behind `link` until it is over; `say` hears what happens."""

    def __init__(self, link: Link, name: str, say: Callable[[str], None]) -> None:
        self._link = link
        self._name = name
        self._say = say
        self._decoder = Decoder[FromDoor](FromDoor)
        self._post: _Post | None = None
        self._over = ""
        self._heard_s = time.monotonic()
        self._alive_at = self._hello_at = 0.0
        self.frames = 0

    async def run(self) -> str:
        """Why it is over. Raises WireError when the door does not answer, at first or any more."""
        while not self._over:
            self._turn()
            await self._link.wait_readable(LOOP_S)
            while not self._over and (got := self._link.try_recv()) is not None:
                self._heard_s = time.monotonic()
                decoded = self._decoder.decode(got[1])
                self._hear(decoded.message, decoded.arrays)
        return self._over

    def _turn(self) -> None:
        """Say Hello until welcomed, then that we are alive. For waits inside the work, too."""
        now_s = time.monotonic()
        if now_s - self._heard_s > PATIENCE_S:
            if self._post is not None:
                raise WireError(f"the run at {self._link.address} has fallen silent")
            raise WireError(
                f"nobody answers at {self._link.address}: is a run under way that listens there (door.listen), and is "
                "this computer's public key on its list (door.keys.allow)?"
            )
        if self._post is None and now_s - self._hello_at >= HELLO_S:
            self._hello_at = now_s
            self._tell(Hello(self._name))
        if self._post is not None and now_s - self._alive_at >= ALIVE_S:
            self._alive_at = now_s
            self._tell(Alive())

    def _tell(self, message: Struct) -> None:
        self._link.try_send(encode(message))  # a full queue means a door that does not listen: silence ends it

    def _hear(self, message: FromDoor, arrays: Sequence[NDArray[Any]]) -> None:
        match message:
            case Welcome() if self._post is None:
                self._post = _Post(_segmenter(message))
                self._say(f"welcome to run {printable(message.run)}")
                self._tell(Offer(CREDIT))
            case Work() if self._post is not None:
                self._do(self._post, message, arrays)
            case Unknown():
                self._post = None
                self._hello_at = 0.0
            case Bye(why):
                self._over = printable(why)
            case Welcome() | Work() | Alive():
                pass
            case _:
                assert_never(message)

    def _do(self, post: _Post, work: Work, arrays: Sequence[NDArray[Any]]) -> None:
        held = dict(post.snapshots)
        for head, pixels in zip(work.snapshots, arrays, strict=False):
            held[head.number] = (pixels, head.noise_sd)
        frames = arrays[len(work.snapshots) :]
        results: list[FrameResult] = []
        for frame, pixels in zip(work.frames, frames, strict=True):
            background, noise_sd = held[frame.background]
            results.append(post.segment(frame.index, frame.captured_ns, pixels, background, frame.background, noise_sd))
            self._turn()
        newest = work.snapshots[-1].number if work.snapshots else max(held)
        post.snapshots = {newest: held[newest]}  # what comes next has this one, or a newer one that comes with it
        if not results:
            return
        self.frames += len(results)
        parts = done(work.number, results)
        while not self._link.try_send(parts):
            time.sleep(0.001)
            self._turn()


def done(number: int, results: list[FrameResult]) -> list[Any]:
    """The answer to a piece of work."""
    heads, arrays = pack_results(results)
    return encode(Done(number, heads), arrays)


def _segmenter(welcome: Welcome) -> Segmenter:
    settings = SegmentSettings.model_validate_json(welcome.segment)
    geometry = CropGeometry(welcome.crop_px, welcome.crop_um_per_px)
    return Segmenter(settings, welcome.um_per_px, Modality(welcome.modality), geometry, welcome.window_px)


def work_far_away(address: str, name: str, own: Pass, say: Callable[[str], None]) -> tuple[int, str]:
    """Join the run at `address` until it is over: frames done, and why it ended. Raises WireError."""
    cv2.setNumThreads(1)
    with open_dealer(address, None, own) as link:
        worker = RemoteWorker(link, name, say)
        try:
            why = asyncio.run(worker.run())
            return worker.frames, why
        finally:
            link.try_send(encode(Bye("going")))
