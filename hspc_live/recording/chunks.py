"""Pictures as the chunks that HDF5 would make of them: bitshuffle-LZ4, then Fletcher's checksum, one picture a chunk.

HDF5 hands its filter one chunk at a time, copied into memory that is fetched anew for each, and takes longer over its
checksum than over writing the file. Here one call compresses many pictures, without Python's lock and into memory that
is used again. The compression is that of the very library that HDF5 uses; where the library does not show its function
(Windows), or cannot cut such pictures apart afterwards, there are no `Chunks`, and HDF5 does it.

Source of the format: bitshuffle's `bshuf_h5filter.c` (12 bytes of head: size of the picture and of a block, big-endian)
and `bitshuffle.h`; HDF5's `H5Zfletcher32.c`.
"""

from __future__ import annotations

import ctypes
import math
import struct
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

import cv2
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import HspcError

_NAMES: Final = ("libh5bshuf.so", "libh5bshuf.dylib", "h5bshuf.dll", "libh5bshuf.dll")
_HEAD: Final = struct.Struct(">QI")
_LENGTH: Final = struct.Struct(">I")
_CHECKSUM: Final = struct.Struct("<I")
_MODULUS: Final = 65_535

ROW: Final = 512
"""Bytes of a row of the table that the checksum is taken from."""
_ZEROS: Final = bytes(ROW)
_WORDS: Final = np.stack([np.ones(ROW // 2), np.arange(ROW // 2)], axis=1)
_ONE_AND_PLACE: Final = np.kron(_WORDS, [[1.0], [256.0]])
"""What a byte of a row adds to the sum of its words, and to that of the words by their places: low half, high half."""

BLOCK_BYTES: Final = 8192
"""Bitshuffle's own block, which fits a processor's nearest cache; ours divides the picture and is near to it."""
_NEAR: Final = 4


def filter_library() -> ctypes.CDLL:
    """The shared library of the bitshuffle filter. Raises HspcError where hdf5plugin did not bring it."""
    folder = Path(hdf5plugin.PLUGIN_PATH)
    found = next((folder / name for name in _NAMES if (folder / name).exists()), None)
    if found is None:
        raise HspcError(f"{folder} holds no bitshuffle filter: install hdf5plugin anew")
    return ctypes.CDLL(str(found))


@cache
def bitshuffle_lz4() -> tuple[Any, Any] | None:
    """Bitshuffle's `bshuf_compress_lz4` and `bshuf_compress_lz4_bound`; None where they are not to be had."""
    try:
        library = filter_library()
        compress, bound = library.bshuf_compress_lz4, library.bshuf_compress_lz4_bound
    except (HspcError, OSError, AttributeError):
        return None
    size = ctypes.c_size_t
    compress.restype, compress.argtypes = ctypes.c_int64, (ctypes.c_void_p, ctypes.c_void_p, size, size, size)
    bound.restype, bound.argtypes = size, (size, size, size)
    return compress, bound


class Chunks:
    """The chunks of one block of pictures (n, height, width) after another: `compress`, then `take`."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], block: int) -> None:
        """`block` elements are compressed together; they divide the picture."""
        functions = bitshuffle_lz4()
        assert functions is not None
        self._compress, self._bound = functions
        self._itemsize, self._block = dtype.itemsize, block
        self._blocks = math.prod(shape) // block  # of one picture
        self._head = _HEAD.pack(math.prod(shape) * dtype.itemsize, block * dtype.itemsize)
        self._memory = np.empty(0, np.uint8)
        self._pictures = 0

    @classmethod
    def of(cls, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Self | None:
        """For pictures of `shape`; None where they, or this machine, leave it to HDF5."""
        block = block_of(math.prod(shape), dtype.itemsize)
        return None if block is None or bitshuffle_lz4() is None or sys.byteorder == "big" else cls(shape, dtype, block)

    def compress(self, pictures: NDArray[Any]) -> int:
        """Compress (n, height, width), C-ordered; returns the bytes of all their chunks. Any thread may call it.

        Raises RuntimeError where that fails, for want of memory.
        """
        told = (pictures.size, self._itemsize, self._block)
        room = _HEAD.size + self._bound(*told) + ROW
        if len(self._memory) < room:
            self._memory = np.empty(room, np.uint8)
        got = self._compress(pictures.ctypes.data, self._memory.ctypes.data + _HEAD.size, *told)
        if got < 0:
            raise RuntimeError(f"bitshuffle failed on {len(pictures)} pictures (error {got})")
        self._pictures = len(pictures)
        return int(got) + len(pictures) * (_HEAD.size + _CHECKSUM.size)

    def take(self) -> Iterator[memoryview]:
        """The chunks of what was compressed, in order; each is good until the next is asked for.

        They lie one behind the other without head and checksum, so each borrows a few bytes of its neighbours: of the
        one before, which is done with, and of the one behind, which gets them back.
        """
        memory = self._memory.data
        begin = _HEAD.size
        for _ in range(self._pictures):
            end = begin
            for _ in range(self._blocks):
                end += _LENGTH.size + _LENGTH.unpack_from(memory, end)[0]
            first, length = begin - _HEAD.size, end - begin + _HEAD.size
            behind = first + -(-length // ROW) * ROW
            borrowed = bytes(memory[end : max(behind, end + _CHECKSUM.size)])
            memory[first:begin] = self._head
            memory[end:behind] = _ZEROS[: behind - end]
            _CHECKSUM.pack_into(memory, end, fletcher32(self._memory[first:behind], length))
            yield memory[first : end + _CHECKSUM.size]
            memory[end : end + len(borrowed)] = borrowed
            begin = end


@cache
def block_of(elements: int, itemsize: int) -> int | None:
    """How many elements of a picture to compress together: a multiple of 8 that divides it, None where none is near."""
    wanted = BLOCK_BYTES // itemsize
    near = range(max(8, wanted // _NEAR), min(elements, wanted * _NEAR) + 1)
    found = [size for size in near if size % 8 == 0 and elements % size == 0]
    if elements < wanted:
        found = [elements] if elements % 8 == 0 else []
    return min(found, key=lambda size: abs(math.log(size / wanted)), default=None)


def fletcher32(data: NDArray[np.uint8], length: int) -> int:
    """Fletcher's checksum of the first `length` bytes, as HDF5 computes it: of words of 16 bits, big-endian.

    `data` is zero behind them, up to a multiple of `ROW` bytes. The second sum weighs each word by its distance from
    the end. Both sums follow from those over rows and columns of the words laid out as a table, and these are what a
    processor adds up fast. Words are read in this machine's order (little-endian): modulo 65,535 to swap the bytes of a
    word is to multiply it by 256.
    """
    table = data.reshape(-1, ROW)
    # exact: OpenCV's whole sums suffice for eight million rows, its single precision for the 256 words of one
    columns = cv2.reduce(table, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[0]
    rows = cv2.reduce(table.view(np.uint16), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32F)[:, 0]
    of_columns = columns.astype(np.float64).dot(_ONE_AND_PLACE)
    plain, placed = int(of_columns[0]), int(of_columns[1])
    placed += ROW // 2 * int(rows.astype(np.int64).dot(np.arange(len(rows))))
    return _folded(256 * ((length + 1) // 2 * plain - placed)) << 16 | _folded(256 * plain)


def _folded(total: int) -> int:
    """The remainder, as HDF5 comes to it by folding: of multiples of 65,535 it leaves 65,535, of 0 it leaves 0."""
    return total % _MODULUS or (_MODULUS if total else 0)
