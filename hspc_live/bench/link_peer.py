"""Two processes with a link and a ring between them, as acquire and a segment worker have: what `bench link` drives.

The peer takes frames out of messages or of the ring, gives their slots back, and answers what is no lease.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import shutil
import time
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import WireError
from hspc_live.wire.codec import Decoder, encode
from hspc_live.wire.links import Link, endpoint, open_dealer, open_router, private_folder
from hspc_live.wire.messages import Lease, Release, Ticket
from hspc_live.wire.ring import PixelRing, pixel_folder

SLOTS: Final = 32
FRAMES_PER_LEASE: Final = 16
PEER: Final = b"peer"
QUIT: Final = b"quit"
ANSWER_S: Final = 30.0


class Pair:
    """Our process and a peer that it starts: `async with Pair("ipc", slot_bytes, touch=False)`.

    `touch`: the peer reads every byte of what it is sent. Raises WireError where the peer does not answer.
    """

    def __init__(self, transport: str, slot_bytes: int, *, touch: bool) -> None:
        self._folder = private_folder()
        self._pixels = pixel_folder(self._folder)
        self._ring = PixelRing.create(self._pixels, SLOTS, slot_bytes)
        self._link = open_router(endpoint(self._folder, "bench") if transport == "ipc" else "tcp://127.0.0.1:*")
        self._decoder = Decoder(Release)
        context = multiprocessing.get_context("spawn")
        self._peer = context.Process(target=peer, args=(self._link.address, str(self._ring.path), touch))

    async def __aenter__(self) -> Self:
        self._peer.start()
        await self._next()
        return self

    async def __aexit__(self, *_: object) -> None:
        await send(self._link, [QUIT], PEER)
        self._peer.join(ANSWER_S)
        if self._peer.is_alive():
            self._peer.kill()
        self._link.close()
        self._ring.close()
        for folder in (self._pixels, self._folder):
            shutil.rmtree(folder, ignore_errors=True)

    async def round_trips(self, count: int) -> float:
        """Small messages there and back, per second."""
        probe = encode(Release([1]))
        started = time.perf_counter()
        for _ in range(count):
            await send(self._link, probe, PEER)
            await self._next()
        return count / (time.perf_counter() - started)

    async def one_way(self, count: int) -> float:
        """Small messages to the peer, encoded and decoded each, per second."""
        started = time.perf_counter()
        for _ in range(count):
            await send(self._link, encode(Release([])), PEER)
        await send(self._link, encode(Release([1])), PEER)
        await self._next()
        return count / (time.perf_counter() - started)

    async def pixels(self, frames: list[NDArray[Any]], count: int, *, by_ring: bool) -> float:
        """Frames to the peer, MB/s; at most `SLOTS` are under way, as many to a message as are free, up to 16."""
        free = list(range(SLOTS))
        shape = (frames[0].shape[0], frames[0].shape[1])
        dtype = frames[0].dtype.str
        most = FRAMES_PER_LEASE if by_ring else 1
        started = time.perf_counter()
        sent = 0
        while sent < count:
            while not free:
                free += await self._next()
            tickets: list[Ticket] = []
            arrays: list[NDArray[Any]] = []
            while free and sent < count and len(tickets) < most:
                slot, frame = free.pop(0), frames[sent % len(frames)]
                generation = self._ring.write(slot, frame) if by_ring else 0
                tickets.append(Ticket(sent, 0, 0, slot, generation, 0))
                arrays += [] if by_ring else [frame]
                sent += 1
            await send(self._link, encode(Lease(tickets, shape, dtype, []), arrays), PEER)
        while len(free) < SLOTS:
            free += await self._next()
        return count * frames[0].nbytes / (time.perf_counter() - started) / 1e6

    def write(self, slot: int, frame: NDArray[Any]) -> int:
        """The writer's side alone."""
        return self._ring.write(slot, frame)

    async def _next(self) -> list[int]:
        while (got := self._link.try_recv()) is None:
            if not await self._link.wait_readable(ANSWER_S):
                raise WireError(f"the other process of `bench link` has not answered for {ANSWER_S:g} s")
        return self._decoder.decode(got[1]).message.indices


async def send(link: Link, parts: list[Any], to: bytes | None = None) -> None:
    """Send as soon as the queue takes it."""
    while not link.try_send(parts, to):
        await asyncio.sleep(0.0002)


def peer(address: str, ring_path: str, touch: bool) -> None:
    """What the other process runs."""
    ring = PixelRing.attach(Path(ring_path))
    with open_dealer(address, PEER) as link:
        link.try_send(encode(Release([-1])))
        asyncio.run(_receive(link, ring, touch))


async def _receive(link: Link, ring: PixelRing, touch: bool) -> None:
    decoder: Decoder[Lease | Release] = Decoder(Lease | Release)
    while True:
        await link.wait_readable()
        while (got := link.try_recv()) is not None:
            if got[1] == [QUIT]:
                return
            decoded = decoder.decode(got[1])
            match decoded.message:
                case Release(indices):  # a probe: send it back, or at the end of a burst say so
                    if indices:
                        await send(link, encode(decoded.message))
                case Lease() as lease:
                    _take(lease, decoded.arrays, ring, touch)
                    await send(link, encode(Release([ticket.slot for ticket in lease.frames])))


def _take(lease: Lease, arrays: Any, ring: PixelRing, touch: bool) -> None:
    """Look at the frames of a lease. Raises StaleSlot if one was overwritten before it was given back."""
    if arrays:
        if touch:
            arrays[0].max()
        return
    for ticket in lease.frames:
        view = ring.view(ticket.slot, ticket.generation, lease.shape, np.dtype(lease.dtype))
        if touch:
            view.max()
        if not ring.still_valid(ticket.slot, ticket.generation):
            raise WireError("a slot was overwritten before it was given back")
