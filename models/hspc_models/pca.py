"""What the network makes of pictures: a plane through raw pixels beside one through its features (PCA).

How clustered the classes are is said by numbers, too: how often the nearest cells tell a cell's class (leave one out)
and the silhouette (Rousseeuw, *J. Comput. Appl. Math.* 20:53, 1987). In the plane, which is what an eye sees, and in
the whole space, which is what the network has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import ModelError
from hspc_models.metrics import judge
from hspc_models.resample import NOTHING, Estimate

NEIGHBOURS: Final = 10
_SEED: Final = 20_240_610


@dataclass(frozen=True, slots=True)
class Clustered:
    """`neighbours`: balanced accuracy of the vote of a cell's nearest others, chance is 1 / classes.

    `silhouette` runs from -1 (among cells of others) over 0 (mixed) to 1 (in a cluster of its own); NaN of one class.
    """

    neighbours: Estimate
    silhouette: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        silhouette = None if math.isnan(self.silhouette) else self.silhouette
        return {"neighbours_balanced_accuracy": self.neighbours.to_json(), "silhouette": silhouette}


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """Cells (n, 2) in the plane of the two main components, which explain `explained` of the variance."""

    places: NDArray[np.float64]
    explained: tuple[float, float]
    in_plane: Clustered
    in_full: Clustered

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the places."""
        return {
            "explained_variance": list(self.explained),
            "plane": self.in_plane.to_json(),
            "full_space": self.in_full.to_json(),
        }


def plane(
    values: NDArray[np.floating], labels: NDArray[np.int64], names: Sequence[str], units: NDArray[Any] | None
) -> Plane:
    """The plane of `values` (n, d), at least 3 cells, and how clustered `labels` (n,) are; `units` as for `judge`.

    Raises ModelError without scikit-learn.
    """
    try:
        from sklearn.decomposition import PCA
    except ImportError as error:
        raise ModelError("PCA needs scikit-learn: pip install 'hspc-live[train]'") from error
    found = PCA(2, svd_solver="randomized", random_state=_SEED).fit(values)
    places = np.asarray(found.transform(values), np.float64)
    first, second = np.nan_to_num(found.explained_variance_ratio_).tolist()
    return Plane(
        places,
        (first, second),
        clustered(places, labels, names, units),
        clustered(values, labels, names, units),
    )


def clustered(
    values: NDArray[np.floating], labels: NDArray[np.int64], names: Sequence[str], units: NDArray[Any] | None
) -> Clustered:
    """How clustered `labels` (n,) are among `values` (n, d), by Euclidean distance."""
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors

    counts = np.bincount(labels, minlength=len(names))
    if (counts > 0).sum() < 2 or len(labels) <= NEIGHBOURS:
        return Clustered(NOTHING, math.nan)
    others = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(values).kneighbors(return_distance=False)
    votes = np.zeros((len(labels), len(names)))
    np.add.at(votes, (np.arange(len(labels))[:, None], labels[others]), 1.0)
    # a vote counts by how rare its class is, or large classes would win wherever all are mixed; the counts are those of
    # all cells, as without the cell itself its own class would win every tie
    predicted = (votes / np.maximum(counts, 1)).argmax(axis=1)
    found = judge(labels, predicted, names, units).balanced_accuracy
    lone = (counts > 0).sum() >= len(labels)
    return Clustered(found, math.nan if lone else float(silhouette_score(values, labels)))
