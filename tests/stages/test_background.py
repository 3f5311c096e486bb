"""Background snapshots: early, numbered, free of cells, and the same for the same frames."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.settings.segment import BackgroundSettings
from hspc_live.stages.background import Background, median, noise_sd, spatial_estimate

MS = 1_000_000


def field(height=64, width=200, dtype=np.uint8):
    """An empty channel: walls along x, light falling off along x, one speck of dirt."""
    ys, xs = np.indices((height, width))
    light = 120 + 20 * np.cos(xs / width) + np.where((ys < 6) | (ys > height - 7), -50, 0)
    light[30:33, 150:153] -= 25
    return np.rint(light * (1 if dtype == np.uint8 else 16)).astype(dtype)


def film(count, noise=1.5, seed=0, dtype=np.uint8):
    """Frames 10 ms apart in which one dark cell moves 20 px a frame."""
    rng = np.random.default_rng(seed)
    ys, xs = np.indices(field().shape)
    scale = 1 if dtype == np.uint8 else 16
    for i in range(count):
        light = field(dtype=dtype) - 60.0 * scale * ((xs - (20 * i) % 200) ** 2 + (ys - 20) ** 2 < 64)
        yield np.rint(light + rng.normal(0, noise * scale, light.shape)).astype(dtype), i * 10 * MS


def run(frames, **kwargs):
    frames = list(frames)
    background = Background(BackgroundSettings(**kwargs), frames[0][0].shape, frames[0][0].dtype)
    return [(i, s) for i, (p, t) in enumerate(frames) if (s := background.update(p, t)) is not None]


def test_the_first_frame_already_has_a_usable_background():
    (pixels, t), *_ = film(1)
    snapshot = Background(BackgroundSettings(), pixels.shape, pixels.dtype).update(pixels, t)
    assert snapshot.number == 1
    off = np.abs(snapshot.pixels.astype(int) - field())
    off[29:34, 149:154] = 0  # dirt cannot be told from a cell by one frame
    assert off.max() <= 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_snapshots_are_numbered_lose_the_cell_and_learn_the_dirt(dtype):
    snapshots = run(film(250, dtype=dtype))
    assert [s.number for _, s in snapshots] == list(range(1, len(snapshots) + 1))
    assert len(snapshots) >= 5 and snapshots[1][0] <= 4  # dirt is gone within a few frames
    scale = 1 if dtype == np.uint8 else 16
    for _, snapshot in snapshots[2:]:
        assert snapshot.pixels.dtype == dtype
        assert np.abs(snapshot.pixels.astype(int) - field(dtype=dtype)).max() <= 6 * scale
        assert 1.4 * scale < snapshot.noise_sd < 1.9 * scale


def test_frames_and_times_alone_decide():
    one, two = run(film(120)), run(film(120))
    assert [i for i, _ in one] == [i for i, _ in two]
    for (_, a), (_, b) in zip(one, two, strict=True):
        assert np.array_equal(a.pixels, b.pixels) and a.noise_sd == b.noise_sd


def test_a_background_follows_a_change_of_light():
    dim = [(np.rint(p * 0.8).astype(np.uint8), t + 2500 * MS) for p, t in film(250)]
    last = run([*film(250), *dim])[-1][1]
    assert np.abs(last.pixels - 0.8 * field()).max() <= 4


def test_time_running_backwards_stops_nothing():
    frames = [(p, (5000 * MS - t if i > 40 else t)) for i, (p, t) in enumerate(film(200))]
    assert len(run(frames)) >= 4


def test_a_recorded_background_is_the_snapshot_and_is_numbered_by_content():
    frames = [p for p, _ in film(6)]
    first, second = field(), field() - 3
    background = Background(BackgroundSettings(), first.shape, first.dtype)
    got = [
        background.update(p, i, recorded)
        for i, (p, recorded) in enumerate(zip(frames, [first, first.copy(), second, second, first, first], strict=True))
    ]
    assert [s and s.number for s in got] == [1, None, 2, None, 3, None]
    np.testing.assert_array_equal(got[2].pixels, second)
    assert 1.4 < got[0].noise_sd < 1.9


def test_a_recorded_background_is_left_alone_where_settings_say_so():
    frames = [p for p, _ in film(2)]
    background = Background(BackgroundSettings(use_recorded=False), frames[0].shape, frames[0].dtype)
    snapshot = background.update(frames[0], 0, np.zeros_like(frames[0]))
    assert snapshot.pixels.any()


def test_another_shape_or_dtype_is_refused():
    background = Background(BackgroundSettings(), (64, 200), np.dtype(np.uint8))
    with pytest.raises(ValueError, match="frame is"):
        background.update(np.zeros((64, 201), np.uint8), 0)
    with pytest.raises(ValueError, match="frame is"):
        background.update(np.zeros((64, 200), np.uint16), 0)
    with pytest.raises(ValueError, match="recorded background"):
        background.update(np.zeros((64, 200), np.uint8), 0, np.zeros((64, 100), np.uint8))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 70), seed=st.integers(0, 1000), wide=st.booleans())
def test_the_selection_network_is_the_lower_median(n, seed, wide):
    dtype = np.uint16 if wide else np.uint8
    stack = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (n, 3, 5), dtype=dtype, endpoint=True)
    np.testing.assert_array_equal(median(stack), np.sort(stack, axis=0)[(n - 1) // 2])


def test_noise_is_that_of_the_pixels_whatever_else_is_in_the_frame():
    rng = np.random.default_rng(5)
    still = np.full((200, 300), 100, np.uint8)
    noisy = np.rint(still + rng.normal(0, 4, still.shape)).astype(np.uint8)
    assert abs(noise_sd(noisy, still) - 4) < 0.2
    noisy[50:90, 50:120] = 20
    assert abs(noise_sd(noisy, still) - 4) < 0.4
    assert noise_sd(still, still) > 0


def test_one_bright_row_or_column_is_the_field_s_not_a_cell_s():
    still = np.full((60, 80), 90, np.uint8)
    still[20] = 140
    np.testing.assert_array_equal(spatial_estimate(still), still)
