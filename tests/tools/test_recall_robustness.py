"""`tools/recall_robustness.py` as a person runs it: on a recording, and on films it makes itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "recall_robustness.py"


def table(*arguments):
    """Exit code and tables of one run."""
    ran = subprocess.run(
        [sys.executable, str(TOOL), *arguments, "--json"], capture_output=True, text=True, check=False, timeout=300
    )
    assert ran.stdout, ran.stderr
    return ran.returncode, json.loads(ran.stdout)


def test_made_films_are_judged_microscope_by_microscope():
    code, tables = table("--only", "made", "--made", "1", "--seed", "70")
    made = tables["made"]
    rows, hits, twice = made["all"]
    lenses = [scores for name, scores in made.items() if not name.startswith("all")]
    assert len(lenses) >= 8 and [sum(column) for column in zip(*lenses, strict=True)] == [rows, hits, twice]
    assert rows > 15 and hits / rows > 0.85
    assert code == int(hits < 0.95 * rows or twice > 0)


def test_changed_copies_of_a_real_recording():
    if "HSPC_REAL_DATA" not in os.environ:
        pytest.skip("HSPC_REAL_DATA is unset")
    recording = Path(os.environ["HSPC_REAL_DATA"], "streams", "blood_2024.rtdc")
    _, tables = table(str(recording), "--only", "variants", "--made", "0")
    variants = tables["variants"]
    assert variants["as recorded"][0] == 13  # every row of the file has a mask
    for name in ("contrast x 0.5", "offset +30", "flow reversed (mirror)", "cells x 1.4", "background missing"):
        rows, hits, twice = variants[name]
        assert rows == 13 and hits >= 12 and twice == 0, name
