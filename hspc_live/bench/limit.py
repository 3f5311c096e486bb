"""How fast the network could be at best: its arithmetic, at the rate of a large matrix product on the same machine.

A convolution cannot beat the matrix product that it is made of. What memory and small layers cost lies between this
limit and an engine.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import torch

FLOP_PER_CELL: Final = 0.67e9
"""ResNet-50 on one crop of 64 × 64 pixels, an addition and a multiplication counted as two."""

_EDGE: Final = {"cpu": 1536, "cuda": 8192}
_PRECISIONS: Final = {
    "cpu": (("fp32", torch.float32), ("bf16", torch.bfloat16)),
    "cuda": (("fp16", torch.float16), ("fp32", torch.float32)),
}
_LEAST_PRODUCTS: Final = 2


@dataclass(frozen=True, slots=True)
class Limit:
    """A device's matrix rate in one precision. `reference`: the one that `limit_cells_per_s` means."""

    device: str
    precision: str
    dtype: torch.dtype
    edge: int
    reference: bool

    def flop_per_s(self, seconds: float) -> float:
        """The rate of square products of `edge`, for at least `seconds`."""
        generator = torch.Generator().manual_seed(0)
        left, right = (
            torch.randn(self.edge, self.edge, generator=generator).to(self.device, self.dtype) for _ in range(2)
        )
        out = torch.empty_like(left)
        torch.mm(left, right, out=out)
        self._wait()
        began, products = time.perf_counter(), 0
        while products < _LEAST_PRODUCTS or time.perf_counter() - began < seconds:
            torch.mm(left, right, out=out)
            self._wait()
            products += 1
        return products * 2 * self.edge**3 / (time.perf_counter() - began)

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def limits(device: str) -> list[Limit]:
    """The limits of `device`, "cpu" or "cuda"; the first is the reference: fp32 on a CPU, fp16 on a GPU."""
    return [
        Limit(device, precision, dtype, _EDGE[device], number == 0)
        for number, (precision, dtype) in enumerate(_PRECISIONS[device])
    ]
