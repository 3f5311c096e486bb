"""How far the luck of one cut moves a classifier's figure, and what a figure of one cut is worth.

Takes a finished cross-validation (`hspc-live train CONFIG --folds K --out DIR`), in which every crop was judged by
models that had not seen it, and draws held-out cuts from these verdicts: a share of each class, without replacement.
Says the spread over cuts, and, where the peer's figure in somebody's cut is known, what the network reaches in cuts in
which the peer comes to that figure.

    python tools/cut_luck.py configs/train/jurkat.yaml DIR --folds 5 --peer-reached 0.74
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hspc_models.crossval import PREDICTIONS
from hspc_models.metrics import balanced_accuracy, confusion
from hspc_models.peers import HOG, NETWORK, RADIAL, RESNET
from hspc_models.sources import open_folds
from hspc_models.train_settings import load_train_settings

NEAR = 0.01

Verdicts = NDArray[np.int64]


def verdicts(config: Path, overrides: list[str], folder: Path, k: int) -> tuple[Verdicts, dict[str, Verdicts]]:
    """Labels (n,) and, by classifier, classes (n,) that models gave which had not seen the crop."""
    sources = open_folds(load_train_settings(config, overrides), k)
    n = sum(len(rows) for _, rows in sources)
    labels = np.empty(n, np.int64)
    predicted = {name: np.empty(n, np.int64) for name in (NETWORK, RESNET, RADIAL, HOG)}
    for number, (source, rows) in enumerate(sources):
        labels[rows] = source.test().labels
        with np.load(folder / f"fold-{number + 1}" / PREDICTIONS, allow_pickle=False) as file:
            for name, mine in predicted.items():
                mine[rows] = file[name]
    return labels, predicted


def main() -> None:
    """Draw the cuts, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("folder", type=Path, help="of the cross-validation")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--share", type=float, default=0.2, help="of the crops that a cut holds out")
    parser.add_argument("--cuts", type=int, default=20_000)
    parser.add_argument("--peer-reached", type=float, help="balanced accuracy of HOG in the cut in question")
    given = parser.parse_args()
    labels, predicted = verdicts(given.config, given.overrides, given.folder, given.folds)
    classes = int(labels.max()) + 1
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(labels == name) for name in range(classes)]
    reached = {name: np.empty(given.cuts) for name in predicted}
    for cut in range(given.cuts):
        rows = np.concatenate([rng.choice(part, round(given.share * len(part)), replace=False) for part in members])
        for name, mine in predicted.items():
            reached[name][cut] = balanced_accuracy(confusion(labels[rows], mine[rows], classes))
    found: dict[str, object] = {
        name: {
            "all": round(balanced_accuracy(confusion(labels, predicted[name], classes)), 4),
            "cuts_95": [round(float(value), 4) for value in np.quantile(values, (0.025, 0.975))],
        }
        for name, values in reached.items()
    }
    if given.peer_reached is not None:
        alike = np.abs(reached[HOG] - given.peer_reached) <= NEAR
        found["cuts_with_such_a_peer"] = {
            "share": round(float(alike.mean()), 4),
            **{name: round(float(values[alike].mean()), 4) for name, values in reached.items() if alike.any()},
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
