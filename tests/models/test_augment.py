"""Augmentation moves cells a little, and never turns or mirrors them."""

from __future__ import annotations

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
