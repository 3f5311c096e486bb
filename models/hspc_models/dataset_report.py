"""What a person should know of a set of crops before training on it: counts, copies, light, signal, and warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import SettingsError
from hspc_models.dataset import UNKNOWN, LabelledCrops
from hspc_models.duplicates import SMALLEST, Duplicates
from hspc_models.metrics import wilson

UNLABELLED: Final = "(no class)"
EXPECTED: Final = 0.96
"""Share of cells with the expected fluorescence that the paper reports."""

_FEW: Final = 50  # crops of a class: the interval of any rate of it is wider than ±14 points
_CLIPPED: Final = 0.005  # of a crop's pixels at the end of the range: more than the glint of a granule
_PILE: Final = 3  # times as many pixels at the end of the range as at any of the levels next to it
_NEAR: Final = 4
_NOTICED: Final = 0.01  # share of crops from which clipping is warned of
_BELOW: Final = 20  # cells darker than their surroundings, from which the noise can be told
_SIGMAS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Signal:
    """How many of the measured cells of a class are brighter than `threshold` in a channel; 95 % interval."""

    measured: int
    positive: int
    share: float
    low: float
    high: float
    threshold: float


def summarise(
    crops: LabelledCrops, copies: Duplicates, thresholds: Mapping[str, float], expected: Mapping[str, str]
) -> dict[str, Any]:
    """All of it as JSON.

    `thresholds`: counts by channel from which a cell has its signal; `expected`: the channel that a class shines in.
    Raises SettingsError for a channel or class that the crops do not have.
    """
    _check_told(crops, thresholds, expected)
    signals, unmeasurable = _signals(crops, thresholds)
    light = _light(crops)
    found = _copies(crops, copies)
    return {
        "n": len(crops),
        "classes": {name: int((crops.labels == i).sum()) for i, name in enumerate(crops.names)},
        "unlabelled": int((crops.labels == UNKNOWN).sum()),
        "groups": _groups(crops),
        "cells": None if crops.cells is None else len(np.unique(crops.cells)),
        "crop_px": crops.images.shape[1],
        "dtype": str(crops.images.dtype),
        "um_per_px": crops.um_per_px if crops.scaled else None,
        "width_um": crops.um_per_px * crops.images.shape[1] if crops.scaled else None,
        "duplicates": found,
        "intensity": light,
        "fluorescence": {
            channel: {name: asdict(signal) for name, signal in by_class.items()}
            for channel, by_class in signals.items()
        },
        "expected_signal": _as_expected(signals, expected),
        "provenance": crops.provenance,
        "notes": list(crops.notes),
        "warnings": [
            *_warn_of_classes(crops),
            *_warn_of_groups(crops),
            *_warn_of_copies(crops, found),
            *_warn_of_light(len(crops), light),
            *unmeasurable,
            *_warn_of_signal(signals, expected),
        ],
    }


def class_of(crops: LabelledCrops, row: int) -> str:
    """The name of a crop's class."""
    label = int(crops.labels[row])
    return UNLABELLED if label == UNKNOWN else crops.names[label]


def _groups(crops: LabelledCrops) -> dict[str, dict[str, int]]:
    """Crops by group and class; only classes that occur."""
    table: dict[str, dict[str, int]] = {}
    pairs, counts = np.unique(np.stack((crops.groups, crops.labels)), axis=1, return_counts=True)
    for (group, label), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        name = UNLABELLED if label == UNKNOWN else crops.names[label]
        table.setdefault(crops.group_name(group), {})[name] = count
    return table


