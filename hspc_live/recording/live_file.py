"""One HDF5 file of growing streams, written while a run goes on, whatever the streams hold.

Every dataset exists before the file enters SWMR mode; from then on rows are only appended (and, where a stream allows
it, filled in), which HDF5 orders so that the file can be opened after `kill -9`. What a flush has brought to the file
is written into `/hspc/committed` after it, so the reader knows how far each stream is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn, Self

import h5py
import numpy as np

from hspc_live.core.errors import OutputError, RecordingError
from hspc_live.recording.layout import json_line
from hspc_live.recording.room import MARGIN_BYTES, Room
from hspc_live.recording.stream import Stream, new_column

VERSION: Final = ("v110", "v110")
PAGE_BYTES: Final = 4096
"""Of HDF5's file format. Not "latest": SWMR needs no newer one, and older readers can still open it."""

LINES: Final = ("notes", "ledger")
"""Streams that every file of ours has: JSON lines as bytes."""


class LiveFile:
    """The file behind a recording being written. Not thread-safe."""

    def __init__(self, file: h5py.File, path: Path) -> None:
        self._file = file
        self._room = Room(file.id.get_vfd_handle(), path)
        self.path = path
        self.streams: dict[str, Stream] = {}
        self._pool = ThreadPoolExecutor(1, "compression")  # starts its thread with the first pictures
        self._given_up = False  # an abandoned file need not come to be closed, and must not be touched again

    @classmethod
    @contextmanager
    def creating(cls, path: Path) -> Iterator[tuple[Self, h5py.File]]:
        """Make the file; in the block everything is put into it, and behind the block it is live.

        Raises OutputError if `path` exists or cannot be written. What fails in the block leaves no file behind.
        """
        try:
            _try_room(path)
            # In pages of the kernel's size no header lies across two of them: a kill may fall between the copies of two
            # pages, and half a header is none.
            file = h5py.File(path, "x", libver=VERSION, fs_strategy="page", fs_page_size=PAGE_BYTES)
        except FileExistsError as error:
            raise OutputError(f"{path} exists already: choose another name, or move it away") from error
        except OSError as error:
            why = error.strerror or error
            raise OutputError(
                f"{path} cannot be written ({why}): is there the folder, may you write, is there room?"
            ) from error
        live = cls(file, path)
        try:
            yield live, file
            group = file["hspc"]
            for name in LINES:
                live.stream(name, {"rows": new_column(group, name, np.dtype("u1"))})
            committed = group.create_dataset("committed", data=np.zeros(len(live.streams), "<i8"))
            committed.attrs["streams"] = json.dumps(list(live.streams))
            file.swmr_mode = True
            live.flush()
        except BaseException:  # Ctrl-C too: a half-made file would be in the way of the next run (mode x)
            live._pool.shutdown()
            _abandon(file)
            path.unlink()
            raise

    def stream(self, name: str, datasets: Mapping[str, h5py.Dataset]) -> None:
        """Datasets that grow together, under a name."""
        self.streams[name] = Stream(datasets, self._pool, self._take, self._fail)

    @property
    def open(self) -> bool:
        """Whether it can still be written to."""
        return not self._given_up and bool(self._file)

    def write_note(self, kind: str, detail: str, at_ns: int) -> None:
        """Keep something that was said: a gate revision, arming, disarming, an alarm."""
        self.streams["notes"].add(rows=json_line({"kind": kind, "detail": detail, "at_ns": at_ns}))

    def write_ledger(self, ledger: Mapping[str, Any]) -> None:
        """Append the ledgers as they stand; the last line of a closed recording is the final one."""
        self.streams["ledger"].add(rows=json_line(ledger))

    def flush(self, fill_in: Callable[[], None] | None = None) -> dict[str, int]:
        """Bring everything to the file; returns the rows of each stream that now survive a crash of this program.

        `fill_in` changes rows that are written already. Raises RecordingError when the file system refuses (a full
        disk): then the file is closed, and what was acknowledged before stays readable.
        """
        try:
            for stream in self.streams.values():
                stream.begin()
            for stream in self.streams.values():
                stream.finish()
            if fill_in is not None:
                fill_in()
            self._file.flush()
            counts = {name: stream.rows for name, stream in self.streams.items()}
            committed = self._file["hspc/committed"]
            committed[:] = list(counts.values())
            committed.flush()
            self._room.flushed()
        except (OSError, RuntimeError, MemoryError) as error:  # h5py raises any, by where in HDF5 the write failed
            self._fail(error)
        return counts

    def _take(self, n_bytes: int) -> None:
        """Set room aside for rows that are to be written; where there is none, the file ends here, still whole."""
        try:
            self._room.take(n_bytes)
        except OSError as error:
            self._close({"full": True}, {})  # there was room for this in what was taken before
            raise RecordingError(
                f"{self.path} could not be written on ({error.strerror}): is the disk full?"
            ) from error

    def _fail(self, error: OSError | RuntimeError | MemoryError) -> NoReturn:
        """Leave the file as it is, and say why."""
        self._given_up = True
        self._pool.shutdown()
        _abandon(self._file)
        if isinstance(error, MemoryError):
            raise RecordingError(f"{self.path} could not be written on: the computer has no memory left") from error
        raise RecordingError(f"{self.path} could not be written on ({_why(error)}): is the disk full?") from error

    def complete(self, summary: Mapping[str, Any] | None, whole: Mapping[str, Any], root: Mapping[str, Any]) -> None:
        """Close, and write what only the end knows: the summary, `whole` into `/hspc`, `root` into the root.

        Flush first. Raises RecordingError where that cannot be written.
        """
        said = None if summary is None else json.dumps(summary, ensure_ascii=False)
        self._take(sum(len(str(text).encode()) for text in (said, *whole.values(), *root.values())))
        self._close(whole, root, said)

    def _close(self, whole: Mapping[str, Any], root: Mapping[str, Any], summary: str | None = None) -> None:
        self._given_up = True  # whatever comes of it, there is no second time
        self._pool.shutdown()
        file = self._file
        try:
            file.close()
            file = h5py.File(self.path, "r+", libver=VERSION)
            file.attrs.update(root)
            if summary is not None:
                file["hspc/summary"] = summary
            file["hspc"].attrs.update(whole)
            file.flush()  # what fails in here can still be abandoned, what fails in `close` cannot
            file.close()
            self._room.give_back()
        except (OSError, RuntimeError) as error:
            _abandon(file)
            raise RecordingError(f"{self.path} could not be completed ({_why(error)}): is the disk full?") from error


def _try_room(path: Path) -> None:
    """Raise OSError where a new file cannot be made or has no room: HDF5 would crash the program then."""
    probe = path.open("xb", buffering=0)
    try:
        with probe:
            probe.write(bytes(MARGIN_BYTES))
            probe.write(b"end")  # where there was room for a part only, this fails
    finally:
        path.unlink()


def _abandon(file: h5py.File) -> None:
    """Close a file that cannot be written on, and leave it as it is.

    What HDF5 still holds goes nowhere: it would try again until the program ends, and then crash it. A reader takes
    the file for one that was left by a crash.
    """
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # ValueError: it is closed already
        # Memory, where the system gives some: HDF5 cuts a file to whole pages when it closes, and no device can be cut.
        nowhere = os.memfd_create("abandoned") if hasattr(os, "memfd_create") else os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, file.id.get_vfd_handle())
        os.close(nowhere)
        file.close()


def _why(error: OSError | RuntimeError) -> str:
    """What the system said; HDF5 wraps it in lines of addresses that tell a person nothing."""
    said = re.search(r"error message = '([^']+)'", str(error))
    return said[1] if said else str(error).splitlines()[0]
