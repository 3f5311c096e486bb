"""Processes that torchrun started find each other, also when one command trains several models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """\
import time
from types import SimpleNamespace

import torch
from torch import distributed

from hspc_models.places import open_place

settings = SimpleNamespace(device="cpu", threads=1, precision="float32")
for training in range(3):
    with open_place(settings) as place:
        total = torch.tensor(float(place.rank + 1))
        distributed.all_reduce(total)
        distributed.barrier()
        print(f"training {training}: {total.item():.0f} in process {place.rank}\\n", end="", flush=True)
    if place.first:
        time.sleep(1.0)  # it judges, and the other goes on to the next training
"""


@pytest.mark.timeout(300)
def test_processes_meet_for_every_training_of_one_command(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29617"]
    done = subprocess.run(
        [*torchrun, str(tmp_path / "script.py")], capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = {f"training {training}: 3 in process {rank}" for training in range(3) for rank in range(2)}
    assert expected <= set(done.stdout.splitlines())
