"""Room on the disk, set aside before HDF5 writes: a library that finds a disk full half-way may crash the program.

The rows of the run are worth more than the last of them: what does not fit is refused while the file is still whole.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

MARGIN_BYTES: Final = 1 << 20
"""Beyond the rows: indexes and headers of all datasets, their last chunks, and what closing the file takes."""

AHEAD_BYTES: Final = 32 << 20
"""What is set aside at once where there is plenty: asking takes the system longer than writing a few pictures."""

KEEP_SIZE: Final = 1
"""FALLOC_FL_KEEP_SIZE of Linux: blocks are set aside behind the end of the file, which stays where it is."""

_CANNOT: Final = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""A file system without it: NFS before 4.2, FAT, some of FUSE."""


class Room:
    """Blocks for one growing file.

    `flushed` says that everything given so far is in the file; what was given since then counts as well, because HDF5
    may hold it in memory.
    """

    def __init__(self, file: int, path: Path) -> None:
        """`file` is the descriptor that HDF5 writes to."""
        self._file = file
        self._path = path
        # by its descriptor, so that a recording which somebody moves meanwhile goes on
        self._where: int | Path = file if os.name == "posix" else path
        self._given = 0
        self._aside = 0  # the file may grow to here

    def take(self, n_bytes: int) -> None:
        """Set aside room for `n_bytes` more. Raises OSError where there is none."""
        end = os.stat(self._where).st_size
        wanted = self._given + n_bytes + MARGIN_BYTES
        _check_limit(end + wanted)
        if end + wanted > self._aside:
            self._aside = end + self._set_aside(end, wanted)
        self._given += n_bytes

    def _set_aside(self, end: int, wanted: int) -> int:
        """Set `wanted` bytes aside behind `end`, or more; returns how many. Raises OSError where there is no room."""
        try:
            if _allocate(self._file, end, wanted + AHEAD_BYTES):
                return wanted + AHEAD_BYTES
        except OSError:  # not so much, then
            if _allocate(self._file, end, wanted):
                return wanted
        if shutil.disk_usage(self._where).free < wanted:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return 0

    def flushed(self) -> None:
        """All rows given are in the file."""
        self._given = 0

    def give_back(self) -> None:
        """Let go of what was set aside behind the end of the file. The file is closed by now."""
        os.truncate(self._path, self._path.stat().st_size)


def room_left(path: Path) -> int:
    """By how many bytes the file at `path` may still grow: what is free on its disk, or less where its size is limited.

    Raises OSError where it cannot be asked.
    """
    free, limit = shutil.disk_usage(path.parent).free, _limit()
    return free if limit is None else max(0, min(free, limit - path.stat().st_size))


def seconds_left(samples: Sequence[tuple[float, int]], free_bytes: int) -> float | None:
    """How long `free_bytes` last at the rate at which a file has grown over `samples` of (s, bytes).

    Infinite where it does not grow; None where that is not known yet (less than a second of samples).
    """
    if len(samples) < 2 or samples[-1][0] - samples[0][0] < 1.0:
        return None
    grown = samples[-1][1] - samples[0][1]
    return math.inf if grown <= 0 else free_bytes * (samples[-1][0] - samples[0][0]) / grown


def _limit() -> int | None:
    """How large a file this process may make; None: as large as it likes."""
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _check_limit(size: int) -> None:
    """Raise OSError where this process may not make a file so large (`ulimit -f`)."""
    limit = _limit()
    if limit is not None and size > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


def _allocate(file: int, start: int, length: int) -> bool:
    """Whether the system sets blocks aside; False where it cannot. Raises OSError where the disk has none left."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while libc.fallocate(file, KEEP_SIZE, start, length) != 0:
        if (code := ctypes.get_errno()) != errno.EINTR:  # a signal, Ctrl-C say, is no full disk
            break
    else:
        return True
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code))
