import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from hspc_live.core.crop import CropGeometry, cut, fits
from hspc_live.settings.twin import CellMix, TwinFlowSettings
from hspc_live.twin.flow import FlowTwin
from hspc_live.twin.samples import Crops, sample_crops

CELLS = CellMix(lt_hsc=1, st_hsc=1, mpp=1, debris=0, doublet=0, cluster=0, dead=0)


def test_crops_are_labelled_reproducible_and_independent_of_their_number() -> None:
    few, more = (sample_crops(TwinFlowSettings(), n, seed=4) for n in (20, 31))
    assert few.crops.shape == (20, 64, 64)
    assert few.crops.dtype == np.uint8
    np.testing.assert_array_equal(few.crops, more.crops[:20])
    np.testing.assert_array_equal(few.labels, np.arange(20) % 3)
    assert not np.array_equal(few.crops, sample_crops(TwinFlowSettings(), 20, seed=5).crops)


def test_looks_are_the_same_cell_seen_again() -> None:
    got = sample_crops(TwinFlowSettings(), 30, seed=1, looks=3)
    assert got.cells.tolist() == [i // 3 for i in range(30)]
    assert (np.diff(got.diameters_um.reshape(10, 3)) == 0).all()
    flat = got.crops.reshape(10, 3, -1).astype(float)
    assert not np.array_equal(flat[0, 0], flat[0, 1])  # its own place, shift and noise
    same = np.mean([np.corrcoef(cell)[0, 1] for cell in flat])
    other = np.mean([np.corrcoef(flat[i, 0], flat[i + 3, 0])[0, 1] for i in range(7)])
    assert same > 0.9
    assert same > other + 0.05


def statistics(crops: np.ndarray) -> np.ndarray:
    """Of each crop: mean, spread, strength of fine detail, extremes, share of pixels that are not background."""
    c = crops.astype(float) - 128
    fine = c[:, 1:, 1:] - c[:, 1:, :-1] - c[:, :-1, 1:] + c[:, :-1, :-1]
    return np.column_stack(
        (c.mean((1, 2)), c.std((1, 2)), fine.std((1, 2)), c.min((1, 2)), c.max((1, 2)), (np.abs(c) > 5).mean((1, 2)))
    )


@pytest.mark.parametrize("modality", ["dic", "brightfield"])
def test_samples_and_flow_are_one_distribution(modality: str) -> None:
    flow = TwinFlowSettings(mix=CELLS, blurred_share=0.0, events_per_s=60, velocity_cv=0.0, modality=modality)
    twin, geometry = FlowTwin(flow), CropGeometry()
    truth, background = twin.truth(260, 0), twin.background()
    filmed, seen = [], set()
    for frame in range(2, 260, 3):
        pixels, here = twin.render(frame), truth.in_frame(frame)
        for row in here:
            x, y = row["x_um"] / 0.25, row["y_um"] / 0.25
            gap = np.hypot(here["x_um"] - row["x_um"], here["y_um"] - row["y_um"])
            alone = np.sort(gap)[1:2].min(initial=99) > 18
            if alone and fits(x, y, pixels.shape, 0.25, geometry) and row["object"] not in seen:
                seen.add(row["object"])
                filmed.append(cut(pixels, background, x, y, 0.25, geometry))
    in_flow = statistics(np.stack(filmed))
    sampled = statistics(sample_crops(flow, 400, seed=3).crops)
    assert len(in_flow) > 60
    error = np.sqrt(in_flow.var(0) / len(in_flow) + sampled.var(0) / len(sampled))
    assert (np.abs(in_flow.mean(0) - sampled.mean(0)) < 4 * error).all()
    assert (np.abs(np.log(in_flow.std(0) / sampled.std(0))) < 0.35).all()


def learned(train: Crops, test: Crops) -> float:
    """Balanced accuracy of a plain classifier on the radial and size make-up of the crops' fine detail."""

    def features(got: Crops) -> np.ndarray:
        c = got.crops.astype(float) - 128
        fine = np.abs(c[:, 1:, 1:] - c[:, 1:, :-1] - c[:, :-1, 1:] + c[:, :-1, :-1])
        axis = np.arange(63) - 31
        x, y = np.meshgrid(axis, axis)
        radius = np.hypot(x, y)
        rings = np.stack([(fine * ((radius >= r) & (radius < r + 3))).sum((1, 2)) for r in range(0, 21, 3)], 1)
        inner = fine * (radius < 14)
        lean = np.hypot((inner * x).sum((1, 2)), (inner * y).sum((1, 2))) / inner.sum((1, 2))
        return np.column_stack((np.log(rings + 1), lean, lean**2))

    a, b = features(train), features(test)
    model = LogisticRegression(max_iter=2000).fit((a - a.mean(0)) / a.std(0), train.labels)
    predicted = model.predict((b - a.mean(0)) / a.std(0))
    return float(np.mean([(predicted[test.labels == k] == k).mean() for k in range(3)]))


def test_texture_alone_tells_the_classes_apart() -> None:
    plain, full = TwinFlowSettings(texture=0.0), TwinFlowSettings(texture=1.0)
    without = learned(sample_crops(plain, 900, 1), sample_crops(plain, 600, 2))
    with_texture = learned(sample_crops(full, 900, 1), sample_crops(full, 600, 2))
    assert without < 0.45
    assert with_texture > without + 0.1


def test_other_scales_and_depths_of_the_camera() -> None:
    coarse = TwinFlowSettings(um_per_px=0.5, bits=12, height_px=64, width_px=128)
    got = sample_crops(coarse, 6, 1, kinds=("bead",), position_sd_um=0.3, geometry=CropGeometry(48, 0.34))
    assert got.crops.shape == (6, 48, 48)
    assert got.crops.dtype == np.uint16
    assert abs(float(np.median(got.crops)) - 32768) < 40
    assert got.diameters_um == pytest.approx(8.0, rel=0.05)
