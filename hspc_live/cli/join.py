"""A segment worker that joins a run under way: on the same machine, or on another one through the run's door."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from hspc_live.cli.options import address
from hspc_live.cli.output import progress
from hspc_live.core.errors import SettingsError, WireError
from hspc_live.processes.child import run_visitor
from hspc_live.processes.remote_worker import work_far_away
from hspc_live.processes.segment_worker import segment
from hspc_live.wire.keys import Pass, read_public, read_secret


def join(control: str, name: str) -> None:
    """Connect to `control`, work until the run ends. Raises WireError when nobody answers there, SettingsError."""
    if not address(control, "worker").startswith("ipc://"):
        raise WireError(f"{control}: a worker of the same machine joins over ipc://")
    role = f"segment-{name}-{os.getpid()}"
    asyncio.run(run_visitor(control, role, segment))


def join_far_away(at: str, name: str, secret: Path | None, run_key: Path | None) -> None:
    """Connect to the door at `at`, work until the run ends. Raises WireError when nobody answers, SettingsError."""
    if secret is None or run_key is None:
        raise SettingsError(f"worker {at}: --secret and --run-key are needed there (hspc-live keygen makes keys)")
    own = Pass(read_secret(secret), read_public(run_key))
    frames, why = work_far_away(at, name, own, lambda text: progress.print(text, markup=False))
    progress.print(f"{why}: {frames} frames done", markup=False)
