"""Crops from whatever people have: our own files, NumPy archives, a folder a class, recordings.

Every reader gives `LabelledCrops` whose `notes` say what was taken for granted. Scales are never guessed: where neither
file nor caller says one, it is unknown (NaN).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import RecordingError, SettingsError
from hspc_models.dataset import LabelledCrops, Origins, is_crops, read_crops
from hspc_models.raw_crops import classes_of, grey_crops, groups_of
from hspc_models.read_recording import read_recording
from hspc_models.read_tree import read_tree

_ZIP: Final = b"PK\x03\x04"
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_GLOW: Final = "fluorescence_"
_USUAL: Final = CropGeometry()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a person says about a source.

    `group_by`: the column that names what a split must not part. `label`: the column of classes, or the one class that
    all crops are of; of recordings also "decision", what the model said then. `names`: what numbers stand for.
    `um_per_px`: the scale, where the source does not state it. `geometry`: of crops to be cut from recordings.
    """

    group_by: str | None = None
    label: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    um_per_px: float | None = None
    geometry: CropGeometry = _USUAL


def read_any(
    path: Path,
    *,
    group_by: str | None = None,
    label: str | None = None,
    names: Mapping[str, str] | None = None,
    um_per_px: float | None = None,
    geometry: CropGeometry | None = None,
) -> LabelledCrops:
    """The crops of one source, in its own order. Arguments as in `Reading`.

    Raises RecordingError for what cannot be read, naming the mend; SettingsError for a column that a source lacks.
    """
    told = Reading(group_by, label, names or {}, um_per_px, geometry or _USUAL)
    if path.is_dir():
        return read_tree(path, label, group_by, um_per_px)
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise RecordingError(f"{path} cannot be opened ({error.strerror}): check the path") from error
    if head.startswith(_ZIP):
        return _read_npz(path, told)
    if head == _HDF5:
        if is_crops(path):
            return _told_more(read_crops(path), path, told)
        return read_recording(path, label, told.names, um_per_px, told.geometry)
    raise RecordingError(
        f"{path}: no crops in it that can be read; give a file of `dataset make`, an .npz with image and label, a "
        "folder with a folder of pictures for each class, or a recording"
    )


