"""What a person reads of a chamber run: a few lines of progress, and a summary without codes; the files beside it."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from hspc_live.cli import chamber_progress
from hspc_live.cli.chamber_progress import FieldProgress
from hspc_live.cli.chamber_tables import print_chamber
from hspc_live.processes.chamber_findings import OF_FIELDS
from hspc_live.stages.company import Doubt
from hspc_live.stages.field import Reason
from hspc_live.stages.picking import LeftOut

RIG = {
    "mode": "chamber",
    "name": "small",
    "camera": {
        "kind": "simulated",
        "twin": {"height_px": 384, "width_px": 384, "width_mm": 0.5, "height_mm": 0.5, "density_per_mm2": 1200.0},
    },
    "engine": {"kind": "null"},
    "sort": {"outlets": [{"name": "large", "gate": {"kind": "range", "feature": "diameter_um", "min": 8.5}}]},
    "chamber": {
        "tiling": {"area": {"kind": "rectangle", "x0_um": -70, "y0_um": -70, "width_um": 140, "height_um": 140}},
        "picking": {"clear_um": 8.0},
    },
    "second_visit": {"after_s": 60.0},
}
CODE = re.compile(r"\b\w+_\w+\b|[{}]")
"""A key of the JSON, or a raw dictionary."""


def said_of(fields: int, again: int, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is said of a scan of so many fields and second visits to so many, where there is no terminal."""
    with FieldProgress() as listen:
        listen("chamber", "running", f"{fields} fields planned")
        for number in range(1, fields + 1):
            listen("chamber", "scan", f"field {number} of {fields}")
        for number in range(fields + 1, fields + again + 1):
            listen("chamber", "revisit", f"field {number} of {fields + again}")
    return capsys.readouterr().err.splitlines()


def test_a_hundred_fields_are_a_handful_of_lines(capsys):
    lines = said_of(100, 47, capsys)
    assert len(lines) == 1 + 5 + 5
    assert lines[1] == "chamber: scanning: field 20 of 100" and lines[5] == "chamber: scanning: field 100 of 100"
    assert lines[-1] == "chamber: second visit: field 47 of 47"  # counted anew, not as field 147


def test_a_few_fields_are_said_one_by_one_and_what_else_is_said_is_kept(capsys):
    assert len(said_of(4, 1, capsys)) == 1 + 4 + 1
    FieldProgress()("chamber", "alarm", "the stage is stuck")
    assert "chamber: alarm: the stage is stuck" in capsys.readouterr().err


def test_on_a_terminal_one_line_moves_on(monkeypatch):
    written = io.StringIO()
    terminal = Console(file=written, force_terminal=True, width=100)
    monkeypatch.setattr(chamber_progress, "progress", terminal)
    with FieldProgress() as listen:
        for number in range(1, 101):
            listen("chamber", "scan", f"field {number} of 100")
    assert "100/100" in written.getvalue() and written.getvalue().count("\n") <= 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole small run at a terminal of 100 columns; what it showed lies beside the folder of its results."""
    pty = pytest.importorskip("pty", reason="this system has no such terminals")
    out = tmp_path_factory.mktemp("run") / "out"
    config = out.parent / "small.yaml"
    config.write_text(yaml.safe_dump(RIG))
    told = [sys.executable, "-m", "hspc_live", "run", str(config), "--revisit", "--out", str(out)]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        told, stdout=subprocess.PIPE, stderr=theirs, text=True, env={**os.environ, "COLUMNS": "100"}
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux ends a terminal nobody holds any more like this
                break
            if not part:
                break
            shown += part
        said = process.stdout.read() if process.stdout is not None else ""
    assert process.returncode == 0, shown.decode()
    (out.parent / "said.txt").write_text(said, encoding="utf-8")
    (out.parent / "progress.txt").write_text(shown.decode(), encoding="utf-8")
    return out


def test_a_run_at_a_terminal_shows_its_line(folder):
    shown = (folder.parent / "progress.txt").read_text(encoding="utf-8")
    assert "scanning" in shown and "second visit" in shown and "field 2 of" not in shown


def test_the_summary_has_no_codes_and_no_dictionaries(folder):
    said = (folder.parent / "said.txt").read_text(encoding="utf-8")
    table = said[: said.rindex("┘")]
    assert not CODE.findall(table), table
    for words in ("on the picking list", "not recognised", "balanced", "found again"):
        assert words in table


def test_every_code_that_a_ledger_may_hold_is_put_into_words(folder, capsys):
    summary = json.loads((folder / "summary.json").read_text())
    summary["views"]["rejected"] = {reason.value: 2 for reason in Reason}
    summary["cells"]["unresolved"] = {**summary["views"]["rejected"], "nan_scores": 1}
    summary["cells"]["left_out"] = {reason.value: 3 for reason in LeftOut}
    summary["alarms"] = {doubt.value + OF_FIELDS: 2 for doubt in Doubt}
    print_chamber(summary, "everything")
    said = capsys.readouterr().out
    assert not CODE.findall(said), said


def test_every_object_of_the_chamber_is_in_the_table_of_cells(folder):
    summary = json.loads((folder / "summary.json").read_text())
    rows = list(csv.DictReader((folder / "cells.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == summary["cells"]["tracked"]
    assert sum(row["outcome"] == "on the picking list" for row in rows) == summary["cells"]["listed"]
    picks = {pick["cell"]: pick["order"] for pick in json.loads((folder / "picking_list.json").read_text())["picks"]}
    assert {int(row["cell"]): int(row["order"]) for row in rows if row["order"]} == picks


def test_where_a_cell_lies_and_where_a_pick_will_find_it_are_told_apart(folder):
    """A pick has the stage's coming back to reckon with besides, and its ± is a circle, not a deviation per axis."""
    rows = csv.DictReader((folder / "cells.csv").read_text(encoding="utf-8").splitlines())
    lies = {int(row["cell"]): float(row["place_sd_um"]) for row in rows}
    picks = json.loads((folder / "picking_list.json").read_text())["picks"]
    assert picks and all(pick["pick_sd_um"] >= math.hypot(lies[pick["cell"]], 1.5) - 0.02 for pick in picks)
    assert all(pick["position_plus_minus_um"] == pytest.approx(2.448 * pick["pick_sd_um"], abs=0.02) for pick in picks)


def test_no_length_in_the_files_has_more_than_two_decimals(folder):
    for name in ("picking_list.json", "picking_list.csv", "pick_targets.json", "cells.csv"):
        text = (folder / name).read_text(encoding="utf-8")
        assert not re.findall(r"\.\d{5,}", text), name
