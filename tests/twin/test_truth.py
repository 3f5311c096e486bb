from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.core.errors import OutputError, RecordingError
from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.twin.flow import FlowTwin
from hspc_live.twin.truth import SIGHTING_DTYPE, TRUTH_DTYPE, FlowTruth, match


def seen(*positions: tuple[float, float], frame: int = 4) -> FlowTruth:
    sightings = np.zeros(len(positions), SIGHTING_DTYPE)
    sightings["frame"], sightings["object"] = frame, 10 + np.arange(len(positions))
    sightings["x_um"], sightings["y_um"] = np.array(positions).T if positions else ((), ())
    return FlowTruth(("MPP",), np.zeros(0, TRUTH_DTYPE), sightings)


def test_truth_comes_back_from_its_file(tmp_path: Path) -> None:
    truth = FlowTwin(TwinFlowSettings()).truth(100, 5)
    truth.save(tmp_path / "truth.npz")
    back = FlowTruth.load(tmp_path / "truth.npz")
    assert back.kinds == truth.kinds
    np.testing.assert_array_equal(back.objects, truth.objects)
    np.testing.assert_array_equal(back.sightings, truth.sightings)


def test_truth_overwrites_nothing_and_names_a_bad_file(tmp_path: Path) -> None:
    path = tmp_path / "truth.npz"
    path.write_bytes(b"not a zip")
    with pytest.raises(OutputError, match=r"truth\.npz"):
        seen().save(path)
    with pytest.raises(RecordingError, match=r"truth\.npz"):
        FlowTruth.load(path)
    with pytest.raises(RecordingError, match="missing"):
        FlowTruth.load(tmp_path / "missing")
    np.savez(tmp_path / "old.npz", kinds=np.array(["a"]), objects=np.zeros(1), sightings=np.zeros(1))
    with pytest.raises(RecordingError, match="another version"):
        FlowTruth.load(tmp_path / "old.npz")


def test_match_is_one_to_one_and_nearest() -> None:
    truth = seen((10, 10), (14, 10))
    assert match(truth, 4, [10.2, 13.9], [10, 10.1]).tolist() == [10, 11]
    assert match(truth, 4, [10.2, 10.1], [10, 10], tolerance_um=1).tolist() == [-1, 10]
    assert match(truth, 4, [50.0], [10.0]).tolist() == [-1]
    assert match(truth, 5, [10.0], [10.0]).tolist() == [-1]
    assert match(truth, 4, [], []).tolist() == []
    # both within reach of the first object: as many pairs as possible, not the greedy one
    assert match(truth, 4, [12.1, 9.0], [10, 10], tolerance_um=3).tolist() == [11, 10]


@given(
    st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60)), max_size=8),
    st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60)), max_size=8),
)
def test_no_object_is_matched_twice_or_from_afar(
    true: list[tuple[float, float]], found: list[tuple[float, float]]
) -> None:
    ids = match(seen(*true), 4, [x for x, _ in found], [y for _, y in found], tolerance_um=5.0)
    used = ids[ids >= 0]
    assert len(set(used.tolist())) == len(used)
    for (x, y), number in zip(found, ids.tolist(), strict=True):
        if number >= 0:
            tx, ty = true[number - 10]
            assert np.hypot(x - tx, y - ty) <= 5.0
