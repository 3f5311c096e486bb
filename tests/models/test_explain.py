"""Score-CAM: one map a crop whatever else is in the batch, inside the cell where the network looks there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hspc_models.explain import chosen_cells, class_attention, inside_shares, score_cams, sharpest_shares
from hspc_models.network import CellNet

EDGE = 16  # a fourth of a real crop: maps cost as many passes as the layer has channels


@pytest.fixture(scope="module")
def network() -> CellNet:
    torch.manual_seed(3)
    return CellNet(3, head=(16,)).eval()


def spots(n, edge=EDGE, seed=0):
    """A bright spot on noise, at the middle."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:edge, :edge] - (edge - 1) / 2
    spot = 60 * np.exp(-(x**2 + y**2) / 30)
    return (100 + spot + rng.normal(0, 3, (n, edge, edge))).astype(np.uint8)


def test_a_crop_has_the_same_map_alone_and_among_others(network):
    """The last crop is flat: its map, too, consists of numbers, alone as in a batch."""
    images, targets, told = spots(2), np.array([0, 2, 1]), []
    images = np.concatenate((images, np.full((1, EDGE, EDGE), 90, np.uint8)))
    together = score_cams(network, images, targets, "layer1", told.append)
    assert together.shape == images.shape and np.isfinite(together).all() and told[-1] == 3
    assert together.min() >= 0 and together.max() <= 1 and together[:2].max() > 0.5
    for row in (0, 2):
        alone = score_cams(network, images[row : row + 1], targets[row : row + 1], "layer1")
        np.testing.assert_allclose(alone[0], together[row], atol=1e-3)


class Centre(torch.nn.Module):
    """A network whose only score is how bright the upper left quarter is."""

    def __init__(self):
        super().__init__()
        self.layer1 = torch.nn.AvgPool2d(4)

    def forward(self, x):
        seen = self.layer1(torch.relu(x))
        return torch.stack((seen[:, 0, :4, :4].mean(dim=(1, 2)), seen[:, 0, 4:, 4:].mean(dim=(1, 2))), dim=1)


def test_a_layer_that_shows_a_place_has_its_map_there():
    """Two spots and one channel: the map lies on the spots, and nowhere else."""
    image = np.full((1, 32, 32), 100, np.uint8)
    image[0, 4:12, 4:12] = 180
    maps = score_cams(Centre(), image, np.array([0]), "layer1")
    here = np.zeros((1, 32, 32), bool)
    here[0, 2:14, 2:14] = True
    assert inside_shares(maps, here)[0] > 0.9


def test_shares_inside_are_of_the_map_and_nothing_without_one():
    maps = np.zeros((3, 8, 8), np.float32)
    maps[0, :4], maps[1] = 1, 0.5
    masks = np.zeros((3, 8, 8), bool)
    masks[:, :4] = True
    np.testing.assert_allclose(inside_shares(maps, masks), [1, 0.5, np.nan])


def disc(edge=64, radius=16):
    y, x = np.mgrid[:edge, :edge] - (edge - 1) / 2
    return np.hypot(x, y) <= radius


def test_a_coarse_layer_cannot_draw_a_cell_sharply():
    masks = disc()[None]
    shares = [float(sharpest_shares(masks, layer)[0]) for layer in ("layer1", "layer2", "layer3", "layer4")]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0.85 and shares[3] < 0.6


def test_attention_beside_what_chance_would_give():
    masks = np.repeat(disc()[None], 6, 0)
    even = np.ones((6, 64, 64), np.float32)
    found = class_attention(even, masks, "layer2", None)
    assert (
        found.n == 6 and found.inside.value == pytest.approx(found.even) and found.enrichment.value == pytest.approx(1)
    )
    on_cell = class_attention(masks.astype(np.float32), masks, "layer2", None)
    assert on_cell.inside.value == 1 and on_cell.enrichment.value == pytest.approx(1 / found.even)
    mixed = class_attention(np.stack([even[0]] * 3 + [masks[0].astype(np.float32)] * 3), masks, "layer2", None)
    assert mixed.inside.low < mixed.inside.value < mixed.inside.high
    assert mixed.inside.low >= 0 and mixed.inside.high <= 1


def test_cells_that_cannot_be_judged_are_counted():
    masks = np.repeat(disc()[None], 4, 0)
    masks[0] = False
    maps = np.ones((4, 64, 64), np.float32)
    maps[1] = 0
    found = class_attention(maps, masks, "layer2", None)
    assert (found.n, found.no_outline, found.no_map) == (2, 1, 1)
    nothing = class_attention(maps[:1], masks[:1], "layer2", None)
    assert nothing.n == 0 and nothing.to_json()["inside"]["value"] is None
    assert class_attention(maps[2:3], masks[2:3], "layer2", None).inside.to_json()["low"] is None


def test_cells_are_drawn_alike_with_one_seed_and_one_crop_a_cell():
    labels = np.arange(60) % 3
    labels[:5] = -1
    cells = np.arange(60) // 2
    first = chosen_cells(labels, cells, 3, 4, 7)
    assert np.array_equal(first, chosen_cells(labels, cells, 3, 4, 7))
    assert not np.array_equal(first, chosen_cells(labels, cells, 3, 4, 8))
    assert labels[first].tolist() == [0] * 4 + [1] * 4 + [2] * 4 and len(set(cells[first])) == 12
    many = chosen_cells(labels, cells, 3, 100, 7)
    assert [row for row in many if labels[row] == 0][:4] == first[:4].tolist()
