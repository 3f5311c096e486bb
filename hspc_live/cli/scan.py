"""scan: a chamber run over an area that is said on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hspc_live.cli.chamber import run_chamber
from hspc_live.cli.options import Affine, Json, Out, Revisit, Set, Stay, mounted, numbers
from hspc_live.core.errors import SettingsError
from hspc_live.settings.load import load_chamber


def scan(
    config: Annotated[
        Path, typer.Argument(help="Settings file of a chamber rig, e.g. configs/rigs/twin_chamber.yaml.")
    ],
    rect: Annotated[
        str | None, typer.Option(metavar="X0,Y0,X1,Y1", help="Scan a rectangle between two corners, stage µm.")
    ] = None,
    circle: Annotated[
        str | None, typer.Option(metavar="X,Y,R", help="Scan a circle around (X, Y) of radius R, stage µm.")
    ] = None,
    affine: Affine = None,
    revisit: Revisit = False,
    stay: Stay = False,
    out: Out = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Scan an area of a chamber into a picking list (CSV, JSON, .pos for Micro-Manager): `run`, and its area."""
    settings = load_chamber(config, [*mounted(affine), *_area(rect, circle), *(set_ or [])])
    run_chamber(settings, revisit=revisit, stay=stay, out=out, as_json=as_json)


def _area(rect: str | None, circle: str | None) -> list[str]:
    """The area as an override of the settings'; none where neither was said."""
    if rect is not None and circle is not None:
        raise SettingsError("--rect and --circle: scan one area at a time")
    if rect is not None:
        x0, y0, x1, y1 = numbers(rect, "X0,Y0,X1,Y1", "--rect")
        if x0 == x1 or y0 == y1:
            raise SettingsError(f"--rect {rect}: nothing lies between the two corners")
        left, top, wide, high = min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0)
        return [
            f"chamber.tiling.area={{kind: rectangle, x0_um: {left}, y0_um: {top}, width_um: {wide}, height_um: {high}}}"
        ]
    if circle is not None:
        x, y, radius = numbers(circle, "X,Y,R", "--circle")
        if not radius > 0:
            raise SettingsError(f"--circle {circle}: the radius must be above 0")
        return [f"chamber.tiling.area={{kind: circle, x_um: {x}, y_um: {y}, radius_um: {radius}}}"]
    return []
