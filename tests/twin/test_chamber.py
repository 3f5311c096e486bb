import cv2
import numpy as np
import pytest

from hspc_live.core.errors import DeviceError
from hspc_live.core.values import Modality
from hspc_live.settings.chamber_twin import CameraMounting, FluorescenceSettings, TwinChamberSettings
from hspc_live.settings.twin import CellMix
from hspc_live.twin.cells import KINDS
from hspc_live.twin.chamber import TRANSMITTED, ChamberTwin
from hspc_live.twin.glow import shine

SMALL = TwinChamberSettings(height_px=256, width_px=384, width_mm=0.3, height_mm=0.3, density_per_mm2=2500)
NOTHING = {"density_per_mm2": 0.0, "specks_per_mm2": 0.0}
BEADS = CellMix(bead=1, lt_hsc=0, st_hsc=0, mpp=0, debris=0, doublet=0, cluster=0, dead=0)
CELLS = CellMix(debris=0, doublet=0, cluster=0, dead=0)


def changed(settings: TwinChamberSettings, **changes: object) -> TwinChamberSettings:
    return TwinChamberSettings.model_validate(settings.model_dump() | changes)


def test_a_seed_reproduces_every_pixel_in_any_order() -> None:
    one, other = ChamberTwin(SMALL), ChamberTwin(SMALL)
    looks = [(x, y, 40.0 * k, k) for k, (x, y) in enumerate([(-60, 20), (0, 0), (55, -70), (-60, 20)])]
    forwards = [one.render(x, y, s, number=k) for x, y, s, k in looks]
    backwards = [other.render(x, y, s, number=k) for x, y, s, k in reversed(looks)][::-1]
    np.testing.assert_array_equal(forwards, backwards)
    assert (forwards[0] != forwards[3]).mean() > 0.5  # noise of its own, and cells that crept
    assert (ChamberTwin(changed(SMALL, seed=2)).render(-60, 20) != forwards[0]).mean() > 0.5


def test_pixels_and_info_agree() -> None:
    for bits, dtype, modality in ((8, "uint8", "dic"), (12, "uint16", "brightfield")):
        twin = ChamberTwin(changed(SMALL, bits=bits, modality=modality))
        info = twin.info()
        for channel in twin.channels:
            frame = twin.render(0, 0, channel=channel)
            assert frame.shape == (info.height_px, info.width_px) == (256, 384)
            assert frame.dtype == twin.background(channel).dtype == info.dtype == dtype
            assert frame.max() < 1 << bits
        assert info.modality is Modality(modality)


