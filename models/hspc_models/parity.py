"""Does an engine say what plain float32 torch says? Measured on real crops, in every bucket, in every arrangement.

A row's scores must not depend on where in the batch it stands, on its neighbours, on padding or on the camera's depth.
An engine that fails is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.protocols import Engine
from hspc_live.core.values import Pixels

THRESHOLDS = (0.34, 0.5, 0.7, 0.9)
"""Scores at which gates are usually set, where the card names none."""

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Limits:
    """What is still parity: the largest |Δp|, shares of crops, and how far the same row may differ from itself."""

    max_dp: float
    top1: float
    flips: float
    arrangement: float


LIMITS: Mapping[str, Limits] = {
    "fp32": Limits(max_dp=1e-3, top1=0.999, flips=0.001, arrangement=2e-4),
    "fp16": Limits(max_dp=0.05, top1=0.995, flips=0.01, arrangement=5e-3),
    "int8": Limits(max_dp=0.25, top1=0.99, flips=0.03, arrangement=0.02),
}
"""By the engine's precision. Integers round: a value between two steps may fall to either side in another bucket."""


@dataclass(frozen=True, slots=True)
class Parity:
    """What was found. `max_dp` is by bucket; `flips` counts, by threshold, crops that a gate takes differently.

    `arrangement_dp` is the largest difference of a crop's scores from those it has elsewhere in a batch, with other
    neighbours, padding or depth. `nan` counts scores that are no numbers though the crop is, or the other way round.
    `failures` says what is beyond the limits.
    """

    crops: int
    max_dp: Mapping[int, float]
    top1_agreement: float
    flips: Mapping[float, int]
    arrangement_dp: float
    nan: int
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the engine may be used."""
        return not self.failures

    @property
    def worst_dp(self) -> float:
        """The largest |Δp| of all buckets."""
        return max(self.max_dp.values(), default=0.0)

    def to_json(self) -> dict[str, Any]:
        """For reports and the cache."""
        found = asdict(self)
        found["max_dp"] = {str(bucket): float(dp) for bucket, dp in self.max_dp.items()}
        found["flips"] = {f"{threshold:g}": count for threshold, count in self.flips.items()}
        return {**found, "failures": list(self.failures), "passed": self.passed}

    def sentence(self) -> str:
        """For the person at the terminal."""
        flips = ", ".join(f"{count} at {threshold:g}" for threshold, count in self.flips.items())
        return (
            f"top-1 agreement {100 * self.top1_agreement:.2f} % on {self.crops} crops, "
            f"largest |Δp| {self.worst_dp:.2g}, "
            f"gate flips {flips}, same row elsewhere within {self.arrangement_dp:.2g}, {self.nan} NaN"
        )


def measure(
    engine: Engine,
    crops: Pixels,
    reference: Scores,
    limits: Limits | None = None,
    thresholds: tuple[float, ...] = THRESHOLDS,
) -> Parity:
    """Compare `engine` with the `reference` scores (n, classes) of uint8 `crops` (n, S, S), at least two.

    All crops run in the largest bucket, as many as fit in each other one. `limits` are those of the engine's precision.
    """
    limits = limits or LIMITS[engine.precision]
    whole = engine.infer(crops)
    max_dp: dict[int, float] = {}
    nan = int(np.isnan(whole).sum())
    moved = 0.0
    for bucket in engine.buckets:
        rows = np.arange(min(bucket, len(crops)))
        scores = engine.infer(crops[rows])
        nan += int(np.isnan(scores).sum())
        max_dp[bucket] = _largest(scores - reference[rows])
        moved = max(moved, _largest(scores - whole[rows]), *_arrangements(engine, crops, whole, len(rows)))
    max_dp[engine.buckets[-1]] = _largest(whole - reference)
    depth = engine.infer(cast("Pixels", crops[:4].astype(np.uint16) * 257))
    moved = max(moved, _largest(depth - whole[:4]))
    nan += _nan_elsewhere(engine, crops, whole, limits)
    agreement = float((whole.argmax(axis=1) == reference.argmax(axis=1)).mean())
    flips = {t: int(((whole >= t) != (reference >= t)).any(axis=1).sum()) for t in thresholds}
    found = Parity(len(crops), max_dp, agreement, flips, moved, nan, ())
    return Parity(len(crops), max_dp, agreement, flips, moved, nan, _failures(found, limits))


def _arrangements(engine: Engine, crops: Pixels, whole: Scores, n: int) -> list[float]:
    """How far `n` crops' scores move when their order is turned round, and when the batch is not full."""
    found = [_largest(engine.infer(crops[:n][::-1].copy())[::-1] - whole[:n])]
    if n > 1:  # one fewer: the last slot is padding
        found.append(_largest(engine.infer(crops[1:n]) - whole[1:n]))
        strange = crops[:n].copy()
        strange[1:] = 255 - strange[1:]
        found.append(_largest(engine.infer(strange)[:1] - whole[:1]))
    return found


def _nan_elsewhere(engine: Engine, crops: Pixels, whole: Scores, limits: Limits) -> int:
    """Scores that a crop with NaN spoils in its neighbour, or fails to spoil in its own row."""
    pair = crops[:2].astype(np.float32)
    pair[0, 0, 0] = np.nan
    scores = engine.infer(cast("Pixels", pair))
    spoilt = ~(np.abs(scores[1] - whole[1]) <= limits.arrangement)
    return int((~np.isnan(scores[0])).sum()) + int(spoilt.sum())


def _largest(difference: NDArray[np.floating[Any]]) -> float:
    """The largest |difference|; infinite where one is no number."""
    largest = float(np.abs(difference).max(initial=0.0))
    return largest if np.isfinite(largest) else float("inf")


def _failures(found: Parity, limits: Limits) -> tuple[str, ...]:
    failures: list[str] = []
    if found.nan:
        failures.append(f"{found.nan} scores are NaN where they must not be, or are numbers for a crop with NaN")
    if found.worst_dp > limits.max_dp:
        failures.append(f"largest |Δp| {found.worst_dp:.3g} (at most {limits.max_dp:g})")
    if found.top1_agreement < limits.top1:
        failures.append(f"top-1 agreement {found.top1_agreement:.4f} (at least {limits.top1:g})")
    for threshold, count in found.flips.items():
        if count > limits.flips * found.crops:
            failures.append(f"{count} of {found.crops} gates at {threshold:g} flip (at most {limits.flips:.1%})")
    if found.arrangement_dp > limits.arrangement:
        failures.append(
            f"a row's scores move by {found.arrangement_dp:.3g} with slot, neighbours, padding or depth "
            f"(at most {limits.arrangement:g})"
        )
    return tuple(failures)