def _copies(crops: LabelledCrops, copies: Duplicates) -> dict[str, Any]:
    sets = {frozenset(rows) for rows in (*copies.exact, *copies.near)}
    mixed = [rows for rows in sets if len({class_of(crops, row) for row in rows} - {UNLABELLED}) > 1]
    spread = [rows for rows in sets if len({int(crops.groups[row]) for row in rows}) > 1]
    return {
        "exact_sets": len(copies.exact),
        "exact_copies": sum(len(rows) - 1 for rows in copies.exact),
        "near_sets": len(copies.near),
        "near_copies": sum(len(rows) - 1 for rows in copies.near),
        "different_pictures": len(np.unique(copies.units)),
        "across_classes": len(mixed),
        "across_groups": len(spread),
        "near_searched": crops.images.shape[1] >= SMALLEST,
        "largest": [list(rows) for rows in sorted((sorted(s) for s in sets), key=lambda rows: (-len(rows), rows))[:20]],
    }


def _light(crops: LabelledCrops) -> dict[str, Any]:
    """Grey values of all crops and by class; how many crops are clipped at either end, or flat."""
    images = crops.images
    flat = images.reshape(len(images), -1)
    low, high = int(images.min()), int(images.max())
    # a camera of 12 bits ends at 4095, so the end of the range is told by the pile of pixels that clipping makes there
    levels = np.bincount(images.ravel(), minlength=int(np.iinfo(images.dtype).max) + 1)
    piled_top = levels[high] > _PILE * levels[max(high - _NEAR, 0) : high].max(initial=0)
    piled_bottom = low == 0 and levels[0] > _PILE * levels[1 : 1 + _NEAR].max(initial=0)
    at_top = piled_top & ((flat == high).mean(1) > _CLIPPED)
    at_bottom = piled_bottom & ((flat == 0).mean(1) > _CLIPPED)
    mean = flat.mean(1, dtype=np.float64)
    spread = flat.std(1, dtype=np.float64)
    return {
        "low": low,
        "high": high,
        "clipped_bright": int((at_top & (spread > 0)).sum()),
        "clipped_dark": int((at_bottom & (spread > 0)).sum()),
        "flat": int((spread == 0).sum()),
        "classes": {
            name: {
                "mean": float(mean[of].mean()),
                "mean_sd": float(mean[of].std()),
                "contrast": float(spread[of].mean()),
            }
            for name, of in rows_by_class(crops).items()
        },
    }


def rows_by_class(crops: LabelledCrops) -> dict[str, NDArray[np.intp]]:
    """The rows of each class that has any; those without a class last."""
    rows = {name: np.flatnonzero(crops.labels == i) for i, name in enumerate(crops.names)}
    rows[UNLABELLED] = np.flatnonzero(crops.labels == UNKNOWN)
    return {name: of for name, of in rows.items() if len(of)}


# ---- fluorescence ---------------------------------------------------------------------------------------------------


def _signals(crops: LabelledCrops, thresholds: Mapping[str, float]) -> tuple[dict[str, dict[str, Signal]], list[str]]:
    """By channel and class; and which channels have no threshold that could be told."""
    found: dict[str, dict[str, Signal]] = {}
    untold = []
    for channel, values in crops.fluorescence.items():
        threshold = thresholds.get(channel, _above_noise(values))
        if threshold is None:
            untold.append(
                f"{channel}: too few cells are darker than their surroundings to tell signal from noise; "
                f"say from what light a cell counts, with --threshold {channel}=COUNTS"
            )
            continue
        found[channel] = {}
        for name, of in rows_by_class(crops).items():
            measured = values[of][np.isfinite(values[of])]
            if len(measured):
                positive = int((measured > threshold).sum())
                rate = wilson(positive, len(measured))
                found[channel][name] = Signal(len(measured), positive, rate.rate, rate.low, rate.high, float(threshold))
    return found, untold


def _above_noise(values: NDArray[np.float32]) -> float | None:
    """Three standard deviations of the noise, told from the cells darker than their surroundings: only noise is."""
    below = values[values < 0].astype(np.float64)
    return _SIGMAS * float(np.sqrt(np.mean(below**2))) if len(below) >= _BELOW else None


def _as_expected(signals: Mapping[str, Mapping[str, Signal]], expected: Mapping[str, str]) -> dict[str, Any] | None:
    """Of all cells of the classes that should shine, how many do."""
    told = [signals[channel][name] for name, channel in expected.items() if name in signals.get(channel, {})]
    if not told:
        return None
    rate = wilson(sum(one.positive for one in told), sum(one.measured for one in told))
    return {"share": rate.rate, "low": rate.low, "high": rate.high, "n": rate.n, "paper": EXPECTED}


