import cv2
import numpy as np
import pytest

from hspc_live.core.values import Modality
from hspc_live.settings.twin import CellMix, Mishaps, TwinFlowSettings
from hspc_live.twin.cells import KINDS
from hspc_live.twin.flow import FlowTwin, frame_time_s

SMALL = TwinFlowSettings(height_px=96, width_px=256, events_per_s=60)


def test_a_seed_reproduces_every_pixel_in_any_order() -> None:
    one, other = FlowTwin(SMALL), FlowTwin(SMALL)
    forwards = [one.render(k) for k in range(12)]
    backwards = [other.render(k) for k in reversed(range(12))][::-1]
    np.testing.assert_array_equal(forwards, backwards)
    np.testing.assert_array_equal(FlowTwin(SMALL).render(9), forwards[9])  # the frames before it were never made
    assert (FlowTwin(SMALL.model_copy(update={"seed": 2})).render(9) != forwards[9]).mean() > 0.3


def test_pixels_and_info_agree() -> None:
    for bits, dtype, modality in ((8, "uint8", "dic"), (12, "uint16", "brightfield")):
        twin = FlowTwin(SMALL.model_copy(update={"bits": bits, "modality": modality}))
        info, frame = twin.info(), twin.render(3)
        assert frame.shape == (info.height_px, info.width_px) == (96, 256)
        assert frame.dtype == twin.background().dtype == info.dtype == dtype
        assert frame.max() < 1 << bits
        assert info.modality is Modality(modality)
        assert (info.shear_axis_deg is None) == (modality == "brightfield")


def test_noise_is_that_of_the_camera_and_of_every_frame_its_own() -> None:
    quiet = SMALL.model_copy(update={"events_per_s": 1e-9, "bits": 12, "dust": 0})
    twin = FlowTwin(quiet)
    frames = np.stack([twin.render(k) for k in range(40)]).astype(float)
    electrons = twin.background() / 4095 * quiet.full_well_e
    expected = np.sqrt(electrons + quiet.read_noise_e**2) * 4095 / quiet.full_well_e
    assert np.median(frames.std(0) / expected) == pytest.approx(1.0, abs=0.03)
    assert np.abs(frames.mean(0) - twin.background()).mean() < expected.mean() / 4
    noise = (frames - frames.mean(0)).reshape(40, -1)
    assert np.abs(np.corrcoef(noise[:10]) - np.eye(10)).max() < 0.2


def test_sightings_are_where_the_cells_show() -> None:
    beads = CellMix(bead=1, lt_hsc=0, st_hsc=0, mpp=0, debris=0, doublet=0, cluster=0, dead=0)
    clear_of_walls = {"height_px": 128, "stream_share": 0.3, "blurred_share": 0.0, "events_per_s": 8}
    twin = FlowTwin(SMALL.model_copy(update={"mix": beads, "modality": "brightfield", **clear_of_walls}))
    truth = twin.truth(100, start_ns=0)
    checked = 0
    for frame in range(100):
        seen = truth.in_frame(frame)
        clear = seen[(seen["x_um"] > 8) & (seen["x_um"] < 56)]
        if len(seen) != 1 or not len(clear):
            continue
        change = np.abs(twin.light(frame) / twin.background() - 1)
        change = cv2.GaussianBlur((change > 0.02).astype(np.float32), (0, 0), 1)
        change[:, np.abs(np.arange(256) * 0.25 - clear["x_um"][0]) > 8] = 0  # another may just reach into the view
        y, x = np.nonzero(change > 0.5)
        middle = (x.min() + x.max()) / 2 * 0.25, (y.min() + y.max()) / 2 * 0.25
        assert middle == pytest.approx((float(clear["x_um"][0]), float(clear["y_um"][0])), abs=0.3)
        checked += 1
    assert checked > 5


def test_default_operating_point() -> None:
    truth = FlowTwin(TwinFlowSettings()).truth(2000, start_ns=0)
    whole = truth.objects[truth.objects["entry_ns"] < 19.8e9]
    looks = np.bincount(truth.sightings["object"], minlength=len(truth.objects))[whole["id"]]
    assert looks.min() >= 5
    cells = whole[whole["kind"] < 3]
    assert 8 < len(cells) / 19.8 < 12
    assert (cells["junction_ns"] - cells["entry_ns"]).min() / 1e9 > 0.5 + 256 / 4000


def test_junction_times_extrapolate_the_sightings() -> None:
    twin = FlowTwin(TwinFlowSettings(transit_jitter=0.0))
    start = 7_000_000_000
    truth = twin.truth(400, start)
    for number in np.unique(truth.sightings["object"])[:20]:
        seen = truth.sightings[truth.sightings["object"] == number]
        thing = truth.objects[number]
        assert (seen["y_um"] == thing["y_um"]).all()
        at_s = np.array([frame_time_s(twin.settings, int(k)) for k in seen["frame"]])
        velocity, origin = np.polyfit(at_s, seen["x_um"], 1)
        assert velocity == pytest.approx(float(thing["velocity_um_s"]), rel=1e-6)
        arrival_s = (2600 - origin) / velocity
        assert (thing["junction_ns"] - start) / 1e9 == pytest.approx(arrival_s, abs=1e-6)


