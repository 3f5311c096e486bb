"""The picking list as CSV and JSON, units in the names; and read back, to pick from it or to visit its cells again."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hspc_live.core.chamber import GLOW
from hspc_live.core.errors import OutputError, RecordingError
from hspc_live.report.chamber_words import WHY
from hspc_live.stages.picking import LeftOut, Pick, PickingList

FORMAT = "hspc-live-picking-list/2"
SCORE = "score:"
UM_DIGITS, SCORE_DIGITS, TIME_DIGITS = 2, 4, 3
"""Decimals that are written: more than any stage, score or clock can mean."""

COLUMNS = (
    "order",
    "cell",
    "x_um",
    "y_um",
    "position_plus_minus_um",
    "pick_sd_um",
    "class",
    "outlet",
    "rank",
    "diameter_um",
    "nearest_neighbour_um",
    "age_s",
    "expires_in_s",
    "field",
    "view",
)


def picking_rows(listed: PickingList) -> list[dict[str, Any]]:
    """One row a pick, by `COLUMNS`, a `score:<class>` each and the light in each further channel, `glow:<channel>`.

    `position_plus_minus_um` is the radius that 95 % of picks find their cell within, `pick_sd_um` the standard
    deviation per axis of the same error: where the cell lies, and where the stage will come to stand.

    None stands for what is infinite (no neighbour, no expiry) or was not measured.
    """
    return [
        {
            "order": pick.order,
            "cell": pick.cell,
            "x_um": round(pick.x_um, UM_DIGITS),
            "y_um": round(pick.y_um, UM_DIGITS),
            "position_plus_minus_um": round(pick.plus_minus_um, UM_DIGITS),
            "pick_sd_um": round(pick.pick_sd_um, UM_DIGITS),
            "class": pick.predicted,
            "outlet": pick.outlet,
            "rank": round(pick.rank, SCORE_DIGITS),
            "diameter_um": round(pick.diameter_um, UM_DIGITS),
            "nearest_neighbour_um": _finite(pick.nearest_um, UM_DIGITS),
            "age_s": round(pick.age_s, TIME_DIGITS),
            "expires_in_s": _finite(pick.expires_in_s, TIME_DIGITS),
            "field": pick.field,
            "view": pick.view,
            **{SCORE + name: round(s, SCORE_DIGITS) for name, s in zip(listed.classes, pick.scores, strict=True)},
            **{GLOW + name: _finite(light, UM_DIGITS) for name, light in zip(listed.channels, pick.glow, strict=True)},
        }
        for pick in listed.picks
    ]


def _digits(head: str) -> int:
    """Decimals of a column of numbers."""
    if head == "rank" or head.startswith(SCORE):
        return SCORE_DIGITS
    return TIME_DIGITS if head.endswith("_s") else UM_DIGITS


def write_picking_list(
    listed: PickingList, folder: Path, about: Mapping[str, Any], stem: str = "picking_list", *, complete: bool = True
) -> list[Path]:
    """Write `<stem>.csv` and `<stem>.json` into `folder`; `about` (run id, time, rig …) goes into the JSON's head.

    The CSV has the picks alone; the JSON has the ledger and the cells left out, by reason, too. Nothing is overwritten.
    Of a scan that was not `complete` the JSON says so, and the CSV, which has no head, is `<stem>_incomplete.csv`.
    Raises OutputError.
    """
    rows = picking_rows(listed)
    heads = [*COLUMNS, *(SCORE + name for name in listed.classes), *(GLOW + name for name in listed.channels)]
    document = {
        "format": FORMAT,
        **about,
        "complete": complete,
        "classes": list(listed.classes),
        "channels": list(listed.channels),
        "ledger": listed.ledger(),
        "picks": rows,
        "left_out": [{"cell": cell, "reason": reason.value, "why": WHY[reason]} for cell, reason in listed.left_out],
    }
    table, whole = folder / (f"{stem}.csv" if complete else f"{stem}_incomplete.csv"), folder / f"{stem}.json"
    try:
        with table.open("x", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, heads)
            writer.writeheader()
            for row in rows:
                writer.writerow({k: f"{v:.{_digits(k)}f}" if isinstance(v, float) else v for k, v in row.items()})
        with whole.open("x", encoding="utf-8") as file:
            json.dump(document, file, indent=1, ensure_ascii=False, allow_nan=False)
            file.write("\n")
    except FileExistsError as error:
        raise OutputError(f"{error.filename} exists: nothing is ever overwritten") from error
    except OSError as error:
        raise OutputError(f"{folder}: the picking list cannot be written: {error.strerror or error}") from error
    return [table, whole]


def read_picking_list(path: Path) -> PickingList:
    """A picking list from its JSON (all of it) or its CSV (the picks alone). Raises RecordingError if it is none."""
    try:
        if path.suffix.lower() == ".json":
            document = json.loads(path.read_text(encoding="utf-8"))
            if document.get("format") != FORMAT:
                raise RecordingError(f"{path} is no picking list of the format {FORMAT}")
            left_out = tuple((int(cell["cell"]), LeftOut(cell["reason"])) for cell in document["left_out"])
            classes, channels = document["classes"], document.get("channels", [])
            return PickingList(tuple(classes), _picks(document["picks"], classes, channels), left_out, tuple(channels))
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            classes, channels = (
                [head.removeprefix(kind) for head in reader.fieldnames or () if head.startswith(kind)]
                for kind in (SCORE, GLOW)
            )
            return PickingList(tuple(classes), _picks(list(reader), classes, channels), (), tuple(channels))
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise RecordingError(f"{path} is no picking list: {error!r}") from error


def _picks(rows: Sequence[Mapping[str, Any]], classes: Sequence[str], channels: Sequence[str]) -> tuple[Pick, ...]:
    """Rows as picks. Raises ValueError for a place that is none: nothing may be sent there."""
    picks = tuple(
        Pick(
            order=int(row["order"]),
            cell=int(row["cell"]),
            outlet=str(row["outlet"]),
            predicted=str(row["class"]),
            scores=tuple(float(row[SCORE + name]) for name in classes),
            rank=float(row["rank"]),
            x_um=float(row["x_um"]),
            y_um=float(row["y_um"]),
            pick_sd_um=float(row["pick_sd_um"]),
            diameter_um=float(row["diameter_um"]),
            nearest_um=_or_infinite(row["nearest_neighbour_um"]),
            age_s=float(row["age_s"]),
            expires_in_s=_or_infinite(row["expires_in_s"]),
            field=int(row["field"]),
            view=int(row["view"]),
            glow=tuple(_or_nan(row[GLOW + name]) for name in channels),
        )
        for row in rows
    )
    for pick in picks:
        if not (math.isfinite(pick.x_um) and math.isfinite(pick.y_um)):
            raise ValueError(f"the place of cell {pick.cell} is ({pick.x_um}, {pick.y_um})")
    return picks


def _finite(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None


def _or_nan(value: Any) -> float:
    return math.nan if value is None or value == "" else float(value)


def _or_infinite(value: Any) -> float:
    return math.inf if value is None or value == "" else float(value)
