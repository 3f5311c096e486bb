"""TensorRT through torch-tensorrt's dynamo path, on an NVIDIA GPU. Not yet run on one: see docs/engines.md.

Precision comes from the module's own dtypes (explicit typing, the default since torch-tensorrt 2.13; there is no
`enabled_precisions` any more). The whole graph must compile, for one profile over the buckets.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hspc_live.core.errors import ModelError
from hspc_live.core.values import Pixels
from hspc_models.card import Card
from hspc_models.engines.bucketed import BucketedEngine, closed
from hspc_models.engines.exported import exported, scoring_net
from hspc_models.network import CellNet

PLAN = "engine.plan"
INSTALL = "pip install 'hspc-live[tensorrt]', with NVIDIA's package index for TensorRT itself"

CROPS, SCORES = "crops", "output0"
"""Names of the graph's input (that of `ScoringNet.forward`) and output (as torch-tensorrt numbers them)."""
MODULE_KEYWORDS: dict[str, Any] = {"input_binding_names": [CROPS], "output_binding_names": [SCORES], "name": "hspc"}
"""What the module that runs a plan is told beside it."""


def import_tensorrt() -> Any:
    """torch_tensorrt. Raises ModelError where it or NVIDIA's libraries are absent: it then raises a bare Exception."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it misses
            return importlib.import_module("torch_tensorrt")
    except Exception as error:  # nothing narrower is raised by the package
        raise ModelError(f"TensorRT is not installed: {INSTALL} ({error})") from error


def profile(crop_px: int, buckets: tuple[int, ...]) -> dict[str, tuple[int, int, int]]:
    """Shapes of the one profile: the smallest bucket, the largest, and best for the one nearest to 32."""
    best = min(buckets, key=lambda bucket: abs(bucket - 32))
    sizes = {"min_shape": min(buckets), "opt_shape": best, "max_shape": max(2, *buckets)}
    return {name: (size, crop_px, crop_px) for name, size in sizes.items()}


def compile_options(device: torch.device) -> dict[str, Any]:
    """What torch-tensorrt is asked for beside program and profile."""
    return {
        "device": device,
        "require_full_compilation": True,  # a part left to torch would cost more than all the rest
        "disable_tf32": True,
        "min_block_size": 1,
        "optimization_level": 5,
        "immutable_weights": True,
        "cache_built_engines": False,  # engines are kept where their hashes are (`engine_cache`)
        "reuse_cached_engines": False,
    }


def build_tensorrt(
    card: Card, network: CellNet, precision: Literal["fp32", "fp16"], buckets: tuple[int, ...]
) -> dict[str, bytes]:
    """The serialised engine by its file's name. Raises ModelError."""
    torch_tensorrt = import_tensorrt()
    device = _device()
    module = scoring_net(card, network, precision).to(device)
    program = exported(module, card.crop_px, max(buckets), device)
    shapes = torch_tensorrt.Input(**profile(card.crop_px, buckets), dtype=torch.float32, name=CROPS)
    convert = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine
    try:
        plan = convert(program, arg_inputs=[shapes], **compile_options(device))
    except Exception as error:  # converter, builder and parser raise what they like
        raise ModelError(f"TensorRT cannot build the network: {error}") from error
    return {PLAN: bytes(plan)}


class TensorRtEngine(BucketedEngine):
    """A built TensorRT engine behind `core.protocols.Engine`. Raises ModelError: not installed, no GPU, no plan."""

    def __init__(
        self,
        card: Card,
        files: dict[str, bytes],
        precision: Literal["fp32", "fp16"],
        build: str,
        buckets: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64),
    ) -> None:
        super().__init__(card, buckets)
        import_tensorrt()
        runtime = importlib.import_module("torch_tensorrt.dynamo.runtime")
        self._device = _device()
        self._precision = precision
        self._build = build
        try:
            self._module: Any | None = runtime.TorchTensorRTModule(serialized_engine=files[PLAN], **MODULE_KEYWORDS)
        except Exception as error:  # what deserialising raises is not said anywhere
            raise ModelError(f"TensorRT cannot load the built engine: {error}") from error

    @property
    def name(self) -> str:
        """Engine and device; the build's hash tells two of them apart."""
        return f"tensorrt/cuda@{self._build[:8]}"

    @property
    def precision(self) -> str:
        """Arithmetic of the ResNet-50."""
        return self._precision

    def close(self) -> None:
        """Let go of the engine; afterwards `infer` raises ModelError."""
        self._module = None

    def _run(self, crops: Pixels) -> NDArray[np.float32]:
        if self._module is None:
            raise closed()
        with torch.inference_mode():
            scores = self._module(torch.from_numpy(crops.astype(np.float32)).to(self._device))
        result: NDArray[np.float32] = scores.float().cpu().numpy()
        return result


def _device() -> torch.device:
    if not torch.cuda.is_available():
        raise ModelError("engine.kind is tensorrt, but torch finds no CUDA device here; use openvino or torch")
    return torch.device("cuda", torch.cuda.current_device())