def test_transit_jitter_is_as_wide_as_set() -> None:
    plain = FlowTwin(TwinFlowSettings(transit_jitter=0.0)).truth(3000, 0).objects
    jittered = FlowTwin(TwinFlowSettings(transit_jitter=0.01)).truth(3000, 0).objects
    transit = plain["junction_ns"] - plain["entry_ns"]
    relative = (jittered["junction_ns"] - plain["junction_ns"]) / transit
    assert relative.std() == pytest.approx(0.01, rel=0.2)


def test_velocity_profile_lets_cells_overtake() -> None:
    twin = FlowTwin(TwinFlowSettings(velocity_cv=0.0, events_per_s=40))
    objects = twin.truth(500, 0).objects
    across = (objects["y_um"] - 32) / 32
    np.testing.assert_allclose(objects["velocity_um_s"], 4000 * (1 - 0.2 * across**2))
    assert (np.diff(objects["entry_ns"]) >= 0).all()
    assert (np.diff(objects["junction_ns"]) < 0).any()


def test_drift_changes_all_velocities() -> None:
    twin = FlowTwin(TwinFlowSettings(velocity_cv=0.0, profile_loss=0.0, mishaps=Mishaps(velocity_drift_per_s=0.05)))
    objects = twin.truth(1000, 0).objects
    entry_s = objects["entry_ns"] / 1e9
    np.testing.assert_allclose(objects["velocity_um_s"], 4000 * (1 + 0.05 * entry_s), rtol=1e-6)
    late, early = objects[-1], objects[0]
    assert late["junction_ns"] - late["entry_ns"] < 0.8 * (early["junction_ns"] - early["entry_ns"])


def test_clog_stands_still_while_the_others_slow_down() -> None:
    mishaps = Mishaps(clog_at_s=1.0, clog_seconds=1.5, clog_slowing=0.4)
    truth = FlowTwin(TwinFlowSettings(mishaps=mishaps)).truth(400, 0)
    (stuck,) = truth.objects[truth.objects["stuck"]]
    seen = truth.sightings[truth.sightings["object"] == stuck["id"]]
    while_stuck = seen[(seen["frame"] >= 101) & (seen["frame"] < 249)]
    assert len(while_stuck) == 148
    np.testing.assert_allclose(while_stuck["x_um"], 128.0, atol=1e-6)
    assert seen["frame"].max() < 260  # it lets go in the end
    assert stuck["junction_ns"] / 1e9 == pytest.approx(2.5 + (2600 - 128) / 4000, rel=0.01)
    steps = []
    for number in np.unique(truth.sightings["object"]):
        path = truth.sightings[truth.sightings["object"] == number]
        if number != stuck["id"] and path["frame"].min() > 101 and path["frame"].max() < 249:
            steps.append(np.diff(path["x_um"]).mean() / truth.objects["velocity_um_s"][number] * 100)
            assert truth.objects["velocity_um_s"][number] < 0.45 * 4000
    assert len(steps) >= 4
    np.testing.assert_allclose(steps, 1.0, rtol=1e-6)


def test_bubble_darkens_a_large_part_of_the_view_and_is_gone_again() -> None:
    twin = FlowTwin(TwinFlowSettings(events_per_s=1e-9, mishaps=Mishaps(bubble_at_s=0.5)))
    empty = twin.background().astype(float)
    changed = [float((np.abs(twin.light(k) / empty - 1) > 0.3).mean()) for k in (30, 50, 70)]
    assert changed[1] > 0.1
    assert changed[0] == changed[2] == 0


def test_focus_drift_takes_the_sharpness_away() -> None:
    mix = CellMix(debris=0, doublet=0, cluster=0, dead=0)
    twin = FlowTwin(TwinFlowSettings(mix=mix, blurred_share=0, mishaps=Mishaps(focus_drift_um_per_s=2.0)))
    truth = twin.truth(400, 0)
    assert not truth.sightings["blurred"][truth.sightings["frame"] < 50].any()
    assert truth.sightings["blurred"][truth.sightings["frame"] > 350].all()

    def edge(low: int, high: int) -> float:
        frames = np.unique(truth.sightings["frame"])
        frames = frames[(frames >= low) & (frames < high)]
        empty = twin.background().astype(np.float32)
        return float(np.mean([np.abs(cv2.Laplacian(twin.light(int(k)) / empty, cv2.CV_32F)).max() for k in frames]))

    assert edge(350, 400) < 0.3 * edge(0, 50)


def test_prevalence_is_as_declared_and_blurred_cells_keep_their_class() -> None:
    mix = CellMix(lt_hsc=0.5, st_hsc=0.2, mpp=0.1, debris=0.1, doublet=0.05, cluster=0.02, dead=0.03)
    objects = FlowTwin(TwinFlowSettings(mix=mix, events_per_s=200, blurred_share=0.1)).truth(1000, 0).objects
    shares = np.bincount(objects["kind"], minlength=len(KINDS)) / len(objects)
    np.testing.assert_allclose(shares, mix.shares(), atol=0.04)
    assert objects["blurred"].mean() == pytest.approx(0.1, abs=0.03)
    assert objects["blurred"][objects["kind"] == 0].any()


def test_arrivals_are_poisson() -> None:
    objects = FlowTwin(TwinFlowSettings(events_per_s=30)).truth(6000, 0).objects
    counts = np.histogram(objects["entry_ns"] / 1e9, bins=np.arange(0, 60.01, 0.5))[0]
    assert counts.mean() == pytest.approx(15, rel=0.1)
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.4)
