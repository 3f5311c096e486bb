import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.twin.cells import CLASSES, DIAMETER_SD_UM, KINDS, draw, habit_of
from hspc_live.twin.optics import FINE_UM, Optics
from hspc_live.twin.phase import PhaseObject, path_length

EQUAL = (1.0, 1.0, 1.0)
OPTICS = Optics.of(TwinFlowSettings())


def many(kind: str, count: int, texture: float = 1.0) -> list[PhaseObject]:
    rng = np.random.default_rng(7)
    return [draw(kind, rng, texture, EQUAL) for _ in range(count)]


@pytest.mark.parametrize(("kind", "mean"), [("LT-HSC", 8.05), ("ST-HSC", 8.05), ("MPP", 8.44)])
def test_class_diameters_are_the_papers(kind: str, mean: float) -> None:
    sizes = np.array([thing.diameter_um for thing in many(kind, 1500)])
    assert sizes.mean() == pytest.approx(mean, abs=4 * DIAMETER_SD_UM / np.sqrt(1500))
    assert sizes.std() == pytest.approx(DIAMETER_SD_UM, rel=0.1)


def test_without_texture_the_classes_share_one_habit() -> None:
    assert habit_of("LT-HSC", 0.0) == habit_of("ST-HSC", 0.0) == habit_of("MPP", 0.0)
    assert habit_of("LT-HSC", 1.0) != habit_of("MPP", 1.0)
    # the same draw then differs by diameter only: scaled to one size the cells are the same
    lt, mpp = (draw(kind, np.random.default_rng(3), 0.0, EQUAL).globes[0] for kind in ("LT-HSC", "MPP"))
    np.testing.assert_allclose(lt.nucleus / lt.radius_um, mpp.nucleus / mpp.radius_um, rtol=1e-9)
    assert len(lt.blobs) == len(mpp.blobs)
    np.testing.assert_allclose(lt.blobs[:, 4], mpp.blobs[:, 4])


@given(texture=st.floats(0, 3), kind=st.sampled_from(CLASSES))
def test_any_texture_strength_is_a_possible_habit(texture: float, kind: str) -> None:
    habit = habit_of(kind, texture)
    assert sum(habit.arrangement) == pytest.approx(1)
    assert min(habit.arrangement) >= 0
    assert 0 < habit.nucleus_ratio < 1
    assert 0 <= habit.nucleus_offset <= 1
    assert 0 <= habit.indentation <= 1


def test_granules_lie_where_the_habit_says() -> None:
    def distance_from_nucleus_side(kind: str) -> float:
        """Mean cosine between the granules and the nucleus, seen from the cell's middle."""
        cosines = []
        for thing in many(kind, 60):
            globe = thing.globes[0]
            granules = globe.blobs[globe.blobs[:, 3] > 0.025, :3]
            along = granules @ globe.nucleus / (np.linalg.norm(globe.nucleus) + 1e-9)  # it may sit in the middle
            cosines.append(float(np.mean(along / np.linalg.norm(granules, axis=1))))
        return float(np.mean(cosines))

    assert distance_from_nucleus_side("LT-HSC") < -0.3  # a cap at the far pole
    assert abs(distance_from_nucleus_side("MPP")) < 0.25


def test_path_length_of_a_bead_is_the_chord_of_a_sphere() -> None:
    bead = many("bead", 1)[0]
    path = path_length(bead, OPTICS, 0.0)
    middle = path.shape[0] // 2
    globe = bead.globes[0]
    radii = np.arange(0, 24) * FINE_UM  # well inside: the edge is blurred
    chord = 2 * globe.contrast * np.sqrt(globe.radius_um**2 - radii**2)
    np.testing.assert_allclose(path[middle, middle : middle + 24], chord, rtol=0.01)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 10_000), defocus=st.floats(-10, 10))
def test_the_map_holds_the_whole_object_and_blur_keeps_its_matter(kind: str, seed: int, defocus: float) -> None:
    thing = draw(kind, np.random.default_rng(seed), 1.0, EQUAL)
    path = path_length(thing, OPTICS, defocus)
    border = np.concatenate([path[0], path[-1], path[:, 0], path[:, -1]])
    assert np.abs(border).max() < 0.01 * np.abs(path).max() + 1e-6
    sharp = path_length(thing, OPTICS, 0.0)
    assert path.sum() == pytest.approx(float(sharp.sum()), rel=0.03)


def test_cells_of_doublets_touch_and_members_are_known() -> None:
    for thing in many("doublet", 50):
        a, b = thing.globes
        gap = np.linalg.norm(a.centre_um - b.centre_um) / (a.radius_um + b.radius_um)
        assert 0.9 <= gap <= 1.01
        assert sum(thing.members) == 2
    sizes = {len(thing.globes) for thing in many("cluster", 60)}
    assert sizes == {3, 4, 5, 6}
    only = draw("cluster", np.random.default_rng(0), 1.0, (0.0, 1.0, 0.0))
    assert only.members == (0, len(only.globes), 0)


def test_debris_is_smaller_than_any_cell_and_most_cells_are_round() -> None:
    assert max(thing.diameter_um for thing in many("debris", 300)) < 4.0
    cells = many("LT-HSC", 400)
    uneven = [np.abs(c.globes[0].outline[:, 0]).max() > 0.045 for c in cells]
    assert np.mean(uneven) < 0.07  # the paper: about 95 % spherical


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match=r"'HSC'.*LT-HSC"):
        draw("HSC", np.random.default_rng(0), 1.0, EQUAL)
