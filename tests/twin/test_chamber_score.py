from pathlib import Path

import numpy as np
import pytest

from hspc_live.core.errors import OutputError, RecordingError
from hspc_live.settings.chamber_twin import TwinChamberSettings
from hspc_live.twin.cells import CLASSES
from hspc_live.twin.chamber import ChamberTwin
from hspc_live.twin.chamber_score import Listed, Revisit, match_listed, score_listed, score_revisits
from hspc_live.twin.chamber_truth import EXPOSURE_DTYPE, ChamberTruth, tell

S = 1_000_000_000
START = 5 * S
SETTINGS = TwinChamberSettings(
    height_px=512, width_px=512, width_mm=0.4, height_mm=0.4, density_per_mm2=900, detach_per_h=0.2, floating_share=0.1
)


@pytest.fixture(scope="module")
def truth() -> ChamberTruth:
    """Nine overlapping fields, one every second; the fifth was taken while the table moved."""
    exposures = np.zeros(9, EXPOSURE_DTYPE)
    for number, row in enumerate(exposures):
        row["number"], row["captured_ns"] = number, START + number * S
        row["x_um"], row["y_um"] = 110.0 * (number % 3 - 1), 110.0 * (number // 3 - 1)
        row["reported_x_um"], row["reported_y_um"] = row["x_um"] - 0.8 * number, row["y_um"] + 0.3 * number
        row["swept_um"] = 3.0 if number == 4 else 0.0
    return tell(ChamberTwin(SETTINGS), START, START + 3600 * S, exposures)


def single(truth: ChamberTruth) -> np.ndarray:
    """Rows of single cells that do not float and were seen whole, at rest."""
    seen = truth.seen[truth.seen["whole"] & (truth.seen["exposure"] != 4)]["object"]
    cells = np.isin(truth.kind_names(), CLASSES) & ~truth.bodies["floating"]
    return np.flatnonzero(cells & np.isin(truth.bodies["object"], seen))


def perfect(truth: ChamberTruth, at_ns: int = START + 3 * S) -> list[Listed]:
    places, kinds = truth.places_um(at_ns), truth.kind_names()
    return [Listed(n, *places[row].tolist(), at_ns, str(kinds[row])) for n, row in enumerate(single(truth).tolist())]


def test_a_perfect_list_is_scored_perfect(truth: ChamberTruth) -> None:
    listed = perfect(truth)
    score = score_listed(listed, truth, CLASSES)
    assert score["cells"] == score["found"] == score["listed"] == len(listed) > 40
    assert score["found_rate"] == 1.0 == score["consistency_rate"]
    assert score["listed_twice"] == 0 and score["no_cell"] == {}
    assert score["position_error_um"] == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_array_equal(match_listed(listed, truth), single(truth))
    assert score["marked"]["LT-HSC"] > 0.8 > score["marked"]["MPP"]


def test_faults_are_counted(truth: ChamberTruth) -> None:
    listed = perfect(truth)
    dead = int(np.flatnonzero(truth.kind_names() == "dead")[0])
    at_ns = listed[0].at_ns
    wrong = [
        *listed[5:],
        Listed(900, listed[6].x_um + 0.5, listed[6].y_um, at_ns, "MPP"),
        Listed(901, *truth.places_um(at_ns)[dead].tolist(), at_ns, "MPP"),
        Listed(902, 1900.0, 1900.0, at_ns, None),
    ]
    score = score_listed(wrong, truth, CLASSES)
    assert score["cells"] - score["found"] == 5
    assert score["listed_twice"] == 1
    assert score["no_cell"] == {"dead": 1, "nothing": 1}
    assert score["confusion"]["dead"] == {"MPP": 1}
    assert score["found_interval"][0] < score["found_rate"] < score["found_interval"][1]


def test_a_common_offset_is_told_apart_from_scatter(truth: ChamberTruth) -> None:
    shifted = [Listed(o.cell, o.x_um + 0.9, o.y_um - 1.2, o.at_ns) for o in perfect(truth)]
    score = score_listed(shifted, truth, CLASSES)
    assert score["position_error_um"] == pytest.approx(1.5)
    assert score["offset_um"] == pytest.approx([0.9, -1.2])
    assert score["relative_error_um"] == pytest.approx(0.0, abs=1e-9)
    assert score["consistency_rate"] is None


def test_a_list_in_the_encoders_own_coordinates_is_judged_in_them(truth: ChamberTruth) -> None:
    """The stage has slipped by up to 6.8 µm: more than a cell's radius."""
    listed, rows = [], single(truth)
    for number in range(9):
        at_ns = START + number * S
        for n in rows[number::9].tolist():
            x_um, y_um = (truth.places_um(at_ns)[n] - truth.stage_error_um(at_ns)).tolist()
            listed.append(Listed(n, x_um, y_um, at_ns))
    score = score_listed(listed, truth, CLASSES)
    assert score["frame"] == "encoder" and score["found_rate"] == 1.0
    assert score["position_error_um"] == pytest.approx(0.0, abs=1e-9)
    assert score_listed(perfect(truth), truth, CLASSES)["frame"] == "glass"


def test_cells_seen_only_by_a_moving_table_are_not_asked_for(truth: ChamberTruth) -> None:
    still = truth.exposures.copy()
    still["swept_um"] = 3.0
    all_moving = ChamberTruth(
        truth.kinds, truth.channels, truth.start_ns, truth.step_ns, truth.bodies, still, truth.seen, truth.paths
    )
    assert score_listed([], all_moving, CLASSES)["found_rate"] is None
    assert score_listed([], truth, CLASSES)["found_rate"] == 0.0


def test_a_doublet_is_two_bodies_that_can_both_be_listed() -> None:
    mix = SETTINGS.mix.model_copy(update={"doublet": 2.0})
    rich = tell(ChamberTwin(SETTINGS.model_copy(update={"mix": mix})), START, START + S, np.zeros(0, EXPOSURE_DTYPE))
    pairs = np.flatnonzero(rich.kind_names() == "doublet")
    places = rich.places_um(START)
    assert len(pairs) > 20 and len(np.unique(rich.bodies["object"][pairs])) == len(pairs) // 2
    apart = np.linalg.norm(places[pairs[::2]] - places[pairs[1::2]], axis=1)
    assert apart.min() > 4 and apart.max() < 12
    score = score_listed([Listed(n, *places[n].tolist(), START) for n in pairs.tolist()], rich, CLASSES)
    assert score["listed_twice"] <= 2  # bodies of strangers may lie nearer


def test_second_visits(truth: ChamberTruth) -> None:
    listed, later = perfect(truth), START + 3000 * S
    now = truth.places_um(later)
    rows = single(truth)
    revisits = [
        Revisit(o.cell, o.x_um, o.y_um, later, (float(now[row][0]), float(now[row][1])))
        for o, row in zip(listed, rows.tolist(), strict=True)
    ]
    whole = score_revisits(revisits, listed, truth)
    assert whole["refound_rate"] == 1.0 and whole["revisited"] == len(listed)
    assert whole["position_error_um"] == pytest.approx(whole["moved_um"])
    assert 0.5 < whole["moved_um"] < 4.0  # 50 min of creep, 0.25 µm per axis and root minute
    revisits[0] = Revisit(listed[0].cell, listed[0].x_um, listed[0].y_um, later, None)
    other = tuple(now[rows[5]].tolist())
    revisits[1] = Revisit(listed[1].cell, listed[1].x_um, listed[1].y_um, later, (other[0], other[1]))
    score = score_revisits(revisits, listed, truth)
    assert (score["missed"], score["mixed_up"]) == (1, 1)
    assert score["refound"] == len(listed) - 2
    assert score_revisits([], listed, truth)["refound_rate"] is None


def test_truth_is_written_and_read_back(truth: ChamberTruth, tmp_path: Path) -> None:
    path = tmp_path / "truth.npz"
    truth.save(path)
    again = ChamberTruth.load(path)
    for name in ("bodies", "exposures", "seen", "paths"):
        np.testing.assert_array_equal(getattr(again, name), getattr(truth, name))
    assert (again.kinds, again.channels, again.start_ns) == (truth.kinds, truth.channels, truth.start_ns)
    with pytest.raises(OutputError, match=r"truth\.npz"):
        truth.save(path)
    (tmp_path / "none.npz").write_bytes(b"not a truth")
    with pytest.raises(RecordingError, match=r"none\.npz"):
        ChamberTruth.load(tmp_path / "none.npz")
    np.savez(tmp_path / "old.npz", bodies=np.zeros(3))
    with pytest.raises(RecordingError, match=r"old\.npz"):
        ChamberTruth.load(tmp_path / "old.npz")


def test_truth_knows_no_time_that_it_does_not_cover(truth: ChamberTruth) -> None:
    truth.places_um(START + 3600 * S)
    for outside in (START - 1, START + 3700 * S):
        with pytest.raises(ValueError, match="covers"):
            truth.places_um(outside)
