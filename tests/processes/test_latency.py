"""Latencies are counted in bins, and what is said of them must be what a sorted list would say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.processes.latency import Latencies


def of(values: list[int]) -> dict:
    counted = Latencies()
    for value in values:
        counted.add(value)
    return counted.report()


@given(st.lists(st.integers(1_000, 500_000_000_000), min_size=1, max_size=300))
def test_percentiles_are_those_of_the_sorted_list(values):
    found = of(values)
    assert found["n"] == len(values) and found["max"] == round(max(values) / 1e6, 3)
    for name, q in (("p50", 50), ("p99", 99)):
        exact = float(np.percentile(values, q, method="inverted_cdf")) / 1e6
        assert found[name] == pytest.approx(exact, rel=1e-3, abs=1e-3)


def test_the_last_thousandth_needs_a_thousand():
    assert of([5_000_000] * 999)["p999"] is None
    assert of([5_000_000] * 998 + [80_000_000] * 2)["p999"] == pytest.approx(80.0, rel=1e-3)


def test_nothing_measured_is_said_as_such():
    assert of([]) == {"n": 0, "p50": None, "p99": None, "p999": None, "max": None}


def test_what_is_out_of_range_counts():
    found = of([-5, 0, 10**13])
    assert found["n"] == 3 and found["p50"] == 0.0 and found["max"] == 1e7
