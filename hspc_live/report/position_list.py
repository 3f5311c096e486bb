"""The picking list as a position list of Micro-Manager (`.pos`): opened in its Stage Position List, or its MDA window.

The format is that of Micro-Manager 2 (`PositionList.save`): a property map with `StagePositions`, each of which has the
positions of its devices by their labels. It has no place for what else is known of a cell; that is in its properties.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hspc_live.core.errors import OutputError
from hspc_live.core.values import StageTarget
from hspc_live.report.picking_list import UM_DIGITS
from hspc_live.stages.picking import Pick, PickingList


def write_position_list(
    listed: PickingList, folder: Path, xy_stage: str, stem: str = "picking_list", *, complete: bool = True
) -> Path:
    """Write `<stem>.pos` into `folder`, a position a pick in the list's order; `xy_stage` is the stage's device label.

    Of a scan that was not `complete` it is `<stem>_incomplete.pos`. Raises OutputError if it exists or cannot be made.
    """
    path = folder / (f"{stem}.pos" if complete else f"{stem}_incomplete.pos")
    document = {
        "encoding": "UTF-8",
        "format": "Micro-Manager Property Map",
        "major_version": 2,
        "minor_version": 0,
        "map": {
            "StagePositions": {"type": "PROPERTY_MAP", "array": [_position(pick, xy_stage) for pick in listed.picks]}
        },
    }
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(document, file, indent=2, ensure_ascii=False, allow_nan=False)
            file.write("\n")
    except FileExistsError as error:
        raise OutputError(f"{path} exists: nothing is ever overwritten") from error
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def fresh_list(listed: PickingList, targets: Iterable[StageTarget]) -> PickingList:
    """`listed` with only the cells of `targets`, at the places where a second visit found them (stage, µm).

    What else is told of a pick (age, ±) is of the scan still; a position list has none of it.
    """
    picks = {pick.cell: pick for pick in listed.picks}
    fresh = [replace(picks[t.cell], x_um=t.x_um, y_um=t.y_um) for t in targets if t.cell is not None]
    return replace(listed, picks=tuple(fresh))


def _position(pick: Pick, xy_stage: str) -> dict[str, Any]:
    place = [round(pick.x_um, UM_DIGITS), round(pick.y_um, UM_DIGITS)]
    known = {"cell": str(pick.cell), "class": pick.predicted, "outlet": pick.outlet}
    return {
        "DefaultXYStage": _text(xy_stage),
        "DefaultZStage": _text(""),  # the focus stays where it is
        "DevicePositions": {
            "type": "PROPERTY_MAP",
            "array": [{"Device": _text(xy_stage), "Position_um": {"type": "DOUBLE", "array": place}}],
        },
        "GridCol": {"type": "INTEGER", "scalar": 0},
        "GridRow": {"type": "INTEGER", "scalar": 0},
        "Label": _text(f"{pick.order:03d}-{pick.predicted}-cell{pick.cell}"),  # unique, as Micro-Manager wants it
        "Properties": {"type": "PROPERTY_MAP", "scalar": {name: _text(value) for name, value in known.items()}},
    }


def _text(value: str) -> dict[str, str]:
    return {"type": "STRING", "scalar": value}
