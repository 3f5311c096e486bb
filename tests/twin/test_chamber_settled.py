import numpy as np
import pytest
from scipy.spatial import KDTree

from hspc_live.settings.chamber_twin import TwinChamberSettings
from hspc_live.settings.twin import CellMix
from hspc_live.twin.cells import KINDS
from hspc_live.twin.settled import STEP_S, Settled

CHAMBER = TwinChamberSettings(width_mm=1.5, height_mm=1.0)
CELLS = CellMix(debris=0, doublet=0, cluster=0, dead=0)


def changed(**changes: object) -> TwinChamberSettings:
    return TwinChamberSettings.model_validate(CHAMBER.model_dump() | changes)


def everybody(settled: Settled) -> np.ndarray:
    return np.arange(len(settled.rows))


def test_density_and_prevalence_are_as_set() -> None:
    mix = CellMix(lt_hsc=0.5, st_hsc=0.2, mpp=0.1, debris=0.1, doublet=0.05, cluster=0.02, dead=0.03)
    rows = Settled(changed(mix=mix, density_per_mm2=900)).rows
    objects = rows[~rows["speck"]]
    assert len(objects) == pytest.approx(900 * 1.5, rel=0.1)
    assert rows["speck"].sum() == pytest.approx(250 * 1.5, rel=0.2)
    shares = np.bincount(objects["kind"], minlength=len(KINDS)) / len(objects)
    np.testing.assert_allclose(shares, mix.shares(), atol=0.04)
    assert np.abs(rows["x_um"]).max() <= 750 and np.abs(rows["y_um"]).max() <= 500


def test_spheres_settle_side_by_side_and_some_touch() -> None:
    rows = Settled(changed(mix=CELLS, specks_per_mm2=0.0, touching_share=0.2, neighbour_share=0.1)).rows
    places, radii = np.column_stack((rows["x_um"], rows["y_um"])), rows["diameter_um"] / 2
    pairs = KDTree(places).query_pairs(12.0, output_type="ndarray")
    apart = np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1)
    touch = 2 * np.sqrt(radii[pairs[:, 0]] * radii[pairs[:, 1]])
    assert (apart - touch).min() > -1e-6
    touching = len(np.unique(pairs[apart < touch + 1e-6]))
    assert touching / len(rows) == pytest.approx(0.4, abs=0.1)
    alone = Settled(changed(mix=CELLS, specks_per_mm2=0.0, touching_share=0.0, neighbour_share=0.0)).rows
    assert not alone["company"].any()


def test_cells_creep_as_far_as_set_and_the_dead_lie_still() -> None:
    settled = Settled(changed(creep_um_per_sqrt_min=0.4, detach_per_h=0.0))
    numbers, cells = everybody(settled), settled.rows["kind"] < 3
    for minutes in (0.5, 4.0, 25.0):
        way = settled.at(numbers, 60 * minutes + 120) - settled.at(numbers, 120)
        assert way[cells].std() == pytest.approx(0.4 * np.sqrt(minutes), rel=0.1)
        still = np.isin(settled.rows["kind"], [KINDS.index(kind) for kind in ("debris", "dead")])
        assert still.any() and not way[still].any()


def test_where_a_cell_is_does_not_depend_on_what_was_asked_before() -> None:
    one, other = Settled(changed(detach_per_h=0.5)), Settled(changed(detach_per_h=0.5))
    numbers = everybody(one)
    late = one.at(numbers, 2 * 3600 + 7.5)  # in another block of steps
    early = other.at(numbers, 100.0)
    np.testing.assert_array_equal(other.at(numbers, 2 * 3600 + 7.5), late)
    np.testing.assert_array_equal(one.at(numbers, 100.0), early)
    paths = one.paths(numbers, 2 * 3600 + 7.5)
    step, part = divmod((2 * 3600 + 7.5) / STEP_S, 1.0)
    between = (1 - part) * paths[:, int(step)] + part * paths[:, int(step) + 1]
    np.testing.assert_allclose(between, late)


def test_a_few_come_loose_and_go_far() -> None:
    settled = Settled(changed(detach_per_h=0.3, creep_um_per_sqrt_min=0.0, detach_um=50.0))
    numbers, cells = everybody(settled), settled.rows["kind"] < 3
    way = np.linalg.norm(settled.at(numbers, 3600.0 + STEP_S) - settled.at(numbers, 0.0), axis=1)
    assert (way[cells] > 5).mean() == pytest.approx(0.3, abs=0.06)
    assert np.median(way[way > 5]) == pytest.approx(50, rel=0.3)
    assert not np.isfinite(Settled(changed(detach_per_h=0.0)).rows["loose_s"]).any()


@pytest.mark.parametrize("seconds", [0.0, 1800.0])
def test_near_finds_all_that_are_near(seconds: float) -> None:
    settled = Settled(changed(detach_per_h=0.5))
    everything = settled.at(everybody(settled), seconds)
    place = np.array([120.0, -80.0])
    numbers, places = settled.near(place, 60.0, seconds)
    np.testing.assert_array_equal(numbers, np.flatnonzero((np.abs(everything - place) < 60.0).all(axis=1)))
    np.testing.assert_array_equal(places, everything[numbers])


def test_an_empty_chamber_is_a_chamber() -> None:
    settled = Settled(changed(density_per_mm2=0.0, specks_per_mm2=0.0))
    assert settled.near(np.zeros(2), 100.0, 5.0)[1].shape == (0, 2)
    assert settled.paths(everybody(settled), 30.0).shape == (0, 4, 2)
