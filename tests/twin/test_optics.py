import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.twin.optics import FINE_UM, Optics, place


def ball(radius_um: float, contrast: float = 0.03, size: int = 161) -> np.ndarray:
    axis = (np.arange(size) - size // 2) * FINE_UM
    r2 = axis**2 + axis[:, None] ** 2
    path = 2 * contrast * np.sqrt(np.maximum(radius_um**2 - r2, 0))
    return cv2.GaussianBlur(path.astype(np.float32), (0, 0), 1.5)


def test_empty_path_gives_the_empty_field_in_both_contrasts() -> None:
    flat = np.zeros((64, 64), np.float32)
    for modality in ("dic", "brightfield"):
        optics = Optics.of(TwinFlowSettings(modality=modality))
        np.testing.assert_allclose(optics.contrast(flat, 0.0, 0.2), 1.0, atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 45.0, 90.0, 200.0])
def test_dic_relief_lies_along_the_shear_axis(angle: float) -> None:
    light = Optics.of(TwinFlowSettings(shear_axis_deg=angle)).contrast(ball(4.0), 0.0) - 1
    axis = np.arange(light.shape[0]) - light.shape[0] // 2
    x, y = np.meshgrid(axis, axis)
    # bright where the path rises along the axis, i.e. on the near side: the first moment points against the axis
    moment = -np.array([(x * light).sum(), (y * light).sum()])
    direction = np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])
    assert moment @ direction / np.linalg.norm(moment) > 0.99


def test_reversing_the_bias_reverses_the_relief() -> None:
    path = ball(4.0, contrast=0.005)
    plus = Optics.of(TwinFlowSettings(bias_rad=1.2)).contrast(path, 0.0) - 1
    minus = Optics.of(TwinFlowSettings(bias_rad=-1.2)).contrast(path, 0.0) - 1
    assert np.corrcoef(plus.ravel(), minus.ravel())[0, 1] < -0.98


def test_brightfield_contrast_reverses_through_focus_and_matter_absorbs() -> None:
    path = ball(4.0, contrast=0.01)
    clear = TwinFlowSettings(modality="brightfield", brightfield_defocus_um=0.0, absorption_per_um=0.0)
    over = Optics.of(clear).contrast(path, 1.0) - 1
    under = Optics.of(clear).contrast(path, -1.0) - 1
    np.testing.assert_allclose(over, -under, atol=1e-4)
    dark = Optics.of(clear.model_copy(update={"absorption_per_um": 1.0})).contrast(path, 0.0)
    assert dark[80, 80] == pytest.approx(np.exp(-path[80, 80]), rel=1e-3)


def test_point_spread_widens_with_defocus_on_both_sides() -> None:
    optics = Optics.of(TwinFlowSettings())
    widths = optics.psf_width_um(np.array([0.0, 1.0, 3.0, 8.0]))
    assert widths[0] == pytest.approx(0.16)
    assert (np.diff(widths) > 0.05).all()
    assert optics.psf_width_um(-3.0) == pytest.approx(float(widths[2]))


def test_motion_blurs_along_the_flow_only() -> None:
    optics = Optics.of(TwinFlowSettings())
    path = np.zeros((81, 81), np.float32)
    path[40, 40] = 0.5
    path = cv2.GaussianBlur(path, (0, 0), 1.2)
    still, moving = optics.contrast(path, 0.0, 0.0) - 1, optics.contrast(path, 0.0, 2.0) - 1

    def spread(light: NDArray[np.floating], axis: int) -> float:
        return float(np.sqrt((np.abs(light).sum(axis) * (np.arange(81) - 40) ** 2).sum()))

    assert spread(moving, 0) > 1.3 * spread(still, 0)
    assert spread(moving, 1) == pytest.approx(spread(still, 1), rel=0.15)


@given(
    x=st.floats(20, 60),
    y=st.floats(20, 60),
    um_per_px=st.sampled_from([0.125, 0.2, 0.25, 0.34]),
)
def test_sprites_land_at_sub_pixel_positions(x: float, y: float, um_per_px: float) -> None:
    axis = (np.arange(97) - 48) * FINE_UM
    spot = (1 + np.exp(-(axis**2 + axis[:, None] ** 2) / (2 * 0.8**2))).astype(np.float32)
    patch, x0, y0 = place(spot, x, y, um_per_px)
    extra = patch.astype(float) - 1
    columns, rows = np.arange(patch.shape[1]) + x0, np.arange(patch.shape[0]) + y0
    assert (extra.sum(0) * columns).sum() / extra.sum() == pytest.approx(x, abs=0.02)
    assert (extra.sum(1) * rows).sum() / extra.sum() == pytest.approx(y, abs=0.02)
    assert np.abs(extra[[0, -1]]).max() < 1e-6
