"""A training run on disk, so that it goes on after a kill as if nothing had happened.

Everything lies in one safetensors file: weights, their running average, the optimiser's state, and as metadata what has
been logged. It is replaced whole, so a kill in the middle of writing leaves the one before. When the training is done
it is thrown away, but for the hash of what the run was started with, which stays beside the model.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from hspc_live.core.errors import OutputError

CHECKPOINT_FILE = "checkpoint.safetensors"
IDENTITY_FILE = "identity.json"


def save_checkpoint(
    folder: Path,
    network: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    identity: str,
    log: list[dict[str, Any]],
) -> None:
    """Write the state after len(log) epochs. `identity` is the hash of what the run was started with.

    Raises OutputError if there is no room.
    """
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": tensor for key, tensor in state.items()}
    metadata = {"identity": identity, "log": json.dumps(log)}
    partial = folder / (CHECKPOINT_FILE + ".partial")
    try:
        safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata)
        os.replace(partial, folder / CHECKPOINT_FILE)
    except (OSError, safetensors.SafetensorError) as error:
        raise OutputError(f"{folder / CHECKPOINT_FILE}: cannot be written: {error}") from error


def load_checkpoint(
    folder: Path, network: nn.Module, average: dict[str, Tensor], optimizer: torch.optim.Optimizer, identity: str
) -> list[dict[str, Any]]:
    """Restore in place what `save_checkpoint` wrote; the log of the epochs done, empty where there is no checkpoint.

    Raises OutputError if the checkpoint belongs to another run, or cannot be read.
    """
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return []
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimizer": {}}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") != identity:
                raise OutputError(
                    f"{path}: belongs to a run with other settings or other data; choose another folder or delete it"
                )
            for key in file.keys():
                part, name = key.split(".", 1)
                parts[part][name] = file.get_tensor(key)
    except (OSError, safetensors.SafetensorError, KeyError) as error:
        raise OutputError(f"{path}: cannot read the checkpoint ({error}); delete it to start again") from error
    network.load_state_dict(parts["network"])
    for name, tensor in parts["average"].items():
        average[name].copy_(tensor)
    groups = optimizer.state_dict()["param_groups"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in parts["optimizer"].items():
        index, name = key.split(".", 1)
        if tensor.shape == parameters[int(index)].shape:
            # the fused optimiser walks through memory: its state must lie as the parameter does (channels last)
            tensor = torch.empty_like(parameters[int(index)]).copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    log: list[dict[str, Any]] = json.loads(metadata["log"])
    return log


def end_checkpoint(folder: Path) -> None:
    """Throw away the checkpoint of a training that is done; its identity stays. Raises OutputError."""
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            same = (file.metadata() or {}).get("identity")
        partial = folder / (IDENTITY_FILE + ".partial")
        partial.write_text(json.dumps({"identity": same}) + "\n", encoding="utf-8")
        os.replace(partial, folder / IDENTITY_FILE)
        path.unlink(missing_ok=True)
    except (OSError, safetensors.SafetensorError) as error:
        raise OutputError(f"{path}: the training cannot be ended: {error}") from error


def ended_identity(folder: Path) -> str | None:
    """The identity of the run whose model lies finished in `folder`; None where it is not known. Raises OutputError."""
    path = folder / IDENTITY_FILE
    try:
        found: str | None = json.loads(path.read_text(encoding="utf-8"))["identity"] if path.exists() else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{path}: cannot be read ({error}); choose another folder") from error
    return found
