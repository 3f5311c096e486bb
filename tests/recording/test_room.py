"""Room set aside before HDF5 writes: a full disk ends a recording in good order, wherever it strikes."""

from __future__ import annotations

import ctypes
import errno
import resource
import subprocess
import sys

import pytest

from hspc_live.recording import room as room_module
from hspc_live.recording.chamber_reader import open_chamber
from hspc_live.recording.room import AHEAD_BYTES, MARGIN_BYTES, Room
from tests.recording.test_chamber_damage import WRITER


@pytest.mark.parametrize("bytes_left", range(1_500_000, 2_000_001, 62_500))
def test_wherever_the_disk_ends_nothing_crashes_and_the_loss_is_said(tmp_path, bytes_left):
    path = tmp_path / "run.h5"
    full = subprocess.run(
        [sys.executable, "-c", WRITER, str(path), "200"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left,) * 2),
    )
    assert full.returncode == 1 and "File too large): is the disk full?" in full.stderr  # not killed by a signal
    if "RecordingError" not in full.stderr:
        assert list(tmp_path.iterdir()) == []
        return
    acknowledged = [int(word) for word in full.stdout.split()]
    with open_chamber(path) as recording:
        assert not recording.closed and "the disk was full" in (recording.loss or "")
        assert [visit.number for visit in recording.visits()] == acknowledged


def test_what_was_set_aside_is_there_and_is_given_back(tmp_path):
    path = tmp_path / "file"
    with path.open("xb", buffering=0) as file:
        file.write(bytes(4096))
        room = Room(file.fileno(), path)
        room.take(10 << 20)
        assert path.stat().st_size == 4096
        if path.stat().st_blocks * 512 < 4096 + (10 << 20):
            pytest.skip("this file system sets nothing aside")
    room.give_back()
    assert path.stat().st_size == 4096 and path.stat().st_blocks * 512 < MARGIN_BYTES


def test_rows_count_until_they_are_flushed(tmp_path, monkeypatch):
    """On a disk that has just so much: the least that is asked for is what HDF5 holds, and a margin."""
    asked: list[int] = []

    def nearly_full(file, start, length):
        if length > AHEAD_BYTES:
            raise OSError(errno.ENOSPC, "No space left on device")
        asked.append(length)
        return True

    monkeypatch.setattr(room_module, "_allocate", nearly_full)
    path = tmp_path / "file"
    with path.open("xb") as file:
        room = Room(file.fileno(), path)
        room.take(100)
        room.take(10)
        room.flushed()
        room.take(1)  # lies in what was set aside before
        room.take(200)
    assert asked == [MARGIN_BYTES + 100, MARGIN_BYTES + 110, MARGIN_BYTES + 201]


def test_the_system_is_asked_seldom_where_there_is_plenty(tmp_path, monkeypatch):
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(room_module, "_allocate", lambda file, start, length: asked.append((start, length)) or True)
    path = tmp_path / "file"
    with path.open("xb", buffering=0) as file:
        room = Room(file.fileno(), path)
        for _ in range(100):  # the file grows by what was taken
            room.take(1 << 20)
            file.write(bytes(1 << 20))
            room.flushed()
            start, length = asked[-1]
            assert file.tell() + MARGIN_BYTES <= start + length
    assert 2 <= len(asked) <= 5


def test_where_nothing_can_be_set_aside_the_free_space_is_asked_for(tmp_path, monkeypatch):
    """NFS before 4.2, FAT, Windows."""
    monkeypatch.setattr(room_module, "_allocate", lambda file, start, length: False)
    path = tmp_path / "file"
    with path.open("xb") as file:
        room = Room(file.fileno(), path)
        room.take(100)
        with pytest.raises(OSError) as raised:
            room.take(1 << 60)
    assert raised.value.errno == errno.ENOSPC


def test_a_file_that_is_moved_meanwhile_still_gets_room(tmp_path):
    path = tmp_path / "file"
    with path.open("xb", buffering=0) as file:
        room = Room(file.fileno(), path)
        room.take(100)
        path.rename(tmp_path / "elsewhere")
        file.write(bytes(100))
        room.take(100)


def test_a_signal_is_no_full_disk(tmp_path, monkeypatch):
    """Ctrl-C may interrupt the system while it sets blocks aside."""
    answers = iter([errno.EINTR, errno.EINTR, 0])

    class Interrupted:
        class fallocate:  # noqa: N801  # a C function
            argtypes: tuple[type, ...] = ()

            def __new__(cls, *_: int) -> int:
                code = next(answers)
                ctypes.set_errno(code)
                return -1 if code else 0

    monkeypatch.setattr(room_module.ctypes, "CDLL", lambda *_, **__: Interrupted)
    path = tmp_path / "file"
    with path.open("xb") as file:
        Room(file.fileno(), path).take(100)
    assert next(answers, None) is None
