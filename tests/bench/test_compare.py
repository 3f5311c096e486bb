"""Two results of a bench: what is called a change, and what is not."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.bench.compare import compare
from hspc_live.bench.figures import Began, Figure, result
from hspc_live.core.errors import SettingsError


def a_result(bench="link", **figures):
    return result(bench, {"repeats": 3}, figures, {}, Began.now())


def rate(*values, better="higher"):
    return Figure.of(values, "MB/s", better)


@pytest.fixture
def held(tmp_path):
    """Two results held against each other, by way of their files."""

    def hold(before, after):
        for name, found in (("a.json", before), ("b.json", after)):
            (tmp_path / name).write_text(json.dumps(found))
        return compare(tmp_path / "a.json", tmp_path / "b.json")

    return hold


def test_only_what_lies_beyond_both_spreads_has_changed(held):
    before = a_result(up=rate(90, 100, 110), down=rate(90, 100, 110), same=rate(90, 100, 110), once=rate(100))
    after = a_result(up=rate(120, 130, 140), down=rate(50, 60, 70), same=rate(105, 115, 120), once=rate(200))
    verdicts = {change.name: change.verdict for change in held(before, after).changes}
    assert verdicts == {"up": "better", "down": "worse", "same": "same", "once": "unknown"}


def test_less_is_better_where_the_figure_says_so(held):
    before = a_result(ms=rate(9, 10, 11, better="lower"))
    (change,) = held(before, a_result(ms=rate(4, 5, 6, better="lower"))).changes
    assert change.verdict == "better" and change.ratio == 0.5


@given(st.lists(st.floats(0.1, 1e6), min_size=2, max_size=5), st.lists(st.floats(0.1, 1e6), min_size=2, max_size=5))
def test_the_verdict_turns_round_with_the_order(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("results")
    for name, values in (("a", first), ("b", second)):
        (folder / name).write_text(json.dumps(a_result(x=rate(*values))))
    (there,) = compare(folder / "a", folder / "b").changes
    (back,) = compare(folder / "b", folder / "a").changes
    assert back.verdict == {"better": "worse", "worse": "better", "same": "same"}[there.verdict]


def test_another_machine_another_version_and_another_question_are_warned_of(held):
    before = a_result(x=rate(1, 2))
    assert held(before, before).warnings == ()
    after = copy.deepcopy(before)
    after["machine"]["cpu"], after["machine"]["versions"]["numpy"], after["asked"]["repeats"] = "another", "0", 9
    warnings = "\n".join(held(before, after).warnings)
    assert "different machines: cpu" in warnings and "versions: numpy" in warnings and "repeats 3 against 9" in warnings


def test_what_only_one_has_is_named(held):
    found = held(a_result(x=rate(1, 2), old=rate(1, 2)), a_result(x=rate(1, 2), new=rate(1, 2)))
    assert found.only_before == ("old",) and found.only_after == ("new",)


def test_different_benches_are_not_compared(held):
    with pytest.raises(SettingsError, match="only results of the same bench"):
        held(a_result("link", x=rate(1, 2)), a_result("record", x=rate(1, 2)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no JSON"),
        ("[1, 2]", "is no result of a bench"),
        ('{"run": "x", "cells": {}}', "is no result of a bench"),
        ('{"bench": "link", "figures": {}, "machine": {}, "format": 0}', "format 0"),
        ('{"bench": "link", "figures": {"x": {"mean": 1}}, "machine": {}, "format": 1}', "not those of a bench"),
        ('{"bench": "link", "figures": [1], "machine": {}, "format": 1}', "not those of a bench"),
    ],
)
def test_a_file_that_is_no_result_is_refused_by_name(tmp_path, text, words):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(a_result(x=rate(1, 2))))
    bad.write_text(text)
    with pytest.raises(SettingsError, match=words) as raised:
        compare(good if "link" in text else bad, bad)
    assert "bad.json" in str(raised.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        compare(tmp_path / "a.json", tmp_path / "b.json")
