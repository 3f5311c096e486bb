"""A whole file out of what a crash left: every acknowledged row, in a new file that any HDF5 reader opens.

The damaged file is only read. Of each stream the rows are taken up to the last that is acknowledged and can be read in
all its datasets, so that rows still belong together. The new file says that its run was broken off.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hspc_live.core.errors import OutputError, RecordingError
from hspc_live.recording import layout
from hspc_live.recording.live_file import PAGE_BYTES, VERSION
from hspc_live.recording.own_file import OwnFile, format_of
from hspc_live.recording.recover import Source

_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Rescued:
    """What was saved: rows by stream, and what was acknowledged (or there) and could not be read.

    `unreadable` has rows by stream, of a whole dataset under its name in the file; a text counts as one.
    """

    path: Path
    rows: dict[str, int]
    unreadable: dict[str, int] = field(default_factory=dict)


def rescue(path: Path, target: Path) -> Rescued:
    """Save what can be read of the flow recording at `path` into a new file `target`.

    Raises RecordingError for other files, OutputError if `target` exists or cannot be written.
    """
    source = Source(path)
    try:
        found = format_of(source)
        if found != layout.FORMAT:
            kind = "the recording of a chamber" if found else "no recording of HSPC Live"
            raise RecordingError(f"{path} is {kind}: `inspect` and `replay` read it as it stands, nothing is recovered")
        own = OwnFile(source, layout.FORMAT)
        try:
            file = h5py.File(target, "x", libver=VERSION, fs_strategy="page", fs_page_size=PAGE_BYTES)
        except FileExistsError as error:
            raise OutputError(f"{target} exists already: choose another name, nothing is ever overwritten") from error
        except OSError as error:
            raise OutputError(f"{target} cannot be written ({error.strerror or error})") from error
        try:
            with file:
                return _copy(own, file, target)
        except (OSError, RuntimeError) as error:  # h5py raises either; what cannot be read does not come to here
            target.unlink(missing_ok=True)
            raise OutputError(f"{target} cannot be written ({getattr(error, 'strerror', None) or error})") from error
        except BaseException:  # Ctrl-C too: half a file would pass for what could be saved
            target.unlink(missing_ok=True)
            raise
    except (KeyError, ValueError, TypeError) as error:
        raise RecordingError(f"{path} is damaged where it describes itself: {error}") from error
    finally:
        source.close()


def _copy(own: OwnFile, file: h5py.File, target: Path) -> Rescued:
    source = own.source
    file.attrs.update(source.attributes(""))
    group = file.create_group("hspc")
    group.attrs.update({**own.attributes, "closed": False, "recovered_from": source.path.name})
    lost: list[str] = []
    for name in ("settings", "card", "summary"):
        if (text := own.text(name)) is not None:
            group[name] = text
    streams: dict[str, list[str]] = {}
    for name in _names(source):
        dataset = source.dataset(name)
        if dataset is None:
            lost += [name] if source.group(name) is None else []
        elif dataset.maxshape and dataset.maxshape[0] is None:
            streams.setdefault(_stream_of(name), []).append(name)
        elif dataset.ndim == 0 and own.text(name.removeprefix("hspc/")) is None:
            lost.append(name)
    acknowledged = own.acknowledged() if not own.closed or source.dataset("hspc/committed") is not None else {}
    rows: dict[str, int] = {}
    unreadable: dict[str, int] = {}
    for stream, names in streams.items():
        there = min(len(_dataset(source, name)) for name in names)
        limit = own.limit(stream)
        wanted = there if limit is None else min(limit, there)
        rows[stream] = min(_good(source, name, wanted) for name in names)
        for name in names:
            _rows(source, file, name, rows[stream])
        if (missing := max(wanted, acknowledged.get(stream, 0)) - rows[stream]) > 0:
            unreadable[stream] = missing
    unreadable |= {stream: count for stream, count in acknowledged.items() if count and stream not in rows}
    for name in lost:  # of a stream that is in its other datasets there; a stream that is gone has been counted
        if (stream := _stream_of(name)) in rows or stream not in acknowledged:
            unreadable[name] = rows.get(stream, 1)
    committed = group.create_dataset("committed", data=np.array(list(rows.values()), "<i8"))
    committed.attrs["streams"] = json.dumps(list(rows))
    file.attrs["experiment:event count"] = rows.get("views", 0)
    return Rescued(target, rows, unreadable)


def _names(source: Source) -> Iterator[str]:
    """What the groups that hold datasets name, whether it can be read or not."""
    for place in ("events", "hspc", "hspc/frames", "hspc/backgrounds"):
        group = source.group(place)
        try:
            names = [] if group is None else list(group)
        except (OSError, KeyError, RuntimeError):
            names = []  # its streams are missed by what was acknowledged of them
        yield from (f"{place}/{name}" for name in names)


def _stream_of(name: str) -> str:
    """The stream that a dataset is part of."""
    place, _, own = name.rpartition("/")
    return {"events": "views", "hspc/frames": "frames", "hspc/backgrounds": "backgrounds"}.get(place, own)


def _dataset(source: Source, name: str) -> h5py.Dataset:
    dataset = source.dataset(name)
    assert dataset is not None, "it was there a moment ago"
    return dataset


def _blocks(dataset: h5py.Dataset, rows: int) -> Iterator[tuple[int, int]]:
    """Stretches of rows to be held in memory at once: whole chunks."""
    each = max(1, int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize)
    step = max(1, _BLOCK_BYTES // each // dataset.chunks[0]) * dataset.chunks[0]
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def _good(source: Source, name: str, rows: int) -> int:
    """How many rows from the first on can be read."""
    dataset = _dataset(source, name)
    for start, end in _blocks(dataset, rows):
        good = source.rows(dataset, start, end)[1]
        if not good.all():
            return start + int(np.argmin(good))
    return rows


def _rows(source: Source, file: h5py.File, name: str, rows: int) -> None:
    """The first rows of a dataset into a new one of the same kind."""
    dataset = _dataset(source, name)
    made = dataset.id.get_create_plist().copy()  # chunks, filters and checksum as they were
    space = h5py.h5s.create_simple((rows, *dataset.shape[1:]), (h5py.h5s.UNLIMITED, *dataset.shape[1:]))
    file.require_group(name.rpartition("/")[0])
    copy = h5py.Dataset(h5py.h5d.create(file.id, name.encode(), dataset.id.get_type(), space, made))
    attributes: dict[str, Any] = dict(dataset.attrs)
    copy.attrs.update(attributes)
    for start, end in _blocks(dataset, rows):
        copy[start:end] = source.rows(dataset, start, end)[0]
