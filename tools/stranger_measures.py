"""Which measure of strangeness finds strangers? The shipped model on single looks of the twin, kinds one at a time.

    python tools/stranger_measures.py [--known 600] [--strangers 150] [--wrongly 0.05] [--seed 111]

Three measures (`hspc_models.strangers`): 1 - best score, free energy, and the Mahalanobis distance of the features to
the nearest class mean (means and covariance from 900 further cells). The limit of each is fitted on the known cells
and judged on each kind of stranger. Of the kinds, training has seen `dead` and `doublet`, as cells that are to score
every class alike; `bead` and `cluster` it never saw. Prints a line a kind and measure and, last, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.twin.samples import sample_crops
from hspc_models.card import find_model, load_network
from hspc_models.metrics import softmax
from hspc_models.network import CellNet, channels_last, pictures
from hspc_models.strangers import Measure, energy, fit_features, mahalanobis, score_strangeness, stranger_limit

STRANGERS = ("dead", "doublet", "cluster", "bead")
LEARNT = 900


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known", type=int, default=600)
    parser.add_argument("--strangers", type=int, default=150)
    parser.add_argument("--wrongly", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=111)
    given = parser.parse_args()
    torch.set_num_threads(1)
    card, network = load_network(find_model("twin-lsm"))
    channels_last(network)
    learnt, _, labels = _seen(network, card.classes, LEARNT, given.seed)
    space = fit_features(learnt, labels, len(card.classes))

    def measures(kinds: tuple[str, ...], n: int, seed: int) -> dict[Measure, NDArray[np.float64]]:
        features, logits, _ = _seen(network, kinds, n, seed)
        return {
            "max_score": score_strangeness(softmax(logits, card.temperature)),
            "energy": energy(logits),
            "mahalanobis": mahalanobis(features, space),
        }

    known = measures(card.classes, given.known, given.seed + 1)
    found: dict[str, Any] = {}
    for kind in STRANGERS:
        strange = measures((kind,), given.strangers, given.seed + 2)
        for measure in get_args(Measure):
            limit = stranger_limit(measure, known[measure], given.wrongly, strange[measure])
            assert limit.found is not None and limit.area is not None, "there are strangers"
            found.setdefault(kind, {})[measure] = limit.to_json()
            print(f"{kind:8} {measure:12} found {limit.found.rate:.2f}  area {limit.area.value:.3f}", flush=True)
    print(json.dumps(found))
    return 0


def _seen(
    network: CellNet, kinds: tuple[str, ...], n: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Features (n, 2048), logits (n, classes) and labels (n,) of new cells."""
    crops = sample_crops(TwinFlowSettings(seed=seed), n, seed, kinds=kinds)
    with torch.inference_mode():
        parts = [network.features(pictures(crops.crops[start : start + 64])) for start in range(0, n, 64)]
        features = torch.cat(parts)
        logits = network.head(features)
    return features.numpy(), cast("NDArray[np.float32]", logits.numpy()), crops.labels


if __name__ == "__main__":
    sys.exit(main())
