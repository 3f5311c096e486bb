"""Pixels between processes of one machine: slots in a memory-mapped file, each with a generation.

One process writes and decides which slots are free; any number map the file read-only. A generation is odd while its
slot is written and grows with every write (a seqlock, after Lameter, "Effective synchronization on Linux/NUMA
systems", 2005): a reader checks it before and after use, so a frame overwritten under its hands is noticed, not used.
The plain file is chosen over `SharedMemory`, which on Python 3.11 is unlinked when an attached process is killed.

Layout: 64 bytes of file header (magic, slots, slot_bytes: little-endian uint64), then the generations (uint64 each, one
cache line apart), then the slots on page borders.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hspc_live.core.errors import WireError

_MAGIC = int.from_bytes(b"HSPCRNG1", "little")
_LINE = 64
_PAGE = 4096


class StaleSlot(WireError):
    """The slot holds another frame by now, or is being written."""


def pixel_folder(private: Path) -> Path:
    """Where the ring belongs: a new 0700 folder in /dev/shm, so that pixels never reach a disk, else `private`.

    The caller removes it.
    """
    if os.access("/dev/shm", os.W_OK | os.X_OK):
        return Path(tempfile.mkdtemp(prefix=f"hspc-{os.getpid()}-", dir="/dev/shm"))  # whose, if ever one is left
    return private


def _up(size: int, border: int) -> int:
    return -(-size // border) * border


class PixelRing:
    """The ring. `PixelRing.create` is the writing end and owns the file, `PixelRing.attach` a reading end."""

    def __init__(self, path: Path, memory: mmap.mmap, slots: int, slot_bytes: int, *, owner: bool) -> None:
        self.path = path
        self.slots = slots
        self.slot_bytes = slot_bytes
        self._memory: mmap.mmap | None = memory
        self._owner = owner
        self._generations = np.frombuffer(memory, "<u8", slots * (_LINE // 8), _LINE)[:: _LINE // 8]
        self._start = _up(_LINE * (slots + 1), _PAGE)
        self._stride = _up(slot_bytes, _PAGE)

    @staticmethod
    def _size(slots: int, slot_bytes: int) -> int:
        return _up(_LINE * (slots + 1), _PAGE) + slots * _up(slot_bytes, _PAGE)

    @classmethod
    def create(cls, folder: Path, slots: int, slot_bytes: int) -> PixelRing:
        """Make the file (0600) in `folder` and map it for writing. Raises WireError if there is no room for it."""
        if slots < 1 or slot_bytes < 1:
            raise WireError(f"a ring of {slots} slots of {slot_bytes} bytes: both must be at least 1")
        size = cls._size(slots, slot_bytes)
        handle, name = tempfile.mkstemp(prefix="pixels-", suffix=".ring", dir=folder)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle, 0, size)  # now, or a full disk would kill the writer later (SIGBUS)
            else:
                os.ftruncate(handle, size)
            memory = mmap.mmap(handle, size)
        except OSError as error:
            Path(name).unlink()
            raise WireError(f"{folder} has no room for a ring of {size >> 20} MiB: {error.strerror}") from error
        finally:
            os.close(handle)
        memory[: _LINE // 2] = np.array([_MAGIC, slots, slot_bytes, 0], "<u8").tobytes()
        return cls(Path(name), memory, slots, slot_bytes, owner=True)

    @classmethod
    def attach(cls, path: Path) -> PixelRing:
        """Map an existing ring read-only. Raises WireError if it is missing or no ring."""
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size >= _LINE else None
        except OSError as error:
            raise WireError(f"{path}: {error.strerror}") from error
        if memory is not None:
            magic, slots, slot_bytes = np.frombuffer(memory[:24], "<u8").tolist()
            if magic == _MAGIC and slots >= 1 and slot_bytes >= 1 and cls._size(slots, slot_bytes) == size:
                return cls(path, memory, slots, slot_bytes, owner=False)
            memory.close()
        raise WireError(f"{path} is not a pixel ring")

    def write(self, slot: int, array: NDArray[Any]) -> int:
        """Copy `array` into `slot` and return the generation that names it. For the creator only."""
        if not self._owner:
            raise WireError("only the process that created the ring writes to it")
        target = self._array(slot, array.shape, array.dtype)
        generation = int(self._generations[slot])
        generation += 1 + (generation & 1)
        self._generations[slot] = generation
        np.copyto(target, array)
        self._generations[slot] = generation + 1
        return generation + 1

    def view(self, slot: int, generation: int, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """The frame that `write` named, read-only and without copying.

        Raises StaleSlot if it is no longer there, WireError if slot or shape do not fit the ring. Ask `still_valid`
        when done with it: until then, what was read may have been torn.
        """
        array = self._array(slot, shape, np.dtype(dtype))
        array.flags.writeable = False
        if not self.still_valid(slot, generation):
            raise StaleSlot(f"slot {slot} is at generation {int(self._generations[slot])}, not {generation}")
        return array

    def still_valid(self, slot: int, generation: int) -> bool:
        """Whether `slot` holds what `write` named, whole."""
        return generation > 0 and generation % 2 == 0 and int(self._generations[slot]) == generation

    def _array(self, slot: int, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
        if self._memory is None:
            raise WireError("the ring is closed")
        if not 0 <= slot < self.slots:
            raise WireError(f"slot {slot} of a ring of {self.slots}")
        if dtype.hasobject or any(extent < 0 for extent in shape):
            raise WireError(f"a ring holds no array of {tuple(shape)} {dtype}")
        if (size := math.prod(shape) * dtype.itemsize) > self.slot_bytes:
            raise WireError(f"an array of {size} bytes does not fit a slot of {self.slot_bytes}")
        return np.ndarray(tuple(shape), dtype, self._memory, self._start + slot * self._stride)

    def close(self) -> None:
        """Let the file go; its creator removes it. Views that are still held stay readable."""
        if self._memory is None:
            return
        # Not mmap.close: that would unmap the pixels under a view. Without it, the mapping goes with the last of them.
        self._memory = None
        self._generations = self._generations.copy()
        if self._owner:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> PixelRing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
