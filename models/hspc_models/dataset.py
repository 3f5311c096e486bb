"""Labelled crops: the one format that training and evaluation read, whatever made the crops.

HDF5: `/image` (n, S, S) uint8 or uint16 as cut by `core.crop`, `/label` (n,) index into the attribute `label_names`,
`/group` (n,) what a split must not part (a cell, a mouse, an experiment); attributes `um_per_px` and `provenance`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import OutputError, RecordingError
from hspc_live.core.values import Pixels

FORMAT = "hspc-crops-1"


@dataclass(frozen=True, slots=True, eq=False)
class LabelledCrops:
    """Crops (n, S, S) with their true classes. `labels` (n,) int64 indexes `names`; `groups` (n,) int64."""

    images: Pixels
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    groups: NDArray[np.int64]
    um_per_px: float
    provenance: str

    def __len__(self) -> int:
        return len(self.labels)

    def in_order(self, classes: tuple[str, ...]) -> LabelledCrops:
        """The crops of `classes` only, labels renumbered to that order. Raises RecordingError if a class is absent."""
        absent = [name for name in classes if name not in self.names]
        if absent:
            raise RecordingError(f"{self.provenance}: no crops of {', '.join(absent)}; it has {', '.join(self.names)}")
        renumbered = np.full(len(self.names), -1, np.int64)
        for new, name in enumerate(classes):
            renumbered[self.names.index(name)] = new
        labels = renumbered[self.labels]
        keep = np.flatnonzero(labels >= 0)
        kept = self.take(keep)
        return LabelledCrops(kept.images, labels[keep], classes, kept.groups, self.um_per_px, self.provenance)

    def take(self, rows: NDArray[np.integer]) -> LabelledCrops:
        """The crops of some rows, in that order."""
        return LabelledCrops(
            self.images[rows], self.labels[rows], self.names, self.groups[rows], self.um_per_px, self.provenance
        )


def write_crops(path: Path, crops: LabelledCrops) -> None:
    """Write a new file. Raises OutputError if it exists or cannot be written."""
    try:
        with h5py.File(path, "x") as file:
            file.create_dataset("image", data=crops.images, chunks=(1, *crops.images.shape[1:]), compression="gzip")
            file["label"] = crops.labels
            file["group"] = crops.groups
            file.attrs["format"] = FORMAT
            file.attrs["label_names"] = list(crops.names)
            file.attrs["um_per_px"] = crops.um_per_px
            file.attrs["provenance"] = crops.provenance
    except OSError as error:
        raise OutputError(f"{path}: cannot write the crops: {error}") from error


def read_crops(path: Path) -> LabelledCrops:
    """Read a file whole. Raises RecordingError, naming what is wrong with it."""
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise RecordingError(f"{path}: not a file of labelled crops (attribute format is not {FORMAT})")
            names = tuple(str(name) for name in file.attrs["label_names"])
            crops = LabelledCrops(
                file["image"][:],
                file["label"][:].astype(np.int64),
                names,
                file["group"][:].astype(np.int64),
                float(file.attrs["um_per_px"]),
                str(file.attrs["provenance"]),
            )
    except (OSError, KeyError) as error:
        raise RecordingError(f"{path}: cannot read labelled crops: {error}") from error
    n = len(crops.labels)
    if crops.images.ndim != 3 or len(crops.images) != n or len(crops.groups) != n:
        raise RecordingError(f"{path}: image, label and group are of different lengths, or image is not (n, S, S)")
    if crops.images.dtype not in (np.uint8, np.uint16):
        raise RecordingError(f"{path}: image is {crops.images.dtype}, expected uint8 or uint16")
    if n and not (0 <= crops.labels.min() and crops.labels.max() < len(names)):
        raise RecordingError(f"{path}: a label lies outside label_names ({len(names)} names)")
    return crops
