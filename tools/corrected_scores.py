"""Do corrected scores mean what they say? The shipped model's calibration cells, whose shares are not the training's.

    python tools/corrected_scores.py [--model twin-lsm] [--views 2]

The calibration error of each class's score (bins of equal mass), as the model gives it and corrected for the shares of
the calibration cells themselves (strangers left out). Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np

from hspc_models.calibration import calibration_errors_by_class, calibration_estimate
from hspc_models.calibration_cells import cell_scores, load_cells
from hspc_models.card import find_model, load_card
from hspc_models.prevalence import reweighted_scores


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="twin-lsm")
    parser.add_argument("--views", type=int, default=2)
    given = parser.parse_args()
    folder = find_model(given.model)
    card = load_card(folder)
    assert card.score_shares is not None, "the card says under which shares the scores hold"
    cells = load_cells(folder, card)
    known = cells.kind < len(card.classes)
    scores, labels = cell_scores(cells, card.temperature, given.views)[0][known], cells.kind[known]
    shares = np.bincount(labels, minlength=len(card.classes)) / len(labels)
    found = {
        name: {
            "calibration_error": calibration_estimate(judged, labels).to_json(),
            "by_class": dict(zip(card.classes, calibration_errors_by_class(judged, labels), strict=True)),
        }
        for name, judged in (
            ("model", scores),
            ("corrected", reweighted_scores(scores, np.array(card.score_shares), shares)),
        )
    }
    print(json.dumps({"shares": dict(zip(card.classes, shares.tolist(), strict=True)), **found}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
