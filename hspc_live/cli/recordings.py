"""inspect: what a recording holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from hspc_live.cli.options import Json
from hspc_live.cli.output import emit, screen
from hspc_live.core.errors import DataLoss
from hspc_live.recording.inspect import summarise


def inspect(
    recording: Annotated[Path, typer.Argument(help="A recording of HSPC Live, or any RT-DC file.")],
    um_per_px: Annotated[float | None, typer.Option(min=1e-3, help="Overrule the recording's pixel size.")] = None,
    fps: Annotated[float | None, typer.Option(min=1e-3, help="Overrule the recording's frame rate.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not read every picture.")] = False,
    as_json: Json = False,
) -> None:
    """Say what a recording holds: frames, cells, ledgers, versions, and what of it cannot be read."""
    summary = summarise(recording, um_per_px=um_per_px, frames_per_s=fps, check=not quick)
    if as_json:
        emit(summary)
    else:
        table = Table(show_header=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for key, value in summary.items():
            table.add_row(key, _plain(value))
        screen.print(table)
    if summary["loss"]:
        raise DataLoss(f"{recording}: {summary['loss']}")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {inner}" for key, inner in value.items())
    if isinstance(value, list):
        return "\n".join(map(str, value)) or "–"
    return "–" if value is None else str(value)
