"""The classifier: ResNet-50 with torchvision's parameter names, and the paper's head of two fully connected layers.

Because the names are torchvision's, any torchvision or timm ResNet-50 checkpoint loads (`load_backbone`), and
torchvision itself is not needed. Checkpoints are untrusted: safetensors, or `.pth` read with `weights_only`; never a
pickle.
"""

from __future__ import annotations

import hashlib
import io
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 - what torch raises for a refused file; nothing is unpickled here
from typing import cast

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from hspc_live.core.crop import normalise
from hspc_live.core.errors import ModelError
from hspc_live.core.values import Pixels
from hspc_models.radial import RingReader

FEATURES = 2048
"""Width of the pooled features that the head reads."""

_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
_EXPANSION = 4
_OWN = ("head.", "reader.")
"""Prefixes of what no ResNet-50 checkpoint brings."""


class Bottleneck(nn.Module):
    """The residual block of ResNet-50 v1.5 (He et al. 2016; the stride sits in the 3 × 3, as in torchvision)."""

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        width = planes * _EXPANSION
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inplanes != width:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """(n, inplanes, h, w) → (n, 4 · planes, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu_(self.bn1(self.conv1(x)))
        x = torch.relu_(self.bn2(self.conv2(x)))
        return torch.relu_(self.bn3(self.conv3(x)) + shortcut)


class CellNet(nn.Module):
    """ResNet-50 and head. `forward` gives logits; softmax and temperature belong to whoever reads them.

    `channels` is 1 or 3; grey crops are repeated for a three-channel network. `head` lists the widths of the hidden
    layers: the paper's two fully connected layers are one hidden width and the class layer.

    With `rings_px`, the edge of the model's crops, it carries a `RingReader` as well, and its logits are the mean of
    its own and of the reader's two networks. The reader is fitted by itself (`tutor`), not by gradients through this
    network: in training mode `forward` leaves it out, and its parameters ask for no gradient.
    """

    def __init__(
        self,
        classes: int,
        channels: int = 1,
        head: tuple[int, ...] = (256,),
        dropout: float = 0.3,
        rings_px: int | None = None,
    ) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise ModelError(f"the network takes 1 or 3 input channels, not {channels}")
        self.channels = channels
        self.conv1 = nn.Conv2d(channels, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        inplanes = 64
        for number, (planes, blocks, stride) in enumerate(_STAGES, 1):
            layer = nn.Sequential()
            for index in range(blocks):
                layer.append(Bottleneck(inplanes, planes, stride if index == 0 else 1))
                inplanes = planes * _EXPANSION
            self.add_module(f"layer{number}", layer)
        hidden: list[nn.Module] = []
        width = FEATURES
        for size in head:
            hidden += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(dropout)]
            width = size
        self.head = nn.Sequential(*hidden, nn.Linear(width, classes))
        self.reader = None if rings_px is None else RingReader(rings_px, classes).requires_grad_(False)
        self._initialise()

    def _initialise(self) -> None:
        """He initialisation; the last norm of a block starts at 0, which helps from scratch (Goyal et al. 2017)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)

    def features(self, x: Tensor) -> Tensor:
        """Pooled features (n, 2048), in the weights' dtype, of normalised pictures (n, 1 or `channels`, h, w)."""
        x = x.to(self.conv1.weight.dtype)
        if x.shape[1] != self.channels:
            x = x.expand(-1, self.channels, -1, -1)
        x = self.maxpool(torch.relu_(self.bn1(self.conv1(x))))
        for number in range(1, len(_STAGES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of normalised pictures (n, 1 or `channels`, h, w), float."""
        logits: Tensor = self.head(self.features(x)).to(x.dtype)  # in half precision the reader stays in single
        if self.reader is None or self.training:
            return logits
        twins = len(self.reader.twins)
        return cast("Tensor", (logits + twins * self.reader(x[:, 0])) / (1 + twins))


class ScoringNet(nn.Module):
    """What an engine runs: raw crops in, class scores out, so that normalisation is part of the graph.

    `temperature` divides the logits (Guo et al. 2017), which are the mean over `symmetries` positions of the crop. A
    crop with a value that is not finite scores NaN.
    """

    def __init__(self, network: CellNet, temperature: float, symmetries: int = 1) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature
        self.symmetries = symmetries

    def forward(self, crops: Tensor) -> Tensor:
        """Scores (n, classes) float32, rows summing to 1, of crops (n, S, S) of any real dtype."""
        pictures = crops.to(torch.float32).unsqueeze(1)
        finite = torch.isfinite(pictures).all(dim=3).all(dim=2)
        pictures = normalise(pictures).contiguous(memory_format=torch.channels_last)
        scores = torch.softmax(mean_logits(self.network, pictures, self.symmetries) / self.temperature, dim=1)
        return torch.where(finite, scores, torch.nan)


def symmetry(pictures: Tensor, which: int) -> Tensor:
    """Pictures (…, S, S) turned by `which` mod 4 quarter turns, and mirrored for `which` of 4 to 7; exact."""
    turned = torch.rot90(pictures, which % 4, (-2, -1))
    return turned.flip(-1) if which >= 4 else turned


def mean_logits(network: CellNet, pictures: Tensor, symmetries: int) -> Tensor:
    """Logits (n, classes), the mean over the first `symmetries` (1 to 8) positions of normalised pictures.

    8 positions cost 8 times the arithmetic, and are for microscopes whose picture has no direction.
    """
    total = network(pictures)
    for which in range(1, symmetries):
        total = total + network(symmetry(pictures, which).contiguous(memory_format=torch.channels_last))
    return cast("Tensor", total / symmetries)


def pictures(crops: Pixels) -> Tensor:
    """Normalised float32 pictures (n, 1, S, S), channels last, of crops (n, S, S): what training feeds the network."""
    normalised: Tensor = normalise(torch.from_numpy(crops.astype(np.float32)).unsqueeze(1))
    return normalised.contiguous(memory_format=torch.channels_last)


def channels_last(module: nn.Module) -> None:
    """Lay the convolution weights out channels last, in place (`Module.to(memory_format=…)` has no types)."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def backbone_names(network: CellNet) -> list[str]:
    """Names of all that a ResNet-50 checkpoint must bring: parameters and running statistics, without our own parts."""
    return [
        name for name in network.state_dict() if not name.startswith(_OWN) and not name.endswith("num_batches_tracked")
    ]


def load_backbone(network: CellNet, source: str | Path, sha256: str | None = None) -> None:
    """Load the ResNet-50 part of a torchvision or timm checkpoint, from a path or a URL, into `network`.

    `.safetensors` or `.pth`/`.pt` (a state dict, also under "state_dict" or "model"). `fc.*` is ignored. A
    three-channel first layer is summed for a one-channel network: the same answer as repeating the grey picture.
    `sha256` is compulsory for a URL. Raises ModelError: unreadable, wrong hash, refused pickle, or tensors missing or
    of another shape.
    """
    data = _fetch(str(source), sha256)
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256.lower():
        raise ModelError(f"{source}: SHA-256 is {found}, expected {sha256.lower()}")
    state = _tensors(str(source), data)
    wanted = network.state_dict()
    missing = [name for name in backbone_names(network) if name not in state]
    if missing:
        raise ModelError(
            f"{source}: not a ResNet-50 checkpoint with torchvision's names; {len(missing)} tensors are missing, "
            f"the first is {missing[0]}"
        )
    if state["conv1.weight"].shape[1:2] == (3,) and network.channels == 1:
        state["conv1.weight"] = state["conv1.weight"].sum(dim=1, keepdim=True)
    backbone = {name: tensor for name, tensor in state.items() if name in wanted and not name.startswith(_OWN)}
    for name, tensor in backbone.items():
        if tensor.shape != wanted[name].shape:
            raise ModelError(f"{source}: {name} has shape {tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}")
    network.load_state_dict(backbone, strict=False)


def _fetch(source: str, sha256: str | None) -> bytes:
    """The bytes of a path or of an http(s)/file URL."""
    if not source.startswith(("http://", "https://", "file://")):
        try:
            return Path(source).read_bytes()
        except OSError as error:
            raise ModelError(f"{source}: cannot read the checkpoint: {error.strerror or error}") from error
    if sha256 is None:
        raise ModelError(f"{source}: a checkpoint from a URL needs its sha256 beside it")
    try:
        with urllib.request.urlopen(source, timeout=60) as answer:  # the hash decides what is trusted
            return cast("bytes", answer.read())
    except (urllib.error.URLError, OSError) as error:
        raise ModelError(f"{source}: cannot download the checkpoint: {error}") from error


def _tensors(source: str, data: bytes) -> dict[str, Tensor]:
    """The state dict in `data`, by the kind of file that `source` names."""
    if source.endswith(".safetensors"):
        try:
            return safetensors.torch.load(data)
        except safetensors.SafetensorError as error:
            raise ModelError(f"{source}: not a safetensors file: {error}") from error
    return _torch_tensors(source, data)


def _torch_tensors(source: str, data: bytes) -> dict[str, Tensor]:
    """A `.pth` state dict; anything but tensors in plain containers is refused by torch itself."""
    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelError(
            f"{source}: refused: not a plain PyTorch state dict, but a pickle of something else or a damaged file; it "
            "was not opened. Save the network's state_dict() where it comes from, best as safetensors"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping):
        raise ModelError(f"{source}: holds a {type(loaded).__name__}, expected a state dict")
    return {str(name).removeprefix("module."): value for name, value in loaded.items() if isinstance(value, Tensor)}
