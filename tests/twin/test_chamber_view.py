import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.settings.chamber_twin import CameraMounting, TwinChamberSettings
from hspc_live.twin.view import View

MOUNTINGS = st.builds(
    CameraMounting,
    rotation_deg=st.floats(-180, 180),
    scale_error=st.floats(-0.2, 0.2),
    aspect_error=st.floats(-0.1, 0.1),
    shear=st.floats(-0.3, 0.3),
    mirrored=st.booleans(),
)
PLACES = st.tuples(st.floats(-3000, 3000), st.floats(-3000, 3000))


@given(MOUNTINGS, PLACES, PLACES)
def test_there_and_back(mounting: CameraMounting, place: tuple[float, float], stage: tuple[float, float]) -> None:
    view = View.of(TwinChamberSettings(mounting=mounting))
    assert view.to_um(view.to_px(place, stage), stage) == pytest.approx(np.array(place), abs=1e-6)
    assert view.to_px(stage, stage) == pytest.approx([511.5, 511.5])


def test_a_straight_mounting_is_the_nominal_one() -> None:
    straight = CameraMounting(rotation_deg=0, scale_error=0, aspect_error=0, shear=0)
    view = View.of(TwinChamberSettings(mounting=straight))
    np.testing.assert_allclose(view.um_per_px, np.eye(2) * 0.25, atol=1e-15)
    assert view.reach_um() == pytest.approx(511.5 * 0.25 * np.sqrt(2))


def test_rotation_runs_clockwise_and_scale_is_the_true_one() -> None:
    turned = CameraMounting(rotation_deg=30, scale_error=0.1, aspect_error=0, shear=0)
    view = View.of(TwinChamberSettings(mounting=turned))
    x, y = view.to_px((11.0, 0.0), (0.0, 0.0)) - view.middle_px
    assert np.degrees(np.arctan2(y, x)) == pytest.approx(30)
    assert np.hypot(x, y) == pytest.approx(11.0 / 0.275)
    assert view.mean_um_per_px == pytest.approx(0.275)
    assert np.linalg.det(View.of(TwinChamberSettings(mounting=CameraMounting(mirrored=True))).um_per_px) < 0
