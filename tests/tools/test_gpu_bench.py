"""`tools/gpu_bench.py` as a person runs it on a machine that has little more than torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from hspc_live.bench.compare import compare

ROOT = Path(__file__).parents[2]
ABSENT = (
    "zmq", "h5py", "hdf5plugin", "msgspec", "matplotlib", "PySide6", "skimage", "tifffile", "typer", "rich",
    "structlog", "jinja2", "pydantic_settings", "hspc_drivers",
)  # fmt: skip
BLOCKED = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ABSENT!r}:
            raise ImportError(name + " is not on this machine")
sys.meta_path.insert(0, Absent())
"""
BARE = f"""{BLOCKED}
import runpy
sys.argv = ["gpu_bench.py", *sys.argv[1:]]
runpy.run_path({str(ROOT / "tools" / "gpu_bench.py")!r}, run_name="__main__")
"""
SMALL = ("--buckets", "1,2", "--repeats", "2", "--seconds", "0.001", "--crops", "4", "--threads", "1")


def bare(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", BARE, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_needs_nothing_but_the_wheels_it_names_and_says_where_it_ran(tmp_path):
    ran = bare(tmp_path, *SMALL, "--engines", "torch", "--out", str(tmp_path / "out"))
    assert ran.returncode == 0, ran.stderr
    found = json.loads((tmp_path / "out" / "engine.json").read_text())
    if found["machine"]["gpu"] is None:
        assert "NO CUDA DEVICE HERE" in ran.stdout
    assert [row["bucket"] for row in found["engines"]] == [1, 2] and found["parity"]["failed"] == []
    assert compare(tmp_path / "out" / "engine.json", tmp_path / "out" / "engine.json").bench == "engine"


def test_an_engine_with_other_scores_fails(tmp_path):
    ran = bare(tmp_path, *SMALL, "--engines", "null")
    assert ran.returncode == 1 and "PARITY FAILED: null, batch 1" in ran.stdout, ran.stderr


def test_an_unknown_engine_is_refused(tmp_path):
    ran = bare(tmp_path, *SMALL, "--engines", "onyx")
    assert ran.returncode == 2 and "no engine 'onyx'" in ran.stderr


def test_engines_can_be_built_there():
    """Building one takes minutes; that its parts are there, and crops to judge it by, is seen in seconds."""
    program = f"""{BLOCKED}
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "models")!r}]
from hspc_models import engine_build
from hspc_models.card import find_model, load_card
from hspc_models.engine_crops import engine_crops
print(len(engine_crops(load_card(find_model("twin-lsm")), judge=8).judge))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and ran.stdout.split() == ["8"], ran.stderr
