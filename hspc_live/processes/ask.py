"""A wish to a running pipeline, from another process of the same user: arm, disarm, gates, end, stop, status."""

from __future__ import annotations

import os
import time
from pathlib import Path

from msgspec import Struct

from hspc_live.core.errors import WireError
from hspc_live.wire.address import listens
from hspc_live.wire.codec import Decoder, encode
from hspc_live.wire.links import open_dealer
from hspc_live.wire.messages import Answer

PATIENCE_S = 15.0  # longer than arming may wait for the self-test


def ask(control: str, wish: Struct, patience_s: float = PATIENCE_S) -> Answer:
    """Send `wish` to the run whose control socket is `control` and wait for what came of it.

    Raises WireError if nobody answers in time.
    """
    nobody = WireError(f"nobody answers at {control}: is a run under way there?")
    if control.startswith("ipc://") and not listens(Path(control.removeprefix("ipc://"))):
        raise nobody  # said at once, where it can be known
    decoder = Decoder[Answer](Answer)
    with open_dealer(control, f"control-{os.getpid()}-{time.monotonic_ns()}".encode()) as link:
        if not link.try_send(encode(wish)) or not link.wait(patience_s) or (got := link.try_recv()) is None:
            raise nobody
        return decoder.decode(got[1]).message
