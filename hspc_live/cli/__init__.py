"""The command line, `hspc-live …`: its entry point, which can be interrupted from the first moment on.

Everything else is imported here, inside `main`, as it takes a second or more: for so long nothing has begun, and
Ctrl-C has nothing to put in order.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

INTERRUPTED = 130  # exit code: 128 and the signal's number, as a shell counts it


def main() -> None:
    """Entry point of `hspc-live`."""
    # where the shell lets a command in the background not hear Ctrl-C, it stays so
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, _end)
    from hspc_live.cli.app import main as run

    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _end(_number: int, _frame: FrameType | None) -> None:
    """End at once: an exception would come up inside some module that is half imported, and may be lost there."""
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)
