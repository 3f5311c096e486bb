"""Torch on an NVIDIA GPU without its overheads. Not yet run on one: see docs/engines.md.

Half precision, channels last, batch norms folded into the convolutions; each bucket's work is captured once as a CUDA
graph and replayed, so that no kernel is launched from Python. Crops and scores travel through pinned memory; of more
crops than the largest bucket holds, the next ones travel while the graph works on those before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

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


C = TypeVar("C")
T = TypeVar("T")


def overlapped(turns: Iterable[C], begin: Callable[[int, C], None], finish: Callable[[int], T]) -> Iterator[T]:
    """What `finish` gives for every turn, in order, each begun before the one in front of it is finished.

    Two lanes, 0 and 1, take turns: `begin(lane, crops)` returns at once, `finish(lane)` waits. A lane is begun again
    only once it has been finished.
    """
    lane, under_way = 0, False
    for crops in turns:
        begin(lane, crops)
        if under_way:
            yield finish(1 - lane)
        lane, under_way = 1 - lane, True
    if under_way:
        yield finish(1 - lane)


class _Lane:
    """Pinned memory for crops and scores of one turn, a place for its crops on the device, and how far it is."""

    def __init__(self, shape: tuple[int, ...], scores: torch.Tensor) -> None:
        self.host = torch.zeros(shape, pin_memory=True)
        self.crops = torch.zeros(shape, device=scores.device)
        self.answer = torch.zeros(scores.shape, pin_memory=True)
        self.uploaded, self.done = torch.cuda.Event(), torch.cuda.Event()  # type: ignore[no-untyped-call]


class _Captured:
    """One bucket: its graph between a place for crops and one for scores on the device, and two lanes to these."""

    def __init__(self, module: ScoringNet, bucket: int, crop_px: int, device: torch.device) -> None:
        shape = (bucket, crop_px, crop_px)
        self._crops = torch.zeros(shape, device=device)
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream), torch.inference_mode():
            for _ in range(_WARM):  # libraries choose their algorithms before anything is captured
                module(self._crops)
        torch.cuda.current_stream(device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(self._graph):
            self._scores = module(self._crops)
        self._lanes = [_Lane(shape, self._scores) for _ in range(2)]
        torch.cuda.current_stream(device).synchronize()  # what was zeroed here is used on other streams

    def begin(self, number: int, crops: Pixels, upload: torch.cuda.Stream, work: torch.cuda.Stream) -> None:
        """Send crops off: up on one stream, and behind that through the graph and back on the other."""
        lane = self._lanes[number]
        lane.done.synchronize()  # at once, but where an error kept the turn before from being fetched
        np.copyto(lane.host.numpy(), crops, casting="unsafe")
        with torch.inference_mode():
            with torch.cuda.stream(upload):
                lane.crops.copy_(lane.host, non_blocking=True)
                lane.uploaded.record(upload)
            with torch.cuda.stream(work):
                work.wait_event(lane.uploaded)
                self._crops.copy_(lane.crops)
                self._graph.replay()
                lane.answer.copy_(self._scores, non_blocking=True)
                lane.done.record(work)

    def finish(self, number: int) -> NDArray[np.float32]:
        """Wait for the scores (bucket, classes) of a lane."""
        self._lanes[number].done.synchronize()
        return self._lanes[number].answer.numpy().copy()


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
        self._upload, self._work = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]
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
        return next(self._run_all(iter([crops])))

    def _run_all(self, turns: Iterator[Pixels]) -> Iterator[NDArray[np.float32]]:
        if not self._captured:
            raise closed()
        under_way: list[_Captured | None] = [None, None]

        def begin(lane: int, crops: Pixels) -> None:
            bucket = under_way[lane] = self._captured[len(crops)]
            bucket.begin(lane, crops, self._upload, self._work)

        def finish(lane: int) -> NDArray[np.float32]:
            bucket = under_way[lane]
            assert bucket is not None
            return bucket.finish(lane)

        return overlapped(turns, begin, finish)
