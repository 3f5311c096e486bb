"""The early warning: in good time, once for each limit, and never while there is room."""

from __future__ import annotations

from pathlib import Path

import pytest

from hspc_live.processes import disk_watch
from hspc_live.processes.disk_watch import DiskWatch

MB = 1 << 20


@pytest.fixture
def warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is said of a file that grows by a megabyte a second on a disk of so many megabytes."""

    def watch(disk_mb: int, seconds: int, per_s_mb: float = 1.0) -> list[tuple[int, str]]:
        path = tmp_path / "recording"
        now = [0.0]
        monkeypatch.setattr(disk_watch.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(disk_watch, "room_left", lambda file: disk_mb * MB - file.stat().st_size)
        watching = DiskWatch(path)
        said: list[tuple[int, str]] = []
        with path.open("xb") as file:
            for second in range(seconds):
                now[0] = float(second)
                file.truncate(round(second * per_s_mb * MB))
                if (warning := watching.look()) is not None:
                    said.append((second, warning))
        return said

    return watch


def test_it_warns_ten_minutes_and_one_minute_before_the_end(warnings):
    said = warnings(disk_mb=1000, seconds=1000)
    assert [1000 - second for second, _ in said] == [600, 60]
    assert "full in about 600 s" in said[0][1] and "recording" in said[0][1]


def test_it_says_nothing_while_there_is_room_or_nothing_grows(warnings):
    assert warnings(disk_mb=10_000, seconds=300) == []


def test_a_file_that_does_not_grow_fills_no_disk(warnings):
    assert warnings(disk_mb=1, seconds=300, per_s_mb=0.0) == []


def test_a_file_that_is_gone_is_no_matter_of_this_watch(tmp_path):
    assert DiskWatch(tmp_path / "nowhere").look() is None
