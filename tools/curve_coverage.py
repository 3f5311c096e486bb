"""How often the intervals of a learning curve at twice the data hold the truth, on simulated trainings.

python tools/curve_coverage.py [REPEATS]: trainings whose accuracy follows a known law, with noise of their own, judged
on the same cells, of which some are hard for every training.
"""

from __future__ import annotations

import sys

import numpy as np

from hspc_models.curve_fit import Law, extrapolate

CASES = (
    # words, law, trainings at each size, sizes, judged cells, noise of a training
    ("the default: 4 sizes, 3 repeats", Law(0.82, -0.05, 0.5, 1500), 3, 4, 378, 0.01),
    ("the paper's: 10 sizes, 5 repeats", Law(0.82, -0.05, 0.5, 1500), 5, 10, 378, 0.01),
    ("far from its end", Law(0.95, -0.2, 0.2, 1500), 3, 4, 378, 0.01),
    ("2,000 judged cells", Law(0.82, -0.05, 1.0, 1500), 3, 4, 2000, 0.005),
    ("2 repeats", Law(0.80, -0.05, 0.5, 1500), 2, 4, 378, 0.01),
    ("flat", Law(0.60, 0.0, 0.5, 1500), 3, 4, 378, 0.01),
)
SHARED = 0.7
"""Share of cells that are as hard for one training as for another."""


def main() -> None:
    """Print a row a case."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 150
    rng = np.random.default_rng(0)
    print("case | at twice the data held | gain held | said to tell | width at twice")
    for words, law, trainings, count, cells, sd in CASES:
        sizes = np.geomspace(0.1, 1, count) * law.scale
        labels = np.arange(cells) % 3
        twice, gains, tells, wide = 0, 0, 0, 0.0
        for _ in range(repeats):
            hard = rng.random(cells)
            hits = np.zeros((trainings, count, cells), bool)
            for one in hits:
                for place, size in enumerate(sizes.tolist()):
                    mine = np.where(rng.random(cells) < SHARED, hard, rng.random(cells))
                    one[place] = mine < law.at(size) + rng.normal(0, sd)
            found = extrapolate(sizes, hits, labels, None)
            if found is None:
                raise ValueError(f"{words}: too few sizes")
            truth = law.at(2 * law.scale)
            twice += found.at_twice.low <= truth <= found.at_twice.high
            gains += found.gain.low <= truth - law.at(law.scale) <= found.gain.high
            tells += found.tells
            wide += found.at_twice.high - found.at_twice.low
        shares = " | ".join(f"{100 * n / repeats:.0f} %" for n in (twice, gains, tells))
        print(f"{words} | {shares} | {wide / repeats:.3f}", flush=True)


if __name__ == "__main__":
    main()
