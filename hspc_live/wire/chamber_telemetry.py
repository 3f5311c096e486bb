"""What a chamber run shows to those who only look on: one message, newest only, whole in itself, as `wire.telemetry`.

The arrays behind a `ChamberTelemetry` are, in this order: the newest picture (height, width), (0, 0) where there is
none; the planned fields (p, 2) and the visited ones (v, 3), float64: where the stage stood, µm, and 1 if there is a
picture; and of every object its place and radius (n, 3) float64, µm; (n, 4) int32 of its number (-1 before the list is
made), its class's place (-1: none), its `Mark` and the visit that was classified; its score (n,) float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from hspc_live.core.errors import WireError
from hspc_live.core.values import Pixels
from hspc_live.wire.codec import Decoder, Part, encode, join, split


class Mark(IntEnum):
    """How an object is drawn."""

    WAITING = 0  # not classified yet
    CLASSIFIED = 1
    UNSURE = 2  # the classifier abstained
    LEFT_OUT = 3  # wanted, but not safely pickable
    LISTED = 4
    NOT_RECOGNISED = 5  # a cell, but touching, blurred …
    NO_CELL = 6  # debris, cut off by the border, a clump


class Listed(Struct, frozen=True, array_like=True):
    """One line of the picking list; (x_um, y_um) is the fresh place where a second visit found the cell again.

    `again` says what became of the cell at the second visit; empty without one.
    """

    order: int
    cell: int
    outlet: str
    x_um: float
    y_um: float
    again: str = ""


class ChamberHead(Struct, frozen=True):
    """What is known of a chamber run from its first field on; the answer to `AskRun` holds it as JSON.

    `affine` is (2, 3), pixel (x, y, 1) → µm relative to the stage's position.
    """

    run: str
    name: str
    show: str
    live: bool
    classes: tuple[str, ...]
    engine: str
    simulated: bool
    affine: tuple[tuple[float, float, float], tuple[float, float, float]]
    width_px: int
    height_px: int
    um_per_px: float
    recording: str | None


class ChamberStanding(Struct, frozen=True):
    """How the run stands. `books` is JSON text as in every summary.

    `no_driving` says why the stage cannot be driven now, empty where it can; `driven` what came of the last drive.
    `here_um` is where the stage stood for the newest picture; None before the first.
    """

    doing: str
    ending: str
    planned: int
    visited: int
    no_driving: str
    driven: str
    here_um: tuple[float, float] | None
    books: str
    alarms: dict[str, int]


class ChamberTelemetry(Struct, frozen=True, tag="chamber-telemetry"):
    """The newest picture, the map, the list, and how the run stands. `number` counts the messages made."""

    number: int
    sent_ns: int
    field: int
    listed: list[Listed]
    standing: ChamberStanding


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """Objects of a chamber as the module's opening describes the last three arrays."""

    places: NDArray[np.float64]
    kinds: NDArray[np.int32]
    scores: NDArray[np.float32]

    @classmethod
    def none(cls) -> Marks:
        """No object."""
        return cls(np.empty((0, 3)), np.empty((0, 4), np.int32), np.empty(0, np.float32))

    @classmethod
    def joined(cls, parts: Sequence[Marks]) -> Marks:
        """All of `parts`, in their order."""
        every = [cls.none(), *parts]
        return cls(
            np.concatenate([one.places for one in every]),
            np.concatenate([one.kinds for one in every]),
            np.concatenate([one.scores for one in every]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class ChamberShown:
    """A message with its arrays. `run` is the run's id."""

    run: str
    told: ChamberTelemetry
    pixels: Pixels
    planned: NDArray[np.float64]
    visited: NDArray[np.float64]
    marks: Marks


def pack_chamber(told: ChamberTelemetry, arrays: Sequence[NDArray[Any]], marks: Marks, run: str) -> bytes:
    """The message as one part; `arrays` are picture, planned and visited fields."""
    return join(encode(told, [*arrays, marks.places, marks.kinds, marks.scores], run=run))


_DECODER = Decoder[ChamberTelemetry](ChamberTelemetry)


def unpack_chamber(part: Part) -> ChamberShown:
    """The message in `part`. Raises WireError where its arrays are not what they should be."""
    decoded = _DECODER.decode(split(part))
    if len(decoded.arrays) != 6:
        raise WireError(f"a chamber's telemetry message with {len(decoded.arrays)} arrays; 6 are right")
    pixels, planned, visited, places, kinds, scores = decoded.arrays
    n = len(scores)
    shapes = (planned.shape[1:], visited.shape[1:], places.shape, kinds.shape, scores.shape)
    kinds_fit = kinds.dtype == np.int32 and scores.dtype == np.float32
    floats_fit = all(array.dtype == np.float64 for array in (planned, visited, places))
    if pixels.ndim != 2 or shapes != ((2,), (3,), (n, 3), (n, 4), (n,)) or not kinds_fit or not floats_fit:
        raise WireError("a chamber's telemetry message whose arrays contradict it")
    return ChamberShown(decoded.run, decoded.message, pixels, planned, visited, Marks(places, kinds, scores))
