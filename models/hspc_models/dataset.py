"""Labelled crops: the one format that training and evaluation read, whatever made the crops.

HDF5, readable with any HDF5 library: `/image` (n, S, S) uint8 or uint16 as cut by `core.crop`, `/label` (n,) index into
the attribute `label_names` (-1: nobody said), `/group` (n,) what a split must not part (a mouse, an experiment), with
its names in `/group_names`; attributes `um_per_px` (NaN: unknown) and `provenance`. Where known: `/cell` (n,), which
crops of one cell share; `/fluorescence` (n, channels), with `/channels`; `/file` and `/row` (n,), where each crop came
from, with `/files`. Files of the first version, without those, are read as well.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import OutputError, RecordingError
from hspc_live.core.values import Pixels

FORMAT: Final = "hspc-crops-2"
FORMATS: Final = (FORMAT, "hspc-crops-1")
UNKNOWN: Final = -1
"""The label of a crop whose class nobody has said."""

_CHUNK_BYTES: Final = 1 << 19  # of pictures: small enough to read some rows, large enough to read all quickly
_MAX_EDGE: Final = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Origins:
    """Where crops came from: `file` (n,) int64 indexes `files`; `row` (n,) int64 is the place in it."""

    files: tuple[str, ...]
    file: NDArray[np.int64]
    row: NDArray[np.int64]

    def take(self, rows: NDArray[np.integer]) -> Origins:
        """Those of some crops."""
        return Origins(self.files, self.file[rows], self.row[rows])


@dataclass(frozen=True, slots=True, eq=False)
class LabelledCrops:
    """Crops (n, S, S) with their true classes. `labels` (n,) int64 indexes `names`, or is -1; `groups` (n,) int64.

    `um_per_px` is NaN where nobody has said the scale. `group_names`, where given, are indexed by `groups`.
    `fluorescence` by channel is (n,) float32, NaN where unmeasured. Crops of one cell share their number in `cells`.
    `notes` say what was done to the crops on the way here.
    """

    images: Pixels
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    groups: NDArray[np.int64]
    um_per_px: float
    provenance: str
    group_names: tuple[str, ...] = ()
    fluorescence: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    origins: Origins | None = None
    cells: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def scaled(self) -> bool:
        """Whether the scale is known."""
        return math.isfinite(self.um_per_px)

    def group_name(self, group: int) -> str:
        """What a group is called; its number where it has no name."""
        return self.group_names[group] if self.group_names else str(group)

    def in_order(self, classes: tuple[str, ...]) -> LabelledCrops:
        """The crops of `classes` only, labels renumbered to that order. Raises RecordingError if a class is absent."""
        absent = [name for name in classes if name not in self.names]
        if absent:
            has = ", ".join(self.names) or "no labels"
            raise RecordingError(
                f"{self.provenance}: no crops of {', '.join(absent)}; it has {has}. Add crops of it, or change classes "
                "to those it has"
            )
        renumbered = np.full(len(self.names) + 1, UNKNOWN, np.int64)  # the last place is that of label -1
        for new, name in enumerate(classes):
            renumbered[self.names.index(name)] = new
        labels = renumbered[self.labels]
        keep = np.flatnonzero(labels >= 0)
        return replace(self.take(keep), labels=labels[keep], names=classes)

    def take(self, rows: NDArray[np.integer]) -> LabelledCrops:
        """The crops of some rows, in that order."""
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            groups=self.groups[rows],
            fluorescence={name: values[rows] for name, values in self.fluorescence.items()},
            origins=None if self.origins is None else self.origins.take(rows),
            cells=None if self.cells is None else self.cells[rows],
        )


def write_crops(path: Path, crops: LabelledCrops) -> None:
    """Write a new file, whole or not at all. Raises OutputError if it exists or cannot be written."""
    if path.exists():
        raise OutputError(f"{path}: cannot write the crops: it exists already; name another file")
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        try:
            with h5py.File(partial, "w") as file:
                _write(file, crops)
            _move(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except FileExistsError as error:
        raise OutputError(f"{path}: cannot write the crops: it exists already; name another file") from error
    except OSError as error:
        raise OutputError(f"{path}: cannot write the crops: {error}") from error


def _write(file: h5py.File, crops: LabelledCrops) -> None:
    images = crops.images
    # chunks of many crops, bytes of the same significance side by side: several times faster than a chunk a crop
    rows = max(1, min(len(images), _CHUNK_BYTES // max(1, images[:1].nbytes)))
    kept: dict[str, Any] = (
        {"chunks": (rows, *images.shape[1:]), "compression": "gzip", "compression_opts": 3, "shuffle": True}
        if images.size
        else {}
    )
    file.create_dataset("image", data=images, **kept)
    file["label"] = crops.labels
    file["group"] = crops.groups
    file.attrs["format"] = FORMAT
    file.attrs["label_names"] = list(crops.names)
    file.attrs["um_per_px"] = crops.um_per_px
    file.attrs["provenance"] = crops.provenance
    _write_texts(file, "group_names", crops.group_names)
    if crops.cells is not None:
        file["cell"] = crops.cells
    if crops.fluorescence:
        file["fluorescence"] = np.stack(list(crops.fluorescence.values()), axis=1).astype(np.float32)
        _write_texts(file, "channels", tuple(crops.fluorescence))
    if crops.origins is not None:
        file["file"], file["row"] = crops.origins.file, crops.origins.row
        _write_texts(file, "files", crops.origins.files)
    _write_texts(file, "notes", crops.notes)


def _write_texts(file: h5py.File, name: str, texts: tuple[str, ...]) -> None:
    if texts:  # datasets, as attributes end at 64 KiB
        file.create_dataset(name, data=list(texts), dtype=h5py.string_dtype())


def _move(partial: Path, path: Path) -> None:
    """Give the finished file its name; never over another. Raises FileExistsError."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(str(path)) from None
        partial.rename(path)


