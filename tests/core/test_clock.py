"""Clocks: the host's and the virtual one."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from hspc_live.core.clock import HostClock, VirtualClock


def test_the_host_clock_is_the_monotonic_one() -> None:
    before = time.perf_counter_ns()
    assert before <= HostClock().now_ns() <= time.perf_counter_ns()


@given(st.integers(0, 10**18), st.lists(st.integers(-(10**18), 10**18)))
def test_a_virtual_clock_never_goes_back(start: int, steps: list[int]) -> None:
    clock = VirtualClock(start)
    seen = [clock.now_ns()]
    for step in steps:
        clock.advance_to(step)
        seen.append(clock.now_ns())
    assert seen == sorted(seen)
    assert seen[-1] == max([start, *steps])
