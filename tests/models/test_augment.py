"""Augmentation moves cells a little, and turns or mirrors them only where the microscope allows it."""

from __future__ import annotations

import pytest
import torch

from hspc_models.augment import AugmentSettings, augment


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def spots(n):
    pictures = torch.zeros(n, 1, 32, 32)
    pictures[:, :, 10, 20] = 1.0
    return pictures


def test_shifts_stay_within_their_bound():
    moved = augment(spots(200), AugmentSettings(shift_px=2, slope=0, noise=0), generator())
    rows, columns = (moved[:, 0].flatten(1).argmax(1) // 32 - 10, moved[:, 0].flatten(1).argmax(1) % 32 - 20)
    for offsets in (rows, columns):
        assert set(offsets.tolist()) == {-2, -1, 0, 1, 2}
    assert torch.all(moved.sum(dim=(1, 2, 3)) == 1.0)


def test_everything_off_changes_nothing():
    off = AugmentSettings(shift_px=0, slope=0, noise=0)
    assert torch.equal(augment(spots(3), off, generator()), spots(3))


def test_a_seed_repeats_it():
    first, again, other = (augment(spots(4), AugmentSettings(), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_noise_and_slope_are_as_strong_as_asked():
    flat = torch.zeros(300, 1, 32, 32)
    noisy = augment(flat, AugmentSettings(shift_px=0, slope=0, noise=0.2), generator())
    assert 0.05 < noisy.std(dim=(1, 2, 3)).median() < 0.15 and noisy.std(dim=(1, 2, 3)).max() < 0.22
    sloped = augment(flat, AugmentSettings(shift_px=0, slope=0.3, noise=0), generator())
    assert 0.3 < sloped.abs().max() <= 0.6


def test_focus_softens_some_pictures_and_sharpens_others():
    sharp = torch.randn(200, 1, 40, 40, generator=generator(3))
    seen = augment(sharp, AugmentSettings(shift_px=0, slope=0, noise=0, focus=0.5), generator())

    def fine(pictures):
        return (pictures[..., 1:] - pictures[..., :-1]).square().mean(dim=(1, 2, 3))

    change = fine(seen) / fine(sharp)
    assert (change < 0.8).sum() > 40 and (change > 1.2).sum() > 40
    assert change.min() > 0.2 and change.max() < 2.5
    flat = torch.full((3, 1, 40, 40), 2.0)
    torch.testing.assert_close(augment(flat, AugmentSettings(shift_px=0, slope=0, noise=0, focus=1), generator()), flat)


def letters(n):
    """An F, which no turn and no mirror brings to itself."""
    pictures = torch.zeros(n, 1, 33, 33)
    pictures[:, :, 8:25, 12] = 1.0
    pictures[:, :, 8, 12:22] = 1.0
    pictures[:, :, 15, 12:18] = 1.0
    return pictures


@pytest.mark.parametrize(
    ("turn", "flip", "positions"), [("none", False, 1), ("none", True, 2), ("quarter", False, 4), ("quarter", True, 8)]
)
def test_only_the_positions_asked_for_occur(turn, flip, positions):
    exact = AugmentSettings(turn=turn, flip=flip, shift_px=0, slope=0, noise=0)
    found = {picture.numpy().tobytes() for picture in augment(letters(300), exact, generator())}
    assert len(found) == positions
    assert letters(1).numpy().tobytes() in found


def test_any_angle_keeps_a_cell_round_and_in_its_place():
    axis = torch.arange(33) - 16.0
    disc = torch.exp(-((axis[:, None] ** 2 + axis[None, :] ** 2) / 50)).expand(200, 1, 33, 33)
    turned = augment(disc, AugmentSettings(turn="any", flip=True, shift_px=0, slope=0, noise=0), generator())
    inside = axis[:, None] ** 2 + axis[None, :] ** 2 < 15**2  # beyond it, the edge is mirrored
    torch.testing.assert_close(turned[..., inside], disc[..., inside], atol=0.02, rtol=0)
    angles = augment(letters(200), AugmentSettings(turn="any", shift_px=0, slope=0, noise=0), generator())
    assert len({picture.numpy().tobytes() for picture in angles}) > 100


def test_scale_light_and_contrast_are_as_strong_as_asked():
    axis = torch.arange(33) - 16.0
    disc = (axis[:, None] ** 2 + axis[None, :] ** 2 < 64).float().expand(300, 1, 33, 33)
    sized = augment(disc, AugmentSettings(scale=0.2, resampled=1, shift_px=0, slope=0, noise=0), generator())
    areas = sized.sum(dim=(1, 2, 3)) / disc[0].sum()
    assert 0.62 < areas.min() < 0.75 and 1.35 < areas.max() < 1.56
    lit = augment(disc, AugmentSettings(brightness=0.3, contrast=0.2, shift_px=0, slope=0, noise=0), generator())
    dark, bright = lit[:, 0, 0, 0], lit[:, 0, 16, 16]
    assert 0.25 < dark.abs().max() <= 0.3
    assert 0.15 < (bright - dark - 1).abs().max() <= 0.2