def is_crops(path: Path) -> bool:
    """Whether an HDF5 file says that it holds labelled crops; others may be recordings."""
    try:
        with h5py.File(path, "r") as file:
            return file.attrs.get("format") in FORMATS
    except (OSError, KeyError, ValueError, RuntimeError):
        return False  # cut short, or left open by a crash: readers of recordings know more


def read_crops(path: Path) -> LabelledCrops:
    """Read a file whole. Raises RecordingError, naming what is wrong with it."""
    try:
        with h5py.File(path, "r") as file:
            crops = _read(path, file)
    except (OSError, KeyError, TypeError, ValueError, UnicodeError, RuntimeError) as error:
        raise RecordingError(f"{path}: cannot read labelled crops: {error}") from error
    _check(path, crops)
    return crops


def _read(path: Path, file: h5py.File) -> LabelledCrops:
    if file.attrs.get("format") not in FORMATS:
        raise RecordingError(
            f"{path}: not a file of labelled crops (attribute format is not {FORMAT}); "
            "make one with `hspc-live dataset make`"
        )
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise RecordingError(f"{path}: {name} leads out of the file; store it inside")
        if isinstance(file[name], h5py.Dataset) and (file[name].is_virtual or file[name].external):
            raise RecordingError(f"{path}: {name} keeps its data in other files; store it inside")
    image = file["image"]
    n = len(file["label"])
    # before anything large is read
    if image.dtype not in (np.uint8, np.uint16):
        raise RecordingError(f"{path}: image is {image.dtype}, expected uint8 or uint16")
    columns = [name for name in ("label", "group", "cell", "file", "row") if name in file]
    lengths = {name: file[name].shape for name in columns}
    if image.ndim != 3 or len(image) != n or any(shape != (n,) for shape in lengths.values()):
        raise RecordingError(
            f"{path}: image, label and group are of different lengths, or image is not (n, S, S): "
            f"image {image.shape}, {', '.join(f'{name} {shape}' for name, shape in lengths.items())}"
        )
    if n and (image.shape[1] != image.shape[2] or not 1 <= image.shape[1] <= _MAX_EDGE):
        raise RecordingError(f"{path}: crops of {image.shape[2]} × {image.shape[1]} pixels are not squares")
    column = {name: file[name][:].astype(np.int64) for name in columns}
    return LabelledCrops(
        image[:],
        column["label"],
        tuple(str(name) for name in file.attrs["label_names"]),
        column["group"],
        float(file.attrs["um_per_px"]),
        str(file.attrs["provenance"]),
        _texts(file, "group_names"),
        _fluorescence(path, file, n),
        Origins(_texts(file, "files"), column["file"], column["row"]) if {"file", "row"} <= set(column) else None,
        column.get("cell"),
        _texts(file, "notes"),
    )


def _texts(file: h5py.File, name: str) -> tuple[str, ...]:
    return tuple(file[name].asstr()[:].tolist()) if name in file else ()


def _fluorescence(path: Path, file: h5py.File, n: int) -> dict[str, NDArray[np.float32]]:
    if "fluorescence" not in file:
        return {}
    channels, values = _texts(file, "channels"), file["fluorescence"]
    if values.shape != (n, len(channels)):
        raise RecordingError(f"{path}: fluorescence is {values.shape}, expected ({n}, {len(channels)}), by channels")
    columns = values[:].astype(np.float32)
    return {name: columns[:, i].copy() for i, name in enumerate(channels)}


def _check(path: Path, crops: LabelledCrops) -> None:
    if len(set(crops.names)) != len(crops.names):
        raise RecordingError(f"{path}: label_names has a name twice: {', '.join(crops.names)}")
    with contextlib.suppress(ValueError):  # of an empty file
        if not (crops.labels.min() >= UNKNOWN and crops.labels.max() < len(crops.names)):
            raise RecordingError(f"{path}: a label lies outside label_names ({len(crops.names)} names)")
        if crops.group_names and not (crops.groups.min() >= 0 and crops.groups.max() < len(crops.group_names)):
            raise RecordingError(f"{path}: a group lies outside group_names ({len(crops.group_names)} names)")
        origins = crops.origins
        if origins is not None and not (origins.file.min() >= 0 and origins.file.max() < len(origins.files)):
            raise RecordingError(f"{path}: a file lies outside files ({len(origins.files)} names)")
    if not (math.isnan(crops.um_per_px) or 0 < crops.um_per_px < math.inf):
        raise RecordingError(f"{path}: um_per_px is {crops.um_per_px:g}; it must be positive, or NaN where unknown")
