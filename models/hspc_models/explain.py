"""What a classifier looks at: Score-CAM maps, and how much of them lies inside the cell's outline.

Score-CAM (Wang et al. 2020) shows a network many copies of a crop, each masked by one of its own activation maps, and
weighs the maps by what each copy does to the score of a class. It needs no gradients and, for each crop, as many
forward passes as the layer has channels, so it is for tens of cells and never for the hot path.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from hspc_live.core.errors import ModelError
from hspc_live.core.values import Pixels
from hspc_models.network import CellNet, channels_last, pictures
from hspc_models.outlines import Masks
from hspc_models.resample import Estimate, bootstrap, estimate, members_of

Layer = Literal["layer1", "layer2", "layer3", "layer4"]
Maps = NDArray[np.float32]

_AT_ONCE: Final = 64  # masked copies in one forward pass
_STRIDE: Final[dict[Layer, int]] = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}
_TOGETHER: Final = 8  # crops whose activation maps are held at one time


def score_cams(
    network: CellNet,
    images: Pixels,
    targets: NDArray[np.integer],
    layer: Layer,
    done: Callable[[int], None] | None = None,
) -> Maps:
    """One map for each of `images` (n, S, S), for the class `targets` (n,) says: (n, S, S) float32, at most 1 and ≥ 0.

    A map is all 0 where no part of the layer speaks for the class. `done` is told how many crops are finished. The
    maps of a crop do not depend on what else is in the batch. Raises ModelError without torchcam.
    """
    try:
        from torchcam.methods import ScoreCAM
    except ImportError as error:
        raise ModelError("Score-CAM needs torchcam: pip install 'hspc-live[train]'") from error
    channels_last(network.eval())
    edge = images.shape[-1]
    maps = np.zeros(images.shape, np.float32)
    with ScoreCAM(network, layer, batch_size=_AT_ONCE) as extractor:
        for start in range(0, len(images), _TOGETHER):
            some = slice(start, start + _TOGETHER)
            inputs = pictures(images[some])
            with torch.inference_mode():
                network(inputs)
                (found,) = extractor([int(target) for target in targets[some]])
                whole = functional.interpolate(found[:, None], (edge, edge), mode="bilinear", align_corners=False)
            maps[some] = whole[:, 0].numpy()
            if done is not None:
                done(min(len(images), start + _TOGETHER))
    return maps


def inside_shares(maps: Maps, masks: Masks) -> NDArray[np.float64]:
    """How much of each map (n, S, S) lies inside its mask: (n,), 0 to 1; NaN for a map that is all 0."""
    total = maps.sum(axis=(1, 2), dtype=np.float64)
    inside = (maps * masks).sum(axis=(1, 2), dtype=np.float64)
    return cast("NDArray[np.float64]", np.divide(inside, total, out=np.full(len(maps), np.nan), where=total > 0))


@dataclass(frozen=True, slots=True)
class ClassAttention:
    """Where the maps of one class lie, over `n` cells that have both an outline and a map.

    `inside`: mean share inside the outline. `even`: what attention spread evenly over the crop would have, the
    outline's share of the area; `enrichment` is their ratio. `sharpest`: what attention on the cell alone would have,
    drawn as coarsely as the layer draws. Cells left out: `no_outline` and, of the others, `no_map` (all 0).
    """

    n: int
    inside: Estimate
    even: float
    sharpest: float
    enrichment: Estimate
    no_outline: int
    no_map: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        numbers = {"even_attention": self.even, "sharpest_possible": self.sharpest}
        return {
            "n": self.n,
            "inside": self.inside.to_json(),
            **{name: None if math.isnan(value) else value for name, value in numbers.items()},
            "enrichment": self.enrichment.to_json(),
            "no_outline": self.no_outline,
            "no_map": self.no_map,
        }


def class_attention(maps: Maps, masks: Masks, layer: Layer, units: NDArray[Any] | None) -> ClassAttention:
    """What the maps (n, S, S) of one class's cells say, with 95 % intervals over `units` (n,), as `members_of` has it.

    Of fewer than two units there is no interval.
    """
    inside = inside_shares(maps, masks)
    outlined = masks.any(axis=(1, 2))
    good = np.flatnonzero(outlined & np.isfinite(inside))
    no_map = int((outlined & ~np.isfinite(inside)).sum())
    no_outline = int((~outlined).sum())
    if not len(good):
        nothing = Estimate(math.nan, math.nan, math.nan)
        return ClassAttention(0, nothing, math.nan, math.nan, nothing, no_outline, no_map)
    share, area = inside[good], masks[good].mean(axis=(1, 2))
    members = members_of(None if units is None else np.asarray(units)[good], len(good))
    count = int(members.max()) + 1

    def ratio(rows: NDArray[np.intp]) -> float:
        return float(share[rows].mean() / area[rows].mean())

    every = np.arange(len(good))
    means = bootstrap(lambda rows: float(share[rows].mean()), members)
    return ClassAttention(
        len(good),
        estimate(float(share.mean()), means, count),
        float(area.mean()),
        float(sharpest_shares(masks[good], layer).mean()),
        estimate(ratio(every), bootstrap(ratio, members), count, most=math.inf),
        no_outline,
        no_map,
    )


def sharpest_shares(masks: Masks, layer: Layer) -> NDArray[np.float64]:
    """What a map on the cell alone would have inside its mask (n, S, S), at the places that the layer has: (n,)."""
    edge = masks.shape[-1]
    places = math.ceil(edge / _STRIDE[layer])
    drawn = functional.adaptive_avg_pool2d(torch.from_numpy(masks.astype(np.float32))[:, None], places)
    whole = functional.interpolate(drawn, (edge, edge), mode="bilinear", align_corners=False)
    return inside_shares(whole[:, 0].numpy(), masks)


def chosen_cells(
    labels: NDArray[np.int64], cells: NDArray[np.int64] | None, classes: int, per_class: int, seed: int
) -> NDArray[np.intp]:
    """Rows of up to `per_class` cells of each class, class by class; of several crops of one cell, one.

    Drawn by chance, the same with the same seed; a smaller `per_class` has the first of a larger one.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    if cells is not None:
        first = np.unique(cells[order], return_index=True)[1]
        order = order[np.sort(first)]
    return np.concatenate([order[labels[order] == column][:per_class] for column in range(classes)])
