"""The command line, `hspc-live …`."""

from hspc_live.cli.app import main

__all__ = ["main"]