def _check_told(crops: LabelledCrops, thresholds: Mapping[str, float], expected: Mapping[str, str]) -> None:
    has = ", ".join(crops.fluorescence) or "none"
    for channel in (*thresholds, *expected.values()):
        if channel not in crops.fluorescence:
            raise SettingsError(f"{crops.provenance}: no fluorescence of {channel}; its channels: {has}")
    for name in expected:
        if name not in crops.names:
            raise SettingsError(f"{crops.provenance}: no class {name}; its classes: {', '.join(crops.names) or 'none'}")


# ---- warnings -------------------------------------------------------------------------------------------------------


def _warn_of_classes(crops: LabelledCrops) -> list[str]:
    counts = {name: int((crops.labels == i).sum()) for i, name in enumerate(crops.names)}
    warnings = [f"{name}: only {n} crops; its rates will be uncertain" for name, n in counts.items() if n < _FEW]
    if unknown := int((crops.labels == UNKNOWN).sum()):
        warnings.append(f"{unknown} crops have no class: they can be predicted, not learnt from")
    if not crops.scaled:
        warnings.append("the scale is unknown: no sizes in µm; make the file again with --um-per-px")
    return warnings


def _warn_of_groups(crops: LabelledCrops) -> list[str]:
    """Whether a network could learn the group instead of the class."""
    groups = _groups(crops)
    if len(groups) == 1:
        return ["only one group: how well other mice or experiments would be recognised cannot be judged"]
    groups_of = {name: [group for group, has in groups.items() if name in has] for name in crops.names}
    alone = [name for name, of in groups_of.items() if len(of) == 1]
    if not alone:
        return []
    where = ", ".join(f"{name} from {groups_of[name][0]}" for name in alone)
    return [
        f"classes that come from one group only ({where}): what differs between groups (light, focus, day) cannot be "
        "told from what differs between classes; film every class in several experiments"
    ]


def _warn_of_copies(crops: LabelledCrops, found: Mapping[str, Any]) -> list[str]:
    warnings = []
    if extra := len(crops) - found["different_pictures"]:
        warnings.append(
            f"{extra} of {len(crops)} crops are copies of others ({found['exact_copies']} pixel by pixel); "
            "splits keep them together"
        )
    if found["across_classes"]:
        warnings.append(
            f"{found['across_classes']} pictures occur with different classes: one of their labels is wrong"
        )
    if found["across_groups"]:
        warnings.append(
            f"{found['across_groups']} pictures occur in several groups: a split by group joins those groups"
        )
    if not found["near_searched"]:
        warnings.append(f"crops below {SMALLEST} pixels show too little for near copies to be looked for")
    return warnings


def _warn_of_light(n: int, light: Mapping[str, Any]) -> list[str]:
    warnings = []
    for key, what in (("clipped_bright", f"bright end ({light['high']})"), ("clipped_dark", "dark end (0)")):
        if light[key] > _NOTICED * n:
            warnings.append(f"{light[key]} of {n} crops are clipped at the {what}: expose so that no pixel saturates")
    if light["flat"]:
        warnings.append(f"{light['flat']} crops are one single grey: nothing was imaged there; leave them out")
    return warnings


def _warn_of_signal(signals: Mapping[str, Mapping[str, Signal]], expected: Mapping[str, str]) -> list[str]:
    return [
        f"{name}: {100 * one.share:.1f} % of cells show {channel} (95 % interval {100 * one.low:.1f} to "
        f"{100 * one.high:.1f} %), fewer than the paper's {100 * EXPECTED:.0f} %: sorted impurely, bleached, or the "
        "threshold is too high"
        for name, channel in expected.items()
        if (one := signals.get(channel, {}).get(name)) is not None and one.high < EXPECTED
    ]
