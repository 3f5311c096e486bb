"""A segment worker that joins a run already under way, from another terminal of the same machine."""

from __future__ import annotations

import asyncio
import os

from hspc_live.cli.options import address
from hspc_live.core.errors import WireError
from hspc_live.processes.child import run_visitor
from hspc_live.processes.segment_worker import segment


def join(control: str, name: str) -> None:
    """Connect to `control`, work until the run ends. Raises WireError when nobody answers there, SettingsError."""
    if not address(control, "worker").startswith("ipc://"):
        raise WireError(f"{control}: a worker joins over ipc:// on the same machine, and only there")
    role = f"segment-{name}-{os.getpid()}"
    asyncio.run(run_visitor(control, role, segment))
