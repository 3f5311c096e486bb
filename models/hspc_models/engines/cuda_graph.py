"""Torch on an NVIDIA GPU without its overheads. Not yet run on one: see docs/engines.md.

Half precision, channels last, batch norms folded into the convolutions; each bucket's work is captured once as a CUDA
graph and replayed, so that no kernel is launched from Python. Crops and scores travel through pinned memory.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hspc_live.core.errors import ModelError
from hspc_live.core.values import Pixels
from hspc_models.card import Card
from hspc_models.engines.bucketed import BucketedEngine, closed
from hspc_models.engines.exported import scoring_net
from hspc_models.network import Bottleneck, CellNet, ScoringNet, channels_last

_WARM = 3


def fold_batch_norms(network: CellNet) -> CellNet:
    """Fold every batch norm into the convolution before it, in place; in evaluation mode nothing else changes."""
    network.eval()
    for module in network.modules():
        match module:
            case CellNet():
                _fold(module, "conv1", "bn1")
            case Bottleneck():
                for number in (1, 2, 3):
                    _fold(module, f"conv{number}", f"bn{number}")
                if module.downsample is not None:
                    _fold(module.downsample, "0", "1")
            case _:
                pass
    return network


def _fold(owner: nn.Module, conv: str, norm: str) -> None:
    convolution, batch_norm = owner.get_submodule(conv), owner.get_submodule(norm)
    assert isinstance(convolution, nn.Conv2d) and isinstance(batch_norm, nn.BatchNorm2d)
    setattr(owner, conv, fuse_conv_bn_eval(convolution, batch_norm))
    setattr(owner, norm, nn.Identity())


class _Captured:
    """One bucket: pinned crops and scores, their places on the device, and the graph between these."""

    def __init__(self, module: ScoringNet, bucket: int, crop_px: int, device: torch.device) -> None:
        shape = (bucket, crop_px, crop_px)
        self.host = torch.zeros(shape, pin_memory=True)
        self.crops = torch.zeros(shape, device=device)
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream), torch.inference_mode():
            for _ in range(_WARM):  # libraries choose their algorithms before anything is captured
                module(self.crops)
        torch.cuda.current_stream(device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(self.graph):
            self.scores = module(self.crops)
        self.answer = torch.zeros(self.scores.shape, pin_memory=True)


class CudaGraphEngine(BucketedEngine):
    """A network behind `core.protocols.Engine`. Raises ModelError where torch finds no CUDA device."""

    def __init__(self, card: Card, network: CellNet, buckets: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)) -> None:
        super().__init__(card, buckets)
        if not torch.cuda.is_available():
            raise ModelError("engine.kind is cuda-graph, but torch finds no CUDA device here; use openvino or torch")
        device = torch.device("cuda", torch.cuda.current_device())
        torch.backends.cudnn.deterministic = True
        module = scoring_net(card, fold_batch_norms(network.float()), "fp16").to(device)
        channels_last(module)
        self._module = module  # the graphs read its weights where they lie
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._captured = {bucket: _Captured(module, bucket, card.crop_px, device) for bucket in self._buckets}

    @property
    def name(self) -> str:
        """Engine and device."""
        return "cuda-graph/cuda"

    @property
    def precision(self) -> str:
        """Arithmetic of the ResNet-50."""
        return "fp16"

    def close(self) -> None:
        """Let go of graphs and buffers; afterwards `infer` raises ModelError."""
        self._captured = {}

    def _run(self, crops: Pixels) -> NDArray[np.float32]:
        if not self._captured:
            raise closed()
        bucket = self._captured[len(crops)]
        np.copyto(bucket.host.numpy(), crops, casting="unsafe")
        with torch.cuda.stream(self._stream), torch.inference_mode():
            bucket.crops.copy_(bucket.host, non_blocking=True)
            bucket.graph.replay()
            bucket.answer.copy_(bucket.scores, non_blocking=True)
        self._stream.synchronize()
        return bucket.answer.numpy().copy()
