"""The host's estimate of the device's clock: its bound holds, and drift is followed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_drivers.sorter_clock import WORST_DRIFT, ClockEstimate, DeviceClock
from hspc_live.core.errors import DeviceError

S = 1_000_000_000


@given(
    drift=st.floats(-WORST_DRIFT, WORST_DRIFT),
    offset=st.integers(-(10**15), 10**15),
    pings=st.lists(
        st.tuples(st.integers(0, 30 * S), st.integers(0, 10**7), st.integers(0, 10**7)), min_size=1, max_size=100
    ),
    ask=st.integers(0, 60 * S),
)
def test_the_bound_holds_whatever_the_delays(
    drift: float, offset: int, pings: list[tuple[int, int, int]], ask: int
) -> None:
    clock = DeviceClock(offset, drift, 7 * S)
    estimate = ClockEstimate()
    for sent, there, back in pings:
        estimate.add(sent, clock.device_ns(sent + there), sent + there + back)
    found, bound = estimate.offset_ns(ask)
    assert abs(found - (clock.device_ns(ask) - ask)) <= bound + 2
    found_drift, drift_bound = estimate.drift
    assert abs(found_drift - drift) <= drift_bound * (1 + 1e-9)


@given(st.integers(0, 10**17), st.floats(-1e-3, 1e-3), st.integers(-(10**12), 10**12))
def test_host_and_device_time_are_inverse(epoch: int, drift: float, offset: int) -> None:
    clock = DeviceClock(offset, drift, epoch)
    for host in (epoch, epoch + 12345, epoch + 3600 * S):
        assert abs(clock.host_ns(clock.device_ns(host)) - host) <= 1


def test_drift_is_followed() -> None:
    clock = DeviceClock(S, 150e-6, 0)
    estimate = ClockEstimate()
    for k in range(12_000):  # ten minutes of heartbeats with 0.2 ms round trips
        sent = k * S // 20
        estimate.add(sent, clock.device_ns(sent + 100_000), sent + 200_000)
    now = 600 * S
    assert abs(estimate.device_ns(now) - clock.device_ns(now)) < 50_000  # 90 ms away without following
    assert abs(estimate.host_ns(clock.device_ns(now), now) - now) < 50_000


def test_drift_is_estimated_so_that_what_lies_ahead_is_on_time() -> None:
    """A resonator 0.4 % off: a second ahead, following alone would be 4 ms wrong."""
    clock = DeviceClock(S, 4e-3, 0)
    estimate = ClockEstimate(worst_drift=5e-3)
    for k in range(64):
        sent = k * S // 20
        estimate.add(sent, clock.device_ns(sent + 250_000), sent + 500_000)
    ahead = 64 * S // 20 + S
    found, bound = estimate.offset_ns(ahead)
    assert abs(found - (clock.device_ns(ahead) - ahead)) <= bound < S // 1000
    assert estimate.drift[0] == pytest.approx(4e-3, abs=3e-4)


def test_unknown_before_the_first_answer() -> None:
    with pytest.raises(DeviceError, match="clock offset is unknown"):
        ClockEstimate().offset_ns(0)
