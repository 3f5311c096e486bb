"""What the trainings of a learning curve get: nested parts, every class by its share, nothing torn apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.core.errors import RecordingError, SettingsError
from hspc_models.curve_draws import drawing_units, nested_draws
from hspc_models.dataset import LabelledCrops

FRACTIONS = (0.2, 0.5, 1.0)


def drawn(crops, fractions, seed, draw):
    return nested_draws(crops, fractions, seed, draw, drawing_units(crops, draw), drawing_units(crops, "cells"))


def crops_of(labels, cells=None, groups=None, seed=1):
    n = len(labels)
    images = np.random.default_rng(seed).integers(0, 4000, (n, 16, 16)).astype(np.uint16)
    groups = np.zeros(n, np.int64) if groups is None else groups
    names = tuple("abc"[: int(labels.max()) + 1])
    return LabelledCrops(images, labels, names, groups, 0.5, "some.npz", cells=cells)


@given(st.lists(st.integers(0, 2), min_size=30, max_size=120), st.integers(1, 4), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_parts_are_nested_stratified_and_keep_cells_whole(kinds, views, seed):
    labels = np.repeat(np.concatenate((np.arange(3).repeat(10), np.array(kinds))), views)
    cells = np.arange(len(labels)) // views
    crops = crops_of(labels, cells)
    parts = nested_draws(crops, FRACTIONS, seed, "cells", cells, cells)
    assert parts[-1].tolist() == list(range(len(labels)))
    assert set(parts[0]) <= set(parts[1]) <= set(parts[2])
    for fraction, rows in zip(FRACTIONS, parts, strict=True):
        assert set(cells[rows]).isdisjoint(set(cells) - set(cells[rows]))
        counts, whole = np.bincount(labels[rows], minlength=3), np.bincount(labels, minlength=3)
        assert np.all(counts >= np.minimum(2, whole)) and np.all(np.abs(counts - fraction * whole) <= views + 2)
        assert len(np.setdiff1d(np.flatnonzero(np.isin(cells, cells[rows])), rows)) == 0


def test_repeats_are_other_draws_and_the_same_seed_is_the_same():
    crops = crops_of(np.arange(90) % 3)
    units = drawing_units(crops, "cells")
    first, again, other = (nested_draws(crops, (0.3,), seed, "cells", units, units)[0] for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


def test_copies_of_a_picture_come_together():
    crops = crops_of(np.arange(40) % 2)
    images = crops.images.copy()
    images[20:30] = images[:10]
    crops = replace(crops, images=images)
    (rows,) = drawn(crops, (0.5,), 3, "cells")
    assert all((row in rows) == (row + 20 in rows) for row in range(10))


def test_whole_groups_are_drawn():
    groups = np.arange(120) // 20
    crops = crops_of(np.arange(120) % 3, groups=groups)
    parts = drawn(crops, (0.5, 1.0), 1, "groups")
    assert len(np.unique(groups[parts[0]])) == 3 and len(parts[0]) == 60 and len(parts[1]) == 120


def test_what_cannot_be_drawn_is_said():
    crops = crops_of(np.arange(120) % 3)
    with pytest.raises(SettingsError, match=r"some.npz come in 1 group; name a column.*group_by"):
        drawing_units(crops, "groups")
    by_class = crops_of(np.repeat(np.arange(3), 40), groups=np.arange(120) // 20)
    with pytest.raises(RecordingError, match=r"some\.npz: 0\.2 of the groups holds 0 crops of"):
        drawn(by_class, (0.2, 1.0), 1, "groups")
    labels = np.array([0] * 30 + [1, 1])
    for one_cell in (crops_of(labels[:-1]), crops_of(labels, cells=np.array([*range(30), 50, 50]))):
        with pytest.raises(RecordingError, match=r"holds 1 crops of b \(copies and views of one cell count once\)"):
            drawn(one_cell, (0.5,), 1, "cells")


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_smallest_part_has_two_cells_of_a_class_with_many_views_of_each(seed):
    """With one of them, however often it was looked at, a tutor could not be learnt, and the curve would end there."""
    labels = np.array([0] * 40 + [1] * 12)
    crops = crops_of(labels, cells=np.array([*range(40), *np.repeat([100, 101, 102], 4)]))
    rows = drawn(crops, (0.05, 1.0), seed, "cells")[0]
    assert len(np.unique(crops.cells[rows[labels[rows] == 1]])) == 2
