"""Datasets that grow: rows are gathered in memory and go to HDF5 a block at a time, because row by row is slow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from hspc_live.recording import layout

COLUMN_CHUNK_BYTES: Final = 4 << 10

BLOCK_BYTES: Final = 4 << 20
"""Rows of one stream held in memory before they are written without waiting for a flush."""

PICTURE_BYTES: Final = 8 << 10
"""What a picture may take beside its pixels: it begins on a whole page and ends within one, and it has an index."""


class _Pictures:
    """Pictures held for a dataset, in one block of memory that is used again and again.

    A new array a picture, joined when a block is full, would copy twice and take fresh pages from the system each time.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._shape, self._dtype = dataset.shape[1:], dataset.dtype
        self._room = BLOCK_BYTES // max(1, math.prod(self._shape) * self._dtype.itemsize) + 1
        self._block = np.empty((0, *self._shape), self._dtype)
        self._used = 0

    def add(self, values: NDArray[Any]) -> None:
        end = self._used + len(values)
        if end > len(self._block):
            block = np.empty((max(end, self._room), *self._shape), self._dtype)
            block[: self._used] = self._block[: self._used]
            self._block = block
        self._block[self._used : end] = values
        self._used = end

    def take(self) -> NDArray[Any]:
        """What is held; good until the next `add`."""
        used, self._used = self._used, 0
        return self._block[:used]


class _Rows:
    """Rows of a column held for a dataset, as they came."""

    def __init__(self) -> None:
        self._held: list[NDArray[Any]] = []

    def add(self, values: NDArray[Any]) -> None:
        self._held.append(values)

    def take(self) -> NDArray[Any]:
        held, self._held = self._held, []
        return np.concatenate(held)


class Stream:
    """One or more datasets that grow together, a block at a time; `rows` counts those written to the file."""

    def __init__(
        self,
        datasets: Mapping[str, h5py.Dataset],
        take: Callable[[int], None],
        fail: Callable[[OSError | RuntimeError], NoReturn],
    ) -> None:
        """`take` sets room aside for so many bytes, or raises; `fail` is told of a write that failed, and raises."""
        self._take = take
        self._fail = fail
        # pictures last: should the file be cut short later, a picture is of no use without its number
        self.datasets = dict(sorted(datasets.items(), key=lambda item: item[1].ndim))
        self.rows = 0
        self._held: dict[str, _Pictures | _Rows] = {
            name: _Pictures(dataset) if dataset.ndim > 1 else _Rows() for name, dataset in self.datasets.items()
        }
        self._held_rows = 0
        self._held_bytes = 0

    @property
    def added(self) -> int:
        """Rows written and held."""
        return self.rows + self._held_rows

    def add(self, **columns: NDArray[Any]) -> None:
        """Append rows; every dataset of the stream gets as many. Pictures are copied; columns are kept as they are."""
        rows = {len(values) for values in columns.values()}
        if columns.keys() != self.datasets.keys() or len(rows) != 1:
            raise ValueError(f"columns {sorted(columns)} with {rows} rows do not fit {sorted(self.datasets)}")
        for name, values in columns.items():
            self._held[name].add(values)
            self._held_bytes += values.nbytes
        self._held_rows += rows.pop()
        if self._held_bytes >= BLOCK_BYTES:
            self.write()

    def write(self) -> None:
        """Bring the held rows to HDF5 (the file's own flush is still needed)."""
        if not self._held_rows:
            return
        pictures = sum(dataset.ndim > 1 for dataset in self.datasets.values())
        self._take(self._held_bytes + PICTURE_BYTES * pictures * self._held_rows)
        end = self.rows + self._held_rows
        try:
            for name, dataset in self.datasets.items():
                dataset.resize(end, axis=0)
                dataset[self.rows : end] = self._held[name].take()
        except (OSError, RuntimeError) as error:  # h5py raises either, by where in HDF5 the write failed
            self._fail(error)
        self.rows, self._held_rows, self._held_bytes = end, 0, 0


def new_column(group: h5py.Group, name: str, dtype: Any) -> h5py.Dataset:
    """A growing column, plain: a filtered chunk that grows moves, and in SWMR mode its old place stays lost."""
    rows = max(16, COLUMN_CHUNK_BYTES // np.dtype(dtype).itemsize)
    return group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(rows,))


def new_images(group: h5py.Group, name: str, shape: tuple[int, int], dtype: str) -> h5py.Dataset:
    """Growing pictures, bitshuffle-LZ4, one a chunk: no chunk is ever written twice, and replay reads one at a time.

    The checksum makes a damaged picture unreadable instead of wrong.
    """
    dataset = group.create_dataset(
        name,
        (0, *shape),
        np.dtype(dtype),
        maxshape=(None, *shape),
        chunks=(1, *shape),
        fletcher32=True,
        **hdf5plugin.Bitshuffle(cname="lz4"),
    )
    dataset.attrs.update(layout.IMAGE_ATTRIBUTES)
    return dataset
