"""A figure as two files: PNG to look at, SVG to print from."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from hspc_live.core.errors import OutputError
from hspc_live.report import style


def save_both(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name`.png and `name`.svg into `folder`; returns both, PNG first. Raises OutputError."""
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    try:
        style.save(figure, paths[0])
        figure.savefig(paths[1], metadata={"Creator": "HSPC Live", "Date": None})
    except OSError as error:
        raise OutputError(f"{folder}: the picture cannot be written: {error.strerror or error}") from error
    return paths
