"""bench link: how fast messages and pixels move between two processes of this machine, beside a plain copy in memory.

`memcpy` copies frames within one process. `ring`: frames written into the ring, their tickets sent over ipc, several
to a message as a run does it; the receiver checks each slot and gives it back. `ring_read`: the receiver also reads
every byte. `ring_write`: the writer alone. `ipc` and `tcp`: the pixels travel in the message. All take turns within
every repeat. `round_trips_per_s` is one small message there and back, each awaited; `messages_per_s` small messages
one way, encoded and decoded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hspc_live.bench.figures import Began, Figure, Say, digits, result
from hspc_live.bench.link_peer import SLOTS, Pair

SHAPES: Final = ((80, 320), (256, 1024), (2048, 2048))
BYTES: Final = 256 << 20
LEAST_FRAMES, MOST_FRAMES = 40, 4000
ROUND_TRIPS, MESSAGES = 1000, 20_000


def measure_link(repeats: int, say: Say, share: float = 1.0) -> dict[str, Any]:
    """The whole bench as JSON; `share` of the usual amounts is moved. Raises WireError if the peer does not answer."""
    return asyncio.run(_measure(repeats, say, share))


async def _measure(repeats: int, say: Say, share: float) -> dict[str, Any]:
    began = Began.now()
    figures: dict[str, Figure] = {}
    messages: dict[str, dict[str, float]] = {}
    for transport in ("ipc", "tcp"):
        say(f"messages over {transport} …")
        rates = await _messages(transport, repeats, share)
        messages[transport] = {name: rate.median for name, rate in rates.items()}
        figures |= {f"{transport} {name}": rate for name, rate in rates.items()}
    pixels = []
    for shape in SHAPES:
        say(f"frames of {shape[0]} × {shape[1]} …")
        rows = await _pixels(shape, repeats, share)
        of = {name: Figure.of([a / b for a, b in zip(rows[name], rows["memcpy"], strict=True)], "") for name in rows}
        rate = {name: Figure.of(values, "MB/s") for name, values in rows.items()}
        label = f"{shape[0]}x{shape[1]}"
        figures |= {f"{label} {name}": figure for name, figure in rate.items()}
        pixels.append(
            {
                "frame": list(shape),
                "MB_per_s": {name: figure.median for name, figure in rate.items()},
                "MB_per_s_range": {name: figure.range for name, figure in rate.items()},
                "of_memcpy": {name: digits(figure.median, 3) for name, figure in of.items()},
            }
        )
    asked = {"repeats": repeats, "share": share}
    return result("link", asked, figures, {"pixels": pixels, "messages": messages}, began)


async def _messages(transport: str, repeats: int, share: float) -> dict[str, Figure]:
    async with Pair(transport, 1024, touch=False) as pair:
        await pair.one_way(_some(MESSAGES // 10, share))
        there_and_back = [await pair.round_trips(_some(ROUND_TRIPS, share)) for _ in range(repeats)]
        one_way = [await pair.one_way(_some(MESSAGES, share)) for _ in range(repeats)]
    return {
        "round_trips_per_s": Figure.of(there_and_back, "round trips/s"),
        "messages_per_s": Figure.of(one_way, "messages/s"),
    }


async def _pixels(shape: tuple[int, int], repeats: int, share: float) -> dict[str, list[float]]:
    """MB/s of every way, a value a repeat."""
    size = shape[0] * shape[1]
    count = _some(max(LEAST_FRAMES, min(MOST_FRAMES, BYTES // size)), share)
    frames = [np.full(shape, n, np.uint8) for n in range(SLOTS)]
    targets = [np.zeros(shape, np.uint8) for _ in range(SLOTS)]

    def copy(n: int) -> None:
        np.copyto(targets[n % SLOTS], frames[n % SLOTS])

    rows: dict[str, list[float]] = {name: [] for name in ("memcpy", "ring_write", "ring", "ring_read", "ipc", "tcp")}
    async with (
        Pair("ipc", size, touch=False) as plain,
        Pair("ipc", size, touch=True) as reading,
        Pair("tcp", size, touch=False) as tcp,
    ):
        for pair in (plain, reading, tcp):
            await pair.pixels(frames, SLOTS, by_ring=True)
        _rate(copy, frames, count)
        for _ in range(repeats):
            rows["memcpy"].append(_rate(copy, frames, count))
            rows["ring_write"].append(_rate(lambda n: plain.write(n % SLOTS, frames[n % SLOTS]), frames, count))
            rows["ring"].append(await plain.pixels(frames, count, by_ring=True))
            rows["ring_read"].append(await reading.pixels(frames, count, by_ring=True))
            rows["ipc"].append(await plain.pixels(frames, count, by_ring=False))
            rows["tcp"].append(await tcp.pixels(frames, count, by_ring=False))
    return rows


def _rate(step: Callable[[int], object], frames: list[NDArray[Any]], count: int) -> float:
    started = time.perf_counter()
    for n in range(count):
        step(n)
    return count * frames[0].nbytes / (time.perf_counter() - started) / 1e6


def _some(count: int, share: float) -> int:
    return max(SLOTS, round(count * share))
