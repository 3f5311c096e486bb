"""The bytes of a damaged HDF5 file, made to look whole to HDF5; nothing is written.

A file that was cut short goes on with zeros. One that a crash left open loses its mark of a writer: with the mark HDF5
opens it only for reading beside that writer (SWMR), and there it reads a header whose checksum is wrong again and
again, without end, since a writer might be just about to finish it.

Source of the superblock and of its checksum (Bob Jenkins' lookup3, `hashlittle`): HDF5 file format specification 3.0,
II.A and the note on checksums.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any, Final

ENDLESS: Final = 1 << 48
SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_SUPERBLOCK: Final = struct.Struct("<8sBBBBQQQQ")
_WORD: Final = 0xFFFFFFFF


class Mended(io.RawIOBase):
    """A file as it is, behind another beginning and before another end."""

    def __init__(self, path: Path, head: bytes, size: int) -> None:
        """`head` stands in place of as many first bytes; up to `size` the file goes on with zeros."""
        self._raw = path.open("rb")
        self._head = head
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be read anywhere."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, also behind the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """The place that is read next."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from here on; 0 at the end."""
        view = memoryview(buffer).cast("B")
        view = view[: max(0, self._size - self._at)]
        self._raw.seek(self._at)
        got = self._raw.readinto(view)
        view[got:] = bytes(len(view) - got)
        if self._at < len(self._head):
            part = self._head[self._at : self._at + len(view)]
            view[: len(part)] = part
        self._at += len(view)
        return len(view)

    def close(self) -> None:
        """Let go of the file."""
        self._raw.close()
        super().close()


def lengthened(path: Path) -> Mended:
    """The file with zeros behind its end. Raises OSError where it cannot be opened."""
    return Mended(path, b"", ENDLESS)


def without_writer(path: Path) -> Mended:
    """The file as if its writer had closed it as it stands: unmarked, and ending where it ends.

    Raises OSError where it cannot be opened, or where its beginning is no superblock that knows such a mark.
    """
    with path.open("rb") as file:
        head = file.read(_SUPERBLOCK.size)
        size = os.fstat(file.fileno()).st_size
    if len(head) < _SUPERBLOCK.size:
        raise OSError("the superblock is cut short")
    signature, version, offsets, lengths, _marks, base, extension, _end, root = _SUPERBLOCK.unpack(head)
    if signature != SIGNATURE or version < 2 or (offsets, lengths) != (8, 8):
        raise OSError("the superblock is of another kind")
    head = _SUPERBLOCK.pack(signature, version, offsets, lengths, 0, base, extension, size, root)
    return Mended(path, head + struct.pack("<I", lookup3(head)), size)


def lookup3(data: bytes) -> int:
    """Bob Jenkins' hashlittle with the initial value 0: the checksum of HDF5's metadata, 32 bits."""
    a = b = c = (0xDEADBEEF + len(data)) & _WORD
    tail = (len(data) - 1) // 12 * 12 if data else 0  # the last block, of 1 to 12 bytes, is mixed in another way
    for start in range(0, tail, 12):
        x, y, z = struct.unpack_from("<III", data, start)
        a, b, c = _mix((a + x) & _WORD, (b + y) & _WORD, (c + z) & _WORD)
    if not data:
        return c
    x, y, z = struct.unpack("<III", data[tail:].ljust(12, b"\0"))
    return _last((a + x) & _WORD, (b + y) & _WORD, (c + z) & _WORD)


def _turn(value: int, by: int) -> int:
    return ((value << by) | (value >> (32 - by))) & _WORD


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for by in (4, 6, 8, 16, 19, 4):
        a = ((a - c) & _WORD) ^ _turn(c, by)
        c = (c + b) & _WORD
        a, b, c = b, c, a
    return a, b, c


def _last(a: int, b: int, c: int) -> int:
    for by in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _turn(b, by)) & _WORD
        a, b, c = b, c, a
    return b
