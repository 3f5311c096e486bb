"""How fast messages and pixels move between two processes of this machine, beside a plain copy in memory.

Run it as `python tools/bench_link.py [--repeats 5] [--json]`. Every figure is the median of the repeats with the
smallest and the largest; all of them, memcpy too, come from one run. `round_trips_per_s`: one small message there and
back, each awaited in an asyncio loop. `messages_per_s`: small messages one way, as many as the queue takes. `MB_per_s`:
frames of pixels one way: in the message (`ipc`, `tcp`), or in the ring with a ticket over ipc (`ring`), where the
receiver reads every byte (`read`) or only checks the ticket (`ring`). `ring_write` is the writer alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hspc_live.wire.codec import Decoder, encode
from hspc_live.wire.links import Link, endpoint, open_dealer, open_router, private_folder
from hspc_live.wire.messages import Lease, Release, Ticket
from hspc_live.wire.ring import PixelRing, pixel_folder

SHAPES = ((80, 320), (256, 1024), (2048, 2048))
SLOTS = 32
PEER = b"peer"


async def _receive(link: Link, ring: PixelRing, touch: bool) -> None:
    """The peer: take frames out of messages or the ring, give slots back, answer what is no lease."""
    decoder: Decoder[Lease | Release] = Decoder(Lease | Release)
    while True:
        await link.wait_readable()
        while (got := link.try_recv()) is not None:
            if got[1] == [b"quit"]:
                return
            decoded = decoder.decode(got[1])
            message = decoded.message
            if isinstance(message, Release):  # a probe: send it back, or at the end of a burst say so
                if message.indices:
                    await _send(link, encode(message))
                continue
            for ticket in message.frames:
                if decoded.arrays:
                    if touch:
                        decoded.arrays[0].max()
                else:
                    view = ring.view(ticket.slot, ticket.generation, message.shape, message.dtype)
                    if touch:
                        view.max()
                    if not ring.still_valid(ticket.slot, ticket.generation):
                        sys.exit("a slot was overwritten before it was given back")
            await _send(link, encode(Release([ticket.slot for ticket in message.frames])))


async def _send(link: Link, parts: list[Any], to: bytes | None = None) -> None:
    while not link.try_send(parts, to):
        await asyncio.sleep(0.0002)


def _peer(address: str, ring_path: str, touch: bool) -> None:
    ring = PixelRing.attach(Path(ring_path))
    with open_dealer(address, PEER) as link:
        link.try_send(encode(Release([-1])))
        asyncio.run(_receive(link, ring, touch))


class Bench:
    """One peer process behind one link, with a ring between them."""

    def __init__(self, transport: str, slot_bytes: int, touch: bool) -> None:
        self._folder = private_folder()
        self._pixels = pixel_folder(self._folder)
        self._ring = PixelRing.create(self._pixels, SLOTS, slot_bytes)
        self._link = open_router(endpoint(self._folder, "bench") if transport == "ipc" else "tcp://127.0.0.1:*")
        self._decoder = Decoder(Release)
        context = multiprocessing.get_context("spawn")
        self._peer = context.Process(target=_peer, args=(self._link.address, str(self._ring.path), touch))
        self._peer.start()

    async def _next(self) -> list[int]:
        while (got := self._link.try_recv()) is None:
            if not await self._link.wait_readable(20):
                raise TimeoutError("the peer does not answer")
        return self._decoder.decode(got[1]).message.indices

    async def begin(self) -> None:
        """Wait for the peer."""
        await self._next()

    async def end(self) -> None:
        """Send the peer home; leave no file."""
        await _send(self._link, [b"quit"], PEER)
        self._peer.join(20)
        self._link.close()
        self._ring.close()
        shutil.rmtree(self._pixels, ignore_errors=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def round_trips(self, count: int) -> float:
        """Small messages there and back, per second."""
        probe = encode(Release([1]))
        started = time.perf_counter()
        for _ in range(count):
            await _send(self._link, probe, PEER)
            await self._next()
        return count / (time.perf_counter() - started)

    async def one_way(self, count: int) -> float:
        """Small messages to the peer, encoded and decoded each, per second."""
        started = time.perf_counter()
        for _ in range(count):
            await _send(self._link, encode(Release([])), PEER)
        await _send(self._link, encode(Release([1])), PEER)
        await self._next()
        return count / (time.perf_counter() - started)

    async def pixels(self, frames: list[NDArray[Any]], count: int, *, by_ring: bool) -> float:
        """Frames to the peer, MB/s; at most `SLOTS` are under way."""
        free = list(range(SLOTS))
        shape = frames[0].shape
        started = time.perf_counter()
        for number in range(count):
            while not free:
                free += await self._next()
            slot = free.pop(0)
            frame = frames[number % len(frames)]
            generation = self._ring.write(slot, frame) if by_ring else 0
            lease = Lease([Ticket(number, 0, 0, slot, generation, 0)], (shape[0], shape[1]), frame.dtype.str, [])
            await _send(self._link, encode(lease, [] if by_ring else [frame]), PEER)
        while len(free) < SLOTS:
            free += await self._next()
        return count * frames[0].nbytes / (time.perf_counter() - started) / 1e6

    def ring_write(self, frames: list[NDArray[Any]], count: int) -> float:
        """The writer's side alone, MB/s."""
        return _rate(lambda n: self._ring.write(n % SLOTS, frames[n % len(frames)]), frames[0].nbytes, count)


