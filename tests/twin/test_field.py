import cv2
import numpy as np
import pytest

from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.twin.field import Sensor, empty_field

CLEAN = TwinFlowSettings(dust=0, height_px=128, width_px=256)


def test_illumination_is_uneven_as_set_and_flat_without() -> None:
    flat = empty_field(CLEAN.model_copy(update={"illumination_slope": 0.0}))
    np.testing.assert_allclose(flat, 0.42 * 255, rtol=1e-5)
    uneven = empty_field(CLEAN.model_copy(update={"illumination_slope": 0.3}))
    assert 0.2 < np.ptp(uneven) / uneven.mean() < 0.6


def test_dust_is_small_dark_and_always_in_its_place() -> None:
    dusty = CLEAN.model_copy(update={"dust": 10})
    ratio = empty_field(dusty) / empty_field(CLEAN)
    spots, *_ = cv2.connectedComponentsWithStats((ratio < 0.99).astype(np.uint8))
    assert 4 <= spots - 1 <= 10
    assert ratio.max() < 1.0001
    assert (ratio < 0.99).mean() < 0.1
    np.testing.assert_array_equal(empty_field(dusty), empty_field(dusty))
    assert (empty_field(dusty.model_copy(update={"seed": 5})) != empty_field(dusty)).any()


@pytest.mark.parametrize(("bits", "top"), [(8, 255), (12, 4095), (16, 65535)])
def test_the_sensor_saturates_at_both_ends(bits: int, top: int) -> None:
    sensor = Sensor(CLEAN.model_copy(update={"bits": bits}), (2, 64))
    light = np.repeat(np.array([[-50.0], [3.0 * top]], np.float32), 64, axis=1)
    quantised = sensor.quantise(light)
    assert quantised[0].max() == 0
    assert quantised[1].min() == top
    assert sensor.expose(np.maximum(light, 0), np.random.default_rng(1))[1].min() == top
