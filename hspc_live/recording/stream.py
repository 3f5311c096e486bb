"""Datasets that grow: rows are gathered in memory and go to HDF5 a block at a time, because row by row is slow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any, Final, NoReturn

import h5py
import hdf5plugin
import numpy as np
from h5py import h5s
from numpy.typing import NDArray

from hspc_live.recording import layout
from hspc_live.recording.chunks import Chunks

COLUMN_CHUNK_BYTES: Final = 4 << 10

BLOCK_BYTES: Final = 4 << 20
"""Rows of one stream held in memory before they are written without waiting for a flush."""

ASIDE_BYTES: Final = 256 << 10
"""Pictures that are worth waking the other thread for."""

PICTURE_BYTES: Final = 8 << 10
"""What a picture may take beside its pixels: it begins on a whole page and ends within one, and it has an index."""


class _Pictures:
    """Pictures for a dataset: some that gather, and some that gathered before and are being compressed meanwhile.

    Two blocks of memory take turns. A new array a picture, joined when a block is full, would copy twice and take fresh
    pages from the system each time.
    """

    def __init__(self, dataset: h5py.Dataset, pool: Executor) -> None:
        self._dataset = dataset
        self._pool = pool
        self._shape, self._dtype = dataset.shape[1:], dataset.dtype
        self._room = BLOCK_BYTES // max(1, math.prod(self._shape) * self._dtype.itemsize) + 1
        self._gathering, self._begun = (np.empty((0, *self._shape), self._dtype) for _ in range(2))
        self._used = self._begun_rows = 0
        self._chunks = Chunks.of(self._shape, self._dtype)
        self._ready: Callable[[], int] = int  # waits for the compression, gives the bytes that are left

    def add(self, values: NDArray[Any]) -> None:
        end = self._used + len(values)
        if end > len(self._gathering):
            block = np.empty((max(end, self._room), *self._shape), self._dtype)
            block[: self._used] = self._gathering[: self._used]
            self._gathering = block
        self._gathering[self._used : end] = values
        self._used = end

    def begin(self) -> None:
        self._gathering, self._begun = self._begun, self._gathering
        self._begun_rows, self._used = self._used, 0
        pictures = self._begun[: self._begun_rows]
        if self._chunks is None:
            self._ready = lambda: pictures.nbytes
        elif pictures.nbytes < ASIDE_BYTES:
            self._ready = partial(self._chunks.compress, pictures)
        else:
            self._ready = self._pool.submit(self._chunks.compress, pictures).result

    def begun_bytes(self) -> int:
        return self._ready() + PICTURE_BYTES * self._begun_rows

    def write(self, first: int) -> None:
        end = first + self._begun_rows
        dataset, corner = self._dataset.id, [0] * len(self._shape)
        dataset.set_extent((end, *self._shape))
        if self._chunks is None:
            self._dataset[first:end] = self._begun[: self._begun_rows]
            return
        put = dataset.write_direct_chunk
        for row, chunk in enumerate(self._chunks.take(), first):
            put((row, *corner), chunk)


class _Rows:
    """Rows of a column for a dataset, as they came.

    Written through h5py's lower interface: `dataset[first:] = …` takes longer over a block than its pictures may.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset.id
        self._dtype = dataset.dtype
        self._gathering: list[NDArray[Any]] = []
        self._begun: NDArray[Any] = np.empty(0, self._dtype)

    def add(self, values: NDArray[Any]) -> None:
        self._gathering.append(values)

    def begin(self) -> None:
        self._begun, self._gathering = np.concatenate(self._gathering, dtype=self._dtype), []

    def begun_bytes(self) -> int:
        return self._begun.nbytes

    def write(self, first: int) -> None:
        end = first + len(self._begun)
        self._dataset.set_extent((end,))
        place = h5s.create_simple((end,))
        place.select_hyperslab((first,), (end - first,))
        self._dataset.write(h5s.create_simple((end - first,)), place, self._begun)


class Stream:
    """One or more datasets that grow together, a block at a time; `rows` counts those written to the file.

    While rows gather, the pictures of the block before are compressed by a thread of `pool`.
    """

    def __init__(
        self,
        datasets: Mapping[str, h5py.Dataset],
        pool: Executor,
        take: Callable[[int], None],
        fail: Callable[[OSError | RuntimeError | MemoryError], NoReturn],
    ) -> None:
        """`take` sets room aside for so many bytes, or raises; `fail` is told of a write that failed, and raises."""
        self._take = take
        self._fail = fail
        # pictures last: should the file be cut short later, a picture is of no use without its number
        self.datasets = dict(sorted(datasets.items(), key=lambda item: item[1].ndim))
        self.rows = 0
        self._columns: dict[str, _Pictures | _Rows] = {
            name: _Pictures(dataset, pool) if dataset.ndim > 1 else _Rows(dataset)
            for name, dataset in self.datasets.items()
        }
        self._gathered_rows = self._gathered_bytes = self._begun_rows = 0

    @property
    def added(self) -> int:
        """Rows written and held."""
        return self.rows + self._begun_rows + self._gathered_rows

    def add(self, **columns: NDArray[Any]) -> None:
        """Append rows; every dataset of the stream gets as many. Pictures are copied; columns are kept as they are."""
        rows = {len(values) for values in columns.values()}
        if columns.keys() != self.datasets.keys() or len(rows) != 1:
            raise ValueError(f"columns {sorted(columns)} with {rows} rows do not fit {sorted(self.datasets)}")
        for name, values in columns.items():
            self._columns[name].add(values)
            self._gathered_bytes += values.nbytes
        self._gathered_rows += rows.pop()
        if self._gathered_bytes >= BLOCK_BYTES:
            self.begin()

    def begin(self) -> None:
        """Have the rows that gathered made ready for the file; those of before go to HDF5 first."""
        self.finish()
        if self._gathered_rows:
            for column in self._columns.values():
                column.begin()
            self._begun_rows, self._gathered_rows, self._gathered_bytes = self._gathered_rows, 0, 0

    def finish(self) -> None:
        """Bring the rows that were begun to HDF5 (the file's own flush is still needed)."""
        if not self._begun_rows:
            return
        try:
            room = sum(column.begun_bytes() for column in self._columns.values())
        except (RuntimeError, MemoryError) as error:
            self._fail(error)
        self._take(room)
        try:
            for column in self._columns.values():
                column.write(self.rows)
        except (OSError, RuntimeError, MemoryError) as error:  # h5py raises any, by where in HDF5 the write failed
            self._fail(error)
        self.rows, self._begun_rows = self.rows + self._begun_rows, 0


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