def _rate(step: Callable[[int], object], size: int, count: int) -> float:
    started = time.perf_counter()
    for number in range(count):
        step(number)
    return count * size / (time.perf_counter() - started) / 1e6


def _summary(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 1), "min": round(min(values), 1), "max": round(max(values), 1)}


async def measure(repeats: int) -> dict[str, Any]:
    """All figures of one run."""
    result: dict[str, Any] = {}
    for transport in ("ipc", "tcp"):
        bench = Bench(transport, 1024, touch=False)
        await bench.begin()
        await bench.one_way(2000)
        result[transport] = {
            "round_trips_per_s": _summary([await bench.round_trips(1000) for _ in range(repeats)]),
            "messages_per_s": _summary([await bench.one_way(20_000) for _ in range(repeats)]),
        }
        await bench.end()
    for shape in SHAPES:
        size = shape[0] * shape[1]
        count = max(40, min(4000, (256 << 20) // size))
        frames = [np.full(shape, n, np.uint8) for n in range(SLOTS)]
        targets = [np.zeros(shape, np.uint8) for _ in range(SLOTS)]

        def copy(n: int, targets: list[Any] = targets, frames: list[Any] = frames) -> None:
            np.copyto(targets[n % SLOTS], frames[n % SLOTS])

        rows: dict[str, list[float]] = {name: [] for name in ("memcpy", "ring_write", "ring", "read", "ipc", "tcp")}
        plain, reading, tcp = Bench("ipc", size, False), Bench("ipc", size, True), Bench("tcp", size, False)
        for bench in (plain, reading, tcp):
            await bench.begin()
            await bench.pixels(frames, SLOTS, by_ring=True)
        _rate(copy, size, count)
        for _ in range(repeats):
            rows["memcpy"].append(_rate(copy, size, count))
            rows["ring_write"].append(plain.ring_write(frames, count))
            rows["ring"].append(await plain.pixels(frames, count, by_ring=True))
            rows["read"].append(await reading.pixels(frames, count, by_ring=True))
            rows["ipc"].append(await plain.pixels(frames, count, by_ring=False))
            rows["tcp"].append(await tcp.pixels(frames, count, by_ring=False))
        for bench in (plain, reading, tcp):
            await bench.end()
        result[f"{shape[0]}x{shape[1]}"] = {
            "MB_per_s": {name: _summary(values) for name, values in rows.items()},
            "of_memcpy": {
                name: round(statistics.median(values) / statistics.median(rows["memcpy"]), 3)
                for name, values in rows.items()
            },
        }
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = asyncio.run(measure(options.repeats))
    if options.json:
        print(json.dumps(result))
        return
    for name, figures in result.items():
        for what, values in figures.get("MB_per_s", figures).items():
            unit = " MB/s" if "MB_per_s" in figures else ""
            share = f"  {figures['of_memcpy'][what]:.2f} of memcpy" if "of_memcpy" in figures else ""
            spread = f"({values['min']:,.0f} to {values['max']:,.0f})"
            print(f"{name:>10} {what:<18} {values['median']:>10,.0f}{unit} {spread}{share}")


if __name__ == "__main__":
    main()
