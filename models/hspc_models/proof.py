"""What a built engine is held to whenever it is opened and whenever somebody arms: crops, and what they must score.

Kept beside the engine, so that no second network need run: the scores of plain float32 torch, and the engine's own as
they were when it was built.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import safetensors
import safetensors.numpy

from hspc_live.core.errors import ModelError
from hspc_live.core.protocols import Engine
from hspc_live.core.values import Pixels
from hspc_models.parity import LIMITS, Parity, Scores, measure

FILE = "proof.safetensors"
KEPT = 64


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """uint8 `crops` (n, S, S), their `reference` scores (n, classes) by eager torch, and the engine's `own`."""

    crops: Pixels
    reference: Scores
    own: Scores

    def to_bytes(self) -> bytes:
        """As safetensors."""
        return safetensors.numpy.save({"crops": np.asarray(self.crops), "reference": self.reference, "own": self.own})

    def check(self, engine: Engine) -> tuple[Parity, str | None]:
        """What is found now, and why the engine must not be used, if it must not.

        So few crops cannot tell shares of one in a hundred: those were judged when it was built. Now it must score as
        it did then.
        """
        limits = LIMITS[engine.precision]
        found = measure(engine, self.crops, self.reference, replace(limits, top1=0.0, flips=1.0))
        drift = float(np.abs(engine.infer(self.crops) - self.own).max())
        failures = list(found.failures)
        if not drift <= limits.arrangement:
            failures.append(
                f"scores are off by {drift:.3g} from those at its building (at most {limits.arrangement:g})"
            )
        return found, "; ".join(failures) or None


def proof_of(engine: Engine, crops: Pixels, reference: Scores) -> Proof:
    """The proof of an engine that has just been built and has passed."""
    kept = crops[:KEPT]
    return Proof(kept, reference[:KEPT], engine.infer(kept))


def read_proof(data: bytes) -> Proof:
    """From the bytes of `to_bytes`. Raises ModelError."""
    try:
        found = safetensors.numpy.load(data)
        return Proof(cast("Pixels", found["crops"]), found["reference"], found["own"])
    except (safetensors.SafetensorError, KeyError) as error:
        raise ModelError(f"{FILE}: no proof of an engine ({error}): build the engine again") from error
