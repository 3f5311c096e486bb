"""Faults of the computer, on real processes: who is stopped, who goes on, and a calendar that is set."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hspc_live.core import clock
from hspc_live.faults.schedule import Injector
from hspc_live.faults.system import Calendar, ProcessFaults
from hspc_live.settings.faults import FaultPlan

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes through /proc")


def made(*faults: dict[str, object]) -> tuple[Injector, Counter[str], list[float]]:
    counted, now = Counter[str](), [0.0]
    plan = FaultPlan.model_validate({"faults": faults})
    return Injector(plan, lambda: now[0], lambda fault, _: counted.update([fault])), counted, now


@pytest.fixture
def family() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Three processes that wait."""
    roles = ("sort", "segment-0", "segment-1")
    found = {role: subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) for role in roles}
    yield found
    for process in found.values():
        process.kill()
        process.wait()


def state(process: subprocess.Popen[bytes]) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def becomes(wanted: Callable[[], bool]) -> bool:
    until = time.monotonic() + 10
    while not wanted() and time.monotonic() < until:
        time.sleep(0.005)
    return wanted()


def test_one_of_the_workers_dies_and_nobody_else(family):
    injector, counted, _ = made({"kind": "kill", "process": "worker", "at_s": 0})
    ProcessFaults(injector).turn({role: process.pid for role, process in family.items()})
    assert becomes(lambda: any(process.poll() is not None for process in family.values()))
    ended = [role for role, process in family.items() if process.poll() is not None]
    assert len(ended) == 1 and ended[0].startswith("segment-") and counted == {"kill_worker": 1}


def test_who_hangs_goes_on_when_it_is_time_or_the_run_ends(family):
    injector, counted, now = made(
        {"kind": "hang", "process": "sort", "at_s": 0, "seconds": 0.05},
        {"kind": "hang", "process": "sort", "at_s": 5, "seconds": 3000},
        {"kind": "hang", "process": "worker", "at_s": 0},
    )
    faults, living = ProcessFaults(injector), {role: process.pid for role, process in family.items()}
    sort, workers = family["sort"], [family["segment-0"], family["segment-1"]]
    faults.turn(living)
    assert becomes(lambda: state(sort) == "T") and sum(state(worker) == "T" for worker in workers) == 1
    time.sleep(0.06)
    faults.turn(living)
    assert becomes(lambda: state(sort) == "S"), "its time is over"
    now[0] = 6.0
    faults.turn(living)
    assert becomes(lambda: state(sort) == "T")
    faults.end()
    assert becomes(lambda: state(sort) == "S"), "nobody would wake it any more"
    assert sum(state(worker) == "T" for worker in workers) == 1, "this one hangs for good"
    assert counted == {"hang_sort": 2, "hang_worker": 1}


def test_the_calendar_is_set_and_the_clock_that_everything_rests_on_is_not(monkeypatch):
    monkeypatch.setattr(clock, "_set_by", timedelta(0))
    injector, counted, _ = made({"kind": "clock_jump", "at_s": 0, "by_s": -3600})
    before_ns = clock.HostClock().now_ns()
    Calendar(injector, counts=True).turn()
    assert abs(datetime.now(UTC) - clock.calendar() - timedelta(hours=1)) < timedelta(minutes=1)
    assert clock.HostClock().now_ns() - before_ns < 60 * clock.NS_PER_S and counted == {"clock_jump": 1}