@pytest.mark.parametrize("mirrored", [False, True])
def test_cells_show_where_the_truth_says(mirrored: bool) -> None:
    mounting = CameraMounting(rotation_deg=20.0, scale_error=0.05, shear=0.03, mirrored=mirrored)
    settings = changed(
        SMALL,
        modality="brightfield",
        mounting=mounting,
        mix=BEADS,
        specks_per_mm2=0.0,
        touching_share=0.0,
        neighbour_share=0.0,
        floating_share=0.0,
    )
    twin = ChamberTwin(settings)
    checked = 0
    for x_um, y_um in ((-50.0, 40.0), (30.0, -60.0), (70.0, 70.0)):
        change = np.abs(twin.light(x_um, y_um) / twin.background() - 1)
        labels, owners = twin.labels(x_um, y_um)
        for bead in twin.visible(x_um, y_um):
            if not bead["whole"]:
                continue
            body = labels == 1 + int(np.flatnonzero(owners == bead["object"])[0])
            around = cv2.dilate(body.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
            if (labels[around & ~body] > 0).any():
                continue
            y, x = np.nonzero((change > 0.02) & around)
            middle = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
            assert middle == pytest.approx((float(bead["x_px"]), float(bead["y_px"])), abs=1.0)
            assert twin.view.to_um(middle, (x_um, y_um)) == pytest.approx([bead["x_um"], bead["y_um"]], abs=0.3)
            checked += 1
    assert checked > 10


def test_moving_the_stage_moves_the_cells_and_not_the_dust() -> None:
    twin = ChamberTwin(SMALL)
    here, there = ({row["object"]: (row["x_px"], row["y_px"]) for row in twin.visible(*at)} for at in ((0, 0), (10, 5)))
    both = sorted(here.keys() & there.keys())
    assert len(both) > 10
    ways = np.array([there[n] for n in both]) - np.array([here[n] for n in both])
    np.testing.assert_allclose(ways, np.tile(twin.view.px_per_um @ [-10.0, -5.0], (len(both), 1)))
    empty = ChamberTwin(changed(SMALL, **NOTHING))
    np.testing.assert_array_equal(empty.light(0, 0), empty.light(500, 300))
    assert empty.light(0, 0).min() < 0.95 * np.median(empty.light(0, 0))  # dust


def test_outlines_are_as_large_as_the_cells_and_doublets_have_two() -> None:
    twin = ChamberTwin(changed(SMALL, mix=CellMix(doublet=0.4, cluster=0), width_px=512, height_px=512))
    labels, owners = twin.labels(0, 0)
    kinds = [KINDS[kind] for kind in twin.settled.rows["kind"][owners]]
    areas = np.bincount(labels.ravel(), minlength=len(owners) + 1)[1:] * twin.view.mean_um_per_px**2
    whole = {int(row["object"]) for row in twin.visible(0, 0) if row["whole"]}
    for owner, kind, area in zip(owners.tolist(), kinds, areas, strict=True):
        if kind in KINDS[:3] and owner in whole and not twin.settled.rows["company"][owner]:
            diameter = 2 * np.sqrt(area / np.pi)
            assert diameter == pytest.approx(float(twin.settled.rows["diameter_um"][owner]), rel=0.12)
    doublets = [n for n, kind in zip(owners.tolist(), kinds, strict=True) if kind == "doublet" and n in whole]
    assert doublets and all(doublets.count(n) == 2 for n in doublets)


def test_the_glass_is_tilted_against_the_plane_of_focus() -> None:
    tilted = changed(
        SMALL, mix=BEADS, specks_per_mm2=0.0, focus_sd_um=0.0, floating_share=0.0, focus_tilt_um_per_mm=10.0
    )
    twin = ChamberTwin(changed(tilted, focus_tilt_deg=0.0, focus_offset_um=0.5))
    seen = twin.visible(0, 0)
    slope, height = np.polyfit(seen["x_um"], seen["defocus_um"], 1)
    assert slope == pytest.approx(0.01, rel=0.1)
    assert height == pytest.approx(-0.5 - 0.09, abs=0.05)  # a bead is a little smaller than a mean cell

    def sharpness(x_um: float) -> float:
        light = twin.light(x_um, 0) / twin.background().astype(np.float32)
        return float(np.abs(cv2.Laplacian(light, cv2.CV_32F)).max())

    assert sharpness(50.0) > 1.5 * sharpness(-150.0)


def test_exposure_makes_light_and_too_much_saturates() -> None:
    twin = ChamberTwin(changed(SMALL, **NOTHING))
    for channel in twin.channels:
        usual = twin.exposure_ms(channel)
        one, two = (twin.render(0, 0, channel=channel, exposure_ms=k * usual).mean() for k in (1, 2))
        assert two == pytest.approx(2 * one, rel=0.02)
    assert twin.render(0, 0, exposure_ms=50.0).min() == 4095
    with pytest.raises(DeviceError, match="transmitted, gfp"):
        twin.render(0, 0, channel="cy5")


def test_a_moving_table_blurs_the_cells_and_not_the_dust() -> None:
    twin = ChamberTwin(SMALL)
    sweep = [(float(x), 0.0) for x in np.linspace(-2, 2, 16)]
    still, moving = twin.light(0, 0), twin.light(0, 0, sweep_um=sweep)
    edges = [np.abs(cv2.Sobel(light / twin.background(), cv2.CV_64F, 1, 0)).max() for light in (still, moving)]
    assert edges[1] < 0.6 * edges[0]
    empty = ChamberTwin(changed(SMALL, **NOTHING))
    np.testing.assert_allclose(empty.light(0, 0, sweep_um=sweep), empty.light(0, 0), rtol=1e-5)


def test_fluorescence_measures_what_the_cells_give_off() -> None:
    flat = FluorescenceSettings(illumination_slope=0.0, haze=0.0)
    plain = changed(SMALL, mix=CELLS, fluorescence=flat, focus_sd_um=0.0, floating_share=0.0, touching_share=0.0)
    twin = ChamberTwin(changed(plain, neighbour_share=0.0, creep_um_per_sqrt_min=0.0))
    picture = twin.render(0, 0, channel="gfp").astype(float) * twin.settings.full_well_e / 4095
    measured, expected = [], []
    for row in twin.visible(0, 0):
        number, x, y = int(row["object"]), round(row["x_px"]), round(row["y_px"])
        if row["whole"] and not twin.settled.rows["speck"][number]:
            measured.append(picture[y - 1 : y + 2, x - 1 : x + 2].mean() - flat.background_e)
            expected.append(shine(twin.settings, number, twin.settled.thing(number))[0].electrons)
    assert len(measured) > 8
    np.testing.assert_allclose(measured, expected, rtol=0.1, atol=15.0)
    empty = ChamberTwin(changed(plain, **NOTHING)).render(0, 0, channel="gfp").astype(float)
    electrons = empty * twin.settings.full_well_e / 4095
    assert electrons.mean() == pytest.approx(60, rel=0.05)
    assert electrons.std() == pytest.approx(np.sqrt(60 + 6**2), rel=0.1)


def test_the_marker_follows_the_class_as_in_the_reporter_mouse() -> None:
    twin = ChamberTwin(TwinChamberSettings(mix=CELLS, specks_per_mm2=0.0))
    kinds = twin.settled.rows["kind"]
    glow = [shine(twin.settings, n, twin.settled.thing(n))[0] for n in range(len(kinds))]
    marked, electrons = np.array([g.marked for g in glow]), np.array([g.electrons for g in glow])
    assert len(kinds) > 2000
    shares = [marked[kinds == kind].mean() for kind in range(3)]
    assert shares[0] > 0.96
    assert shares == pytest.approx([0.98, 0.80, 0.30], abs=0.04)
    brightest = kinds[np.argsort(electrons)[-len(kinds) // 200 :]]
    assert (brightest == 0).mean() > 0.6 > 3 * (kinds == 0).mean()


def test_channels_are_named_by_the_settings() -> None:
    twin = ChamberTwin(changed(SMALL, fluorescence=FluorescenceSettings(channel="cd150")))
    assert twin.channels == (TRANSMITTED, "cd150")
    assert twin.render(0, 0, channel="cd150").mean() < 0.2 * twin.render(0, 0).mean()
