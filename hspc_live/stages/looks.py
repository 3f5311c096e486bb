"""One object in one picture, in stage coordinates; and all of them as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hspc_live.settings.chamber import PositionSettings
from hspc_live.stages.offsets import Floats, Ints

NS_PER_MIN = 60_000_000_000


@dataclass(frozen=True, slots=True)
class Look:
    """One object in one field. `x_um`, `y_um` on the stage as it was reported; `sd_um` per axis, of the centroid alone.

    `view` is the row in the field's result. `border_um` is the distance of the centre to the nearest border of the
    field. `whole` is False for what the border cuts: its centre is then not the object's.
    """

    field: int
    view: int
    captured_ns: int
    x_um: float
    y_um: float
    sd_um: float
    radius_um: float
    border_um: float
    sharpness: float
    accepted: bool
    whole: bool = True


class Table:
    """The looks as columns; `xy` is corrected once the fields' errors are known."""

    def __init__(self, looks: Sequence[Look]) -> None:
        self.xy: Floats = np.array([(look.x_um, look.y_um) for look in looks], np.float64).reshape(-1, 2)
        self.field: Ints = np.array([look.field for look in looks], np.int64)
        self.minutes: Floats = np.array([look.captured_ns / NS_PER_MIN for look in looks])
        self.variance: Floats = np.array([look.sd_um**2 for look in looks])
        self.radius: Floats = np.array([look.radius_um for look in looks])
        self.whole: NDArray[np.bool_] = np.array([look.whole for look in looks], bool)
        self.accepted: NDArray[np.bool_] = np.array([look.accepted and look.whole for look in looks], bool)


T = TypeVar("T", float, Floats)


def crept(minutes: T, position: PositionSettings) -> T:
    """Variance per axis, µm², that cells gain in so many minutes: they creep as if pushed at random."""
    return position.creep_um_per_sqrt_min**2 * minutes