def joined(parts: Sequence[LabelledCrops]) -> LabelledCrops:
    """Several sources as one: classes and groups by name. Raises RecordingError where they do not fit together."""
    if len(parts) == 1:
        return parts[0]
    _check_alike(parts)
    names = tuple(sorted({name for part in parts for name in part.names}))
    group_names = tuple(dict.fromkeys(_names_of_groups(part)[g] for part in parts for g in np.unique(part.groups)))
    place = {name: number for number, name in enumerate(group_names)}
    channels = tuple(dict.fromkeys(channel for part in parts for channel in part.fluorescence))
    images = np.concatenate([part.images for part in parts])
    return LabelledCrops(
        images=images,
        labels=np.concatenate([_renumbered(part.labels, part.names, names) for part in parts]),
        names=names,
        groups=np.concatenate([_regrouped(part, place) for part in parts]),
        um_per_px=parts[0].um_per_px,
        provenance="; ".join(part.provenance for part in parts),
        group_names=group_names,
        fluorescence={
            channel: np.concatenate([part.fluorescence.get(channel, _unmeasured(len(part))) for part in parts])
            for channel in channels
        },
        origins=_joined_origins(parts),
        cells=_joined_cells(parts),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


# ---- NumPy archives -------------------------------------------------------------------------------------------------


def _read_npz(path: Path, told: Reading) -> LabelledCrops:
    """`image` (n, S, S); `label`, `group` or the named columns; `fluorescence_CHANNEL`, `cell`, `um_per_px`."""
    columns = _arrays(path)
    if "image" not in columns:
        raise RecordingError(f"{path}: no array called image; it has {', '.join(columns) or 'none'}")
    images = grey_crops(columns["image"], path)
    n = len(images)
    notes: list[str] = []
    labels, names = _npz_labels(path, columns, n, told, notes)
    column = told.group_by or ("group" if "group" in columns else None)
    group_names: tuple[str, ...]
    if column is None:
        groups, group_names = np.zeros(n, np.int64), (path.stem,)
        others = [name for name in columns if name not in ("image", "label") and columns[name].shape == (n,)]
        mend = f" (it has {', '.join(others)})" if others else ""
        notes.append(f"{path.name}: taken for one group, as no --group-by names a column{mend}")
    else:
        groups, group_names = groups_of(_column(path, columns, column, n), path, column)
    scale = told.um_per_px
    if scale is None and "um_per_px" in columns:
        scale = _scale(path, columns["um_per_px"])
    cells = None
    if "cell" in columns:
        cells = groups_of(_column(path, columns, "cell", n), path, "cell")[0]
    return LabelledCrops(
        images,
        labels,
        names,
        groups,
        float("nan") if scale is None else scale,
        path.name,
        group_names,
        {
            name.removeprefix(_GLOW): _measured(path, _column(path, columns, name, n), name)
            for name in columns
            if name.startswith(_GLOW)
        },
        Origins((path.name,), np.zeros(n, np.int64), np.arange(n)),
        cells,
        tuple(notes),
    )


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of the archive; never one that holds Python objects."""
    found: dict[str, NDArray[Any]] = {}
    name = "its table of contents"
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as archive:  # it would leave a broken one open
            for name in archive.files:
                found[name] = np.asarray(archive[name])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        if "allow_pickle" in str(error):
            raise RecordingError(
                f"{path}: {name} holds Python objects (a pickle), which are never opened; save it as plain texts or "
                "numbers, e.g. np.array(labels, dtype=str)"
            ) from error
        raise RecordingError(f"{path}: {name} cannot be read ({error}); save the archive again") from error
    return found


def _npz_labels(
    path: Path, columns: Mapping[str, NDArray[Any]], n: int, told: Reading, notes: list[str]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    column = "label" if told.label is None else told.label
    if column in columns:
        return classes_of(_column(path, columns, column, n), path, told.names, column)
    if told.label is None:
        notes.append(f"{path.name}: no array called label, so no crop has a class: good for predict only")
        return np.full(n, -1, np.int64), ()
    notes.append(f"{path.name}: all crops are taken for {told.label}, as told")
    return np.zeros(n, np.int64), (told.label,)


def _column(path: Path, columns: Mapping[str, NDArray[Any]], name: str, n: int) -> NDArray[Any]:
    if name not in columns:
        raise SettingsError(f"{path}: no array called {name}; it has {', '.join(columns)}")
    values = columns[name]
    if values.shape != (n,):
        raise RecordingError(f"{path}: {name} is {values.shape}, but image has {n} crops; one value a crop is needed")
    return values


def _scale(path: Path, values: NDArray[Any]) -> float:
    if values.size != 1 or values.dtype.kind not in "iuf" or not 0 < float(values.reshape(-1)[0]) < float("inf"):
        raise RecordingError(f"{path}: um_per_px must be one positive number; give the scale with --um-per-px")
    return float(values.reshape(-1)[0])


def _measured(path: Path, values: NDArray[Any], name: str) -> NDArray[np.float32]:
    if values.dtype.kind not in "iuf":
        raise RecordingError(f"{path}: {name} is {values.dtype}; expected numbers, NaN where unmeasured")
    return values.astype(np.float32)


# ---- several sources ------------------------------------------------------------------------------------------------


def _told_more(crops: LabelledCrops, path: Path, told: Reading) -> LabelledCrops:
    """A file of ours with what the caller adds; what it says itself is not overruled."""
    if told.label not in (None, "label"):
        raise SettingsError(
            f"{path}: its labels were settled when it was made; make it again with --label {told.label}"
        )
    if told.group_by not in (None, "group"):
        note = f"{path.name}: its groups were settled when it was made; {told.group_by} is not looked for"
        crops = replace(crops, notes=(*crops.notes, note))
    if told.um_per_px is None or told.um_per_px == crops.um_per_px:
        return crops
    if crops.scaled:
        raise SettingsError(f"{path}: says {crops.um_per_px:g} µm/px, not the {told.um_per_px:g} of --um-per-px")
    return replace(crops, um_per_px=told.um_per_px)


def _check_alike(parts: Sequence[LabelledCrops]) -> None:
    first = parts[0]
    for part in parts[1:]:
        for what, one, other in (
            ("pixels across", first.images.shape[1], part.images.shape[1]),
            ("type", first.images.dtype, part.images.dtype),
            ("µm/px", f"{first.um_per_px:g}", f"{part.um_per_px:g}"),
        ):
            if one != other:
                raise RecordingError(
                    f"{first.provenance} and {part.provenance} do not fit together ({what}: {one} and {other}); "
                    "resample both with --crop-px and --crop-um-per-px, or make two files"
                )


def _names_of_groups(part: LabelledCrops) -> dict[int, str]:
    """Names by group; groups without names are told apart by their source."""
    return {
        int(g): part.group_name(int(g)) if part.group_names else f"{part.provenance} {g}"
        for g in np.unique(part.groups)
    }


def _regrouped(part: LabelledCrops, place: Mapping[str, int]) -> NDArray[np.int64]:
    names = _names_of_groups(part)
    return np.array([place[names[group]] for group in part.groups.tolist()], np.int64)


def _renumbered(labels: NDArray[np.int64], old: tuple[str, ...], new: tuple[str, ...]) -> NDArray[np.int64]:
    places = np.array([*(new.index(name) for name in old), -1], np.int64)  # the last place is that of label -1
    return np.asarray(places[labels])


def _unmeasured(n: int) -> NDArray[np.float32]:
    return np.full(n, np.nan, np.float32)


def _joined_origins(parts: Sequence[LabelledCrops]) -> Origins | None:
    known = [part.origins for part in parts if part.origins is not None]
    if len(known) < len(parts):
        return None
    starts = np.cumsum([0, *(len(origin.files) for origin in known)])
    return Origins(
        tuple(name for origin in known for name in origin.files),
        np.concatenate([origin.file + start for origin, start in zip(known, starts.tolist(), strict=False)]),
        np.concatenate([origin.row for origin in known]),
    )


def _joined_cells(parts: Sequence[LabelledCrops]) -> NDArray[np.int64] | None:
    """Cells of different sources are different cells."""
    if all(part.cells is None for part in parts):
        return None
    numbers, start = [], 0
    for part in parts:
        mine = np.arange(len(part)) if part.cells is None else np.unique(part.cells, return_inverse=True)[1]
        numbers.append(mine.astype(np.int64) + start)
        start += len(part)
    return np.concatenate(numbers)
