"""What every reader of crops checks: grey squares of 8 or 16 bits, class names, group names.

Nothing is scaled, cut or renamed silently; every refusal names the file, the first crops it is about, and the mend.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import RecordingError, SettingsError
from hspc_live.core.values import Pixels
from hspc_models.dataset import UNKNOWN

_SHOWN: Final = 5
_COUNTS: Final = "save the camera's own counts as uint8 or uint16"


def grey_crops(array: NDArray[Any], path: Path) -> Pixels:
    """The crops (n, S, S) uint8 or uint16 of an array of n pictures. Raises RecordingError.

    One channel on the last axis, or three that agree, are a grey picture in disguise; whole numbers that fit 16 bits
    are taken whatever their type.
    """
    if array.ndim == 4 and array.shape[3] in (1, 3):
        if np.any(array != array[..., :1]):
            raise RecordingError(f"{path}: image holds colour pictures {array.shape}; keep one channel")
        array = array[..., 0]
    if array.ndim != 3:
        raise RecordingError(f"{path}: image is {array.shape}; expected (n, S, S): n grey crops of S × S pixels")
    n, height, width = array.shape
    if n == 0:
        raise RecordingError(f"{path}: image is {array.shape}: no crops in it")
    if height != width:
        raise RecordingError(f"{path}: crops of {width} × {height} pixels; cut or pad them to squares")
    if array.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "iuf":
        raise RecordingError(f"{path}: image is {array.dtype}, no grey values; {_COUNTS}")
    if array.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(array).all(axis=(1, 2)))
        if len(bad):
            raise RecordingError(
                f"{path}: {len(bad)} of {n} crops have NaN or infinite pixels ({_rows(bad)}); "
                f"leave them out, and {_COUNTS}"
            )
        if np.any(array != np.rint(array)):
            raise RecordingError(f"{path}: image is {array.dtype} with fractions (floating point); {_COUNTS}")
    low, high = array.min(), array.max()
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise RecordingError(f"{path}: grey values from {low} to {high} do not fit 16 bits; {_COUNTS}")
    return np.ascontiguousarray(array.astype(np.uint16))


def classes_of(
    values: NDArray[Any], path: Path, names: Mapping[str, str], column: str = "label"
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels (n,) int64 and class names, in order of name, of a column of texts; "" is an unknown class.

    Numbers stand for nothing by themselves: `names` says what each means. Raises RecordingError.
    """
    texts = texts_of(values, path, column)
    if values.dtype.kind in "iufb":
        used = sorted({text for text in texts if text}, key=lambda text: (len(text), text))
        unnamed = [text for text in used if text not in names]
        if unnamed:
            told = ",".join(f"{text}=NAME" for text in used[:_SHOWN])
            raise RecordingError(
                f"{path}: {column} holds numbers ({', '.join(used[:_SHOWN])}{'…' if len(used) > _SHOWN else ''}), and "
                f"nothing says which classes they are; say it with --names {told}, or store the names"
            )
    named = [names.get(text, text) for text in texts]
    classes = tuple(sorted({name for name in named if name}))
    place = {name: number for number, name in enumerate(classes)}
    return np.array([place.get(name, UNKNOWN) for name in named], np.int64), classes


def groups_of(values: NDArray[Any], path: Path, column: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Groups (n,) int64 and their names, of a column of texts or whole numbers. Raises RecordingError."""
    texts = texts_of(values, path, column)
    if empty := sum(not text for text in texts):
        raise RecordingError(f"{path}: {empty} of {len(texts)} crops have no group in {column}; name every group")
    names, groups = np.unique(np.array(texts), return_inverse=True)
    return groups.astype(np.int64), tuple(str(name) for name in names)


def texts_of(values: NDArray[Any], path: Path, column: str) -> list[str]:
    """A column as texts: whole numbers without a point, NaN and spaces as ""."""
    if values.ndim != 1:
        raise RecordingError(f"{path}: {column} is {values.shape}; expected one value a crop")
    match values.dtype.kind:
        case "U":
            return [str(value).strip() for value in values.tolist()]
        case "S":
            return [value.decode("utf-8", "replace").strip() for value in values.tolist()]
        case "i" | "u" | "b":
            return [str(int(value)) for value in values.tolist()]
        case "f":
            return ["" if math.isnan(value) else f"{value:.10g}" for value in values.tolist()]
        case _:
            raise RecordingError(f"{path}: {column} is {values.dtype}; expected texts or whole numbers")


def told_names(texts: Sequence[str]) -> dict[str, str]:
    """`0=G1,1=S` (several, or one by one) as a mapping. Raises SettingsError."""
    names: dict[str, str] = {}
    for text in (part.strip() for joined in texts for part in joined.split(",")):
        number, _, name = text.partition("=")
        if not number.strip() or not name.strip() or number.strip() in names:
            raise SettingsError(f"--names {text}: write every number once, as NUMBER=CLASS, e.g. --names 0=G1,1=S")
        names[number.strip()] = name.strip()
    return names


def _rows(rows: NDArray[np.integer]) -> str:
    shown = ", ".join(map(str, rows[:_SHOWN].tolist()))
    return f"rows {shown}{', …' if len(rows) > _SHOWN else ''}"
