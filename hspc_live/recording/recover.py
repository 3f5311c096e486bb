"""What can still be read of a file: whole, cut short, or left open by a crash; and nothing outside it.

HDF5 refuses a file that ends too early, although all that lies before its end can be read. Here such a file is opened
as if it were complete (`mended`), and what lies behind its end is told apart by where its chunks lie, because HDF5
would read it as zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import RecordingError
from hspc_live.recording.mended import Mended, lengthened, without_writer

FILTERS: Final = hdf5plugin.__name__  # importing it registers Zstandard, bitshuffle and the others with HDF5
MAX_ROWS: Final = 100_000_000
_CACHE_BYTES: Final = 64 << 20
_BLOCK_BYTES: Final = 8 << 20


class Source:
    """One HDF5 file open for reading; `truncated` and `crashed` say what happened to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.truncated = False
        self.crashed = False
        self._mended: Mended | None = None
        try:
            self.size = path.stat().st_size
            with path.open("rb"):
                pass
        except OSError as error:
            raise RecordingError(f"{path} cannot be opened ({error.strerror}): check the path") from error
        if self.size == 0:
            raise RecordingError(f"{path} is empty (0 bytes): nothing was ever written; take another copy of it")
        self.file = self._open()

    def _open(self) -> h5py.File:
        cache = {"rdcc_nbytes": _CACHE_BYTES, "rdcc_w0": 0.0}
        try:
            return h5py.File(self.path, "r", locking=False, **cache)
        except OSError as error:
            reason = str(error)
        if "truncated file" in reason:
            self.truncated = True
            return self._open_mended(lengthened, "was cut short before anything that can be read", cache)
        if "h5clear" in reason or "already open for" in reason:
            self.crashed = True
            return self._open_mended(without_writer, "was left open by a crash and cannot be read", cache)
        raise RecordingError(f"{self.path} is not an HDF5 file, or its beginning is damaged ({reason})")

    def _open_mended(self, mend: Callable[[Path], Mended], otherwise: str, cache: dict[str, Any]) -> h5py.File:
        try:
            self._mended = mend(self.path)
            return h5py.File(self._mended, "r", **cache)
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            if self._mended is not None:
                self._mended.close()
            raise RecordingError(f"{self.path} {otherwise} ({error}): take another copy of it") from error

    def dataset(self, name: str) -> h5py.Dataset | None:
        """The dataset at `name`, or None. Raises RecordingError where the path leads out of the file."""
        found = self._walk(name, 0)
        if not isinstance(found, h5py.Dataset):
            return None
        if found.is_virtual or found.external:
            raise RecordingError(f"{self.path}: {name} keeps its data in other files: store it inside")
        if found.shape is None or (found.shape and found.shape[0] > MAX_ROWS):
            raise RecordingError(f"{self.path}: {name} has the shape {found.shape}, which no recording has")
        return found

    def group(self, name: str) -> h5py.Group | None:
        """The group at `name`, or None."""
        found = self._walk(name, 0)
        return found if isinstance(found, h5py.Group) else None

    def attributes(self, name: str) -> dict[str, Any]:
        """The attributes of the group at `name` ("" is the file) as far as they can be read."""
        found: dict[str, Any] = {}
        try:
            attributes = self._walk(name, 0).attrs if name else self.file.attrs
            for key in attributes:
                found[key] = attributes[key]
        except (OSError, KeyError, RuntimeError, AttributeError):
            pass  # whoever needs one that is missing says so
        return found

    def _walk(self, name: str, depth: int) -> Any:
        """Follow `name` link by link: h5py would follow one out of the file without a word."""
        here: Any = self.file
        for part in name.strip("/").split("/"):
            try:
                link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
                match link:
                    case None:
                        return None
                    case h5py.ExternalLink():
                        raise RecordingError(f"{self.path}: {name} is a link to another file, which is refused")
                    case h5py.SoftLink() if depth < 8:
                        target = link.path if link.path.startswith("/") else f"{here.name}/{link.path}"
                        here = self._walk(target, depth + 1)
                    case h5py.SoftLink():
                        return None
                    case _:
                        here = here[part]
            except (OSError, KeyError, RuntimeError):
                return None  # its header lies in what was lost
        return here

    def readable(self, dataset: h5py.Dataset, row: int) -> bool:
        """Whether the chunk that holds `row` lies wholly inside the file."""
        if not (self.truncated or self.crashed):
            return True
        if dataset.chunks is None:
            size = int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize
            start = dataset.id.get_offset()
            start = None if start is None else start + row * size
        else:
            corner = (row - row % dataset.chunks[0], *[0] * (dataset.ndim - 1))
            try:
                info = dataset.id.get_chunk_info_by_coord(corner)
            except (OSError, RuntimeError):
                return False
            start, size = info.byte_offset, info.size
        return start is not None and start + size <= self.size

    def rows(self, dataset: h5py.Dataset, first: int, end: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Rows [first, end) and which of them could be read (the others are zeros). Damage costs the chunk it is in."""
        good = np.ones(end - first, bool)
        step = dataset.chunks[0] if dataset.chunks else 1
        try:
            if not (self.truncated or self.crashed):
                return dataset[first:end], good
        except (OSError, RuntimeError):
            pass
        values = np.zeros((end - first, *dataset.shape[1:]), dataset.dtype)
        for start in range(first - first % step, end, step):
            low, high = max(start, first), min(start + step, end)
            try:
                if not self.readable(dataset, low):
                    raise OSError("behind the end of the file")
                values[low - first : high - first] = dataset[low:high]
            except (OSError, RuntimeError):
                good[low - first : high - first] = False
        return values, good

    def column(self, name: str, limit: int | None = None) -> NDArray[Any] | None:
        """The first `limit` rows of a dataset, or as many as are good; None where there is no such dataset.

        Rows behind damage may not belong to their neighbours of other datasets, so the good ones before it are given.
        """
        dataset = self.dataset(name)
        if dataset is None or dataset.ndim == 0:
            return None
        values, good = self.rows(dataset, 0, len(dataset) if limit is None else min(limit, len(dataset)))
        return values if good.all() else values[: int(np.argmin(good))]

    def close(self) -> None:
        """Let go of the file; harmless when called twice."""
        if self.file:
            self.file.close()
        if self._mended is not None:
            self._mended.close()


class Pictures:
    """Pictures of one dataset by row, read a block of whole chunks at a time."""

    def __init__(self, source: Source, dataset: h5py.Dataset) -> None:
        self._source = source
        self._dataset = dataset
        self.rows: int = dataset.shape[0]
        bytes_each = max(1, int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize)
        chunk = dataset.chunks[0] if dataset.chunks else 1
        wanted = max(1, _BLOCK_BYTES // bytes_each)
        # whole chunks; a chunk larger than a block stays in HDF5's own cache between its blocks
        self._step = wanted if wanted < chunk else wanted - wanted % chunk
        self._first = 0
        self._block: NDArray[Any] | None = None
        self._good: NDArray[np.bool_] = np.empty(0, bool)

    def __getitem__(self, row: int) -> NDArray[Any] | None:
        """One picture, or None if it cannot be read. The array is the caller's own."""
        if not 0 <= row < self.rows:
            return None
        if self._block is None or not self._first <= row < self._first + len(self._block):
            self._first = row - row % self._step
            end = min(self._first + self._step, self.rows)
            self._block, self._good = self._source.rows(self._dataset, self._first, end)
        at = row - self._first
        return self._block[at].copy() if self._good[at] else None


def runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Sorted numbers as (first, last) of each unbroken run, for saying what was lost."""
    start = 0
    for i in range(1, len(numbers) + 1):
        if i == len(numbers) or numbers[i] != numbers[i - 1] + 1:
            yield numbers[start], numbers[i - 1]
            start = i
