"""Where training runs: the device, its precision, and the other processes of the same run.

`torchrun --nproc-per-node N --no-python hspc-live train …` starts a process a GPU (or, without GPUs, a process a share
of the cores); each takes its share of every batch, and the gradients are averaged. Process 0 writes the results.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import count

import torch
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from hspc_live.core.errors import SettingsError
from hspc_models.train_settings import TrainSettings

_PATIENCE = timedelta(hours=2)
"""How long the others wait for process 0, which judges and writes alone."""

_joined = count()


@dataclass(frozen=True, slots=True)
class Place:
    """A process's device and precision, and its number among `world` processes."""

    device: torch.device
    dtype: torch.dtype
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the results."""
        return self.rank == 0

    def precision(self) -> AbstractContextManager[object]:
        """The context that forward passes run in."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


@contextmanager
def open_place(settings: TrainSettings) -> Iterator[Place]:
    """Set up this process, and join the others that torchrun started. Raises SettingsError for a GPU that is absent."""
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    gpu = torch.cuda.is_available()
    if settings.device == "cuda" and not gpu:
        raise SettingsError("device: is cuda, but torch finds no CUDA device here; use auto or cpu")
    torch.set_num_threads(settings.threads)
    cuda = gpu and settings.device != "cpu"
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
        torch.backends.cudnn.deterministic = True  # a run that is repeated, or goes on, ends with the same weights
    half = settings.precision == "bfloat16" or (
        settings.precision == "auto" and cuda and torch.cuda.is_bf16_supported()
    )
    place = Place(device, torch.bfloat16 if half else torch.float32, rank, world)
    if world == 1:
        yield place
        return
    # one command may train several models: under the same keys a process would find where others listened before
    store = PrefixStore(f"training {next(_joined)}", _store(rank, world))
    distributed.init_process_group(
        "nccl" if cuda else "gloo", store=store, rank=rank, world_size=world, timeout=_PATIENCE
    )
    try:
        yield place
    finally:
        distributed.destroy_process_group()


@cache
def _store(rank: int, world: int) -> Store:
    """Where the processes that torchrun started find each other, opened once a process."""
    store: Store = next(rendezvous("env://", rank, world, timeout=_PATIENCE))[0]
    return store
