"""What every measurement of a bench comes down to: a median over repeats with its spread, and the words for it.

`figures` of a result is a flat table of these, so that two results can be compared without knowing what was measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from hspc_live.bench.machine import machine

FORMAT: Final = 1
Better = Literal["higher", "lower"]
Say = Callable[[str], object]
"""Where a bench says what it is at."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Median, least and greatest of `n` repeats."""

    median: float
    min: float
    max: float
    n: int
    unit: str
    better: Better

    @classmethod
    def of(cls, values: Sequence[float], unit: str, better: Better = "higher") -> Figure:
        """The figure of one value a repeat, to four digits. Raises ValueError where there is none."""
        if not values:
            raise ValueError("a figure needs at least one repeat")
        low, middle, high = (digits(v) for v in (min(values), statistics.median(values), max(values)))
        return cls(middle, low, high, len(values), unit, better)

    @property
    def range(self) -> list[float]:
        """Least and greatest."""
        return [self.min, self.max]

    def words(self) -> str:
        """`1,234 cells/s (1,200 to 1,260)`."""
        spread = f" ({number(self.min)} to {number(self.max)})" if self.n > 1 else ""
        return f"{number(self.median)} {self.unit}{spread}"


def digits(value: float, count: int = 4) -> float:
    """`value` to `count` digits: what lies below is noise."""
    return float(f"{value:.{count}g}")


def number(value: float) -> str:
    """A value as text, with as many digits as it has."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def result(
    bench: str, asked: Mapping[str, Any], figures: Mapping[str, Figure], details: Mapping[str, Any], began: Began
) -> dict[str, Any]:
    """The JSON of one bench: what was measured, with what, on which machine, and `figures` for `bench compare`."""
    return {
        "bench": bench,
        "format": FORMAT,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "took_s": round(time.monotonic() - began.at_s, 1),
        "asked": dict(asked),
        **details,
        "figures": {name: asdict(figure) for name, figure in figures.items()},
        "machine": began.machine,
    }


@dataclass(frozen=True, slots=True)
class Began:
    """The start of a bench: the load that others put on the machine is looked at before we do."""

    at_s: float
    machine: dict[str, Any]

    @classmethod
    def now(cls) -> Began:
        """A bench that begins now."""
        return cls(time.monotonic(), machine())
