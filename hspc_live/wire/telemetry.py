"""What a run shows to those who only look on: one message, newest only, whole in itself. Nothing depends on it.

The arrays behind a `Telemetry` are, in this order: the frame's pixels (height, width), (0, 0) where there are none; its
objects (n,) of `OBJECT_DTYPE`; their masks, packed bits of (n, *mask_shape), none where nothing is recorded; latencies
as counts (bins,) by milliseconds; crops (m, S, S), one each for `crops`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from hspc_live.core.errors import WireError
from hspc_live.core.values import OBJECT_DTYPE, CellRecord, Pixels
from hspc_live.wire.codec import Decoder, Part, encode, join, split

LATENCY_BINS = 1001
"""Latencies are counted by whole milliseconds; the last bin takes what is slower."""


class Seen(Struct, frozen=True, array_like=True):
    """What is known by now of one object of the frame: its track, its cell (-1: none), what it is taken for.

    The track was first seen in frame `since` and moves at `v_um_s`, by the fit of all its looks.
    """

    track: int
    cell: int
    since: int = -1
    v_um_s: float = 0.0
    predicted: str = ""
    score: float = 0.0
    state: str = ""


class OutletCount(Struct, frozen=True):
    """Cells sorted into an outlet so far, and the sums of their scores, in the order of the model's classes."""

    name: str
    sorted: int
    scores: list[float]


class Standing(Struct, frozen=True):
    """How the run stands. `ledger` is JSON text as in every summary; `outlets` that of the gates in force.

    `lasting` and `passing` are what the self-test has against arming now. `queue` counts frames whose result is
    awaited, `held` of `slots` places in the pixel ring are taken, `unshown` messages were not made because the
    pixels had gone.
    """

    armed: bool
    waits_to_arm: bool
    alarms: dict[str, str]
    told_alarms: dict[str, int]
    disarmed: list[str]
    lasting: list[str]
    passing: list[str]
    gate_revision: int
    outlets: str
    ledger: str
    open_cells: int
    classes: dict[str, int]
    sorted: list[OutletCount]
    met: int
    missed: int
    unrecorded: int
    queue: int
    held: int
    slots: int
    unshown: int
    ended: bool


class Telemetry(Struct, frozen=True, tag="telemetry"):
    """The newest frame, what was found in it, the cells of the last moments, and how the run stands.

    `number` counts the messages made: a gap says how many one has missed. Times are host-monotonic ns; `frame` is -1
    before the first. `crops` name (cell, frame, view) of the crops that ride along.
    """

    number: int
    sent_ns: int
    frame: int
    captured_ns: int
    received_ns: int
    alarms: tuple[str, ...]
    mask_shape: tuple[int, int]
    seen: list[Seen]
    cells: list[CellRecord]
    crops: list[tuple[int, int, int]]
    standing: Standing


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A telemetry message with its arrays, as the module's opening names them. `run` is the run's id."""

    run: str
    told: Telemetry
    pixels: Pixels
    objects: NDArray[np.void]
    masks: NDArray[np.uint8]
    latencies: NDArray[np.uint32]
    crops: Pixels


def pack(told: Telemetry, arrays: Sequence[NDArray[Any]], run: str) -> bytes:
    """The message as one part."""
    return join(encode(told, arrays, run=run))


_DECODER = Decoder[Telemetry](Telemetry)


def unpack(part: Part) -> Shown:
    """The message in `part`. Raises WireError where its arrays are not what they should be."""
    decoded = _DECODER.decode(split(part))
    told = decoded.message
    if len(decoded.arrays) != 5:
        raise WireError(f"a telemetry message with {len(decoded.arrays)} arrays; 5 are right")
    pixels, objects, masks, latencies, crops = decoded.arrays
    fits = (
        pixels.ndim == 2
        and objects.dtype == OBJECT_DTYPE
        and objects.shape == (len(told.seen),)
        and masks.dtype == np.uint8
        and masks.ndim == 2
        and latencies.shape == (LATENCY_BINS,)
        and crops.ndim == 3
        and len(crops) == len(told.crops)
    )
    bits = told.mask_shape[0] * told.mask_shape[1]
    if not fits or (len(masks) and masks.shape != (len(objects), -(-bits // 8))):
        raise WireError("a telemetry message whose arrays contradict it")
    whole = np.unpackbits(masks, axis=1, count=bits) if len(masks) else np.empty((0, 0), np.uint8)
    return Shown(decoded.run, told, pixels, objects, whole.reshape(len(masks), *told.mask_shape), latencies, crops)
