"""Crashed, cut and foreign chamber recordings: every acknowledged field is given, and what is lost is said."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hspc_live.core.errors import HspcError, RecordingError
from hspc_live.recording.chamber_reader import UNREADABLE, open_chamber
from hspc_live.recording.inspect import summarise

# writes fields as fast as it can and says after each that it was acknowledged; pixels follow from the number
WRITER = """
import sys
from pathlib import Path
import numpy as np
from hspc_live.core.chamber import ChamberFacts, FieldObjects, Phase, Picture, Settled, Visit
from hspc_live.core.values import OBJECT_DTYPE, CameraInfo, Frame, FrameResult, Modality, StageInfo, StageTarget
from hspc_live.recording.chamber_writer import ChamberWriter

height = int(sys.argv[2])
camera = CameraInfo(height, 220, "uint16", 0.325, 10.0, Modality.DIC)
plan = tuple(StageTarget(i, float(i), 0.0) for i in range(2000))
facts = ChamberFacts(camera, StageInfo((0, 1e6), (0, 1e6), 0.1), ("transmitted", "GFP"), np.ones((2, 3)),
                     np.zeros((6, 6)), plan)
writer = ChamberWriter.create(Path(sys.argv[1]), run_id="r", settings_json="{}", facts=facts, classes=("A", "B"),
                              card_yaml="", pipeline_id="", versions={}, crop_px=16)
for n in range(2_000):
    pixels = np.random.default_rng(n).integers(0, 9999, (2, height, 220)).astype("u2")
    pictures = tuple(Picture(c, Frame(2 * n + i, n * 1000, 0, pixels[i])) for i, c in enumerate(facts.channels))
    objects = np.zeros(n % 3, OBJECT_DTYPE)
    objects["x_um"] = n
    result = FrameResult(n, n * 1000, objects, np.full((n % 3, 16, 16), n, "u2"), pixels[:0], pixels[:0].astype("u1"),
                         0)
    labels = np.full((height, 220), n, "u2")
    found = FieldObjects(result, np.ones(n % 3, bool), ("",) * (n % 3), labels, {})
    writer.field(Visit(n, Phase.SCAN, plan[n], n + 0.5, 0.0, Settled("", 2, 5, 0.1), pictures), found)
    print(n, flush=True)
    writer.scores(n, np.arange(n % 3), np.full((n % 3, 2), 0.5, "f4"))
"""


def check_visits(path: Path, at_least: int, height: int = 200) -> int:
    """Every visit given has the pixels and objects that were written; returns how many there are."""
    with open_chamber(path) as recording:
        visits = [visit for visit in recording.visits() if visit.pictures]
        assert [visit.number for visit in visits] == list(range(len(visits))) and len(visits) >= at_least
        for visit in visits:
            n = visit.number
            pixels = np.random.default_rng(n).integers(0, 9999, (2, height, 220)).astype("u2")
            assert all(np.array_equal(p.frame.pixels, pixels[i]) for i, p in enumerate(visit.pictures))
            assert visit.x_um == n + 0.5
        return len(visits)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_acknowledged_field_survives_a_kill(tmp_path, seed):
    path = tmp_path / "run.h5"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path), "200"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it is under way
        time.sleep(random.Random(seed).uniform(0.05, 0.6))
        process.kill()
        said = [0, *map(int, process.stdout.read().split())]
    n = check_visits(path, said[-1] + 1)
    with open_chamber(path) as recording:
        assert not recording.closed and "crashed" in recording.loss
        assert f"{2_000 - n} were not recorded" in recording.loss
        for number in recording.numbers():
            found = recording.objects(number)
            assert found is not None and len(found.result.objects) == number % 3
            assert (found.labels == number).all() and (found.result.crops == number).all()
        assert len(recording.scores()) >= sum(i % 3 for i in range(n - 1))
        assert recording.cells() == []
    said_by_inspect = summarise(path)
    assert said_by_inspect["fields"]["scan"] == n and not said_by_inspect["exact"]


@pytest.mark.parametrize(("height", "room"), [(200, 3_000_000), (10_000, 30_000_000)])
def test_every_acknowledged_field_survives_a_full_disk(tmp_path, height, room):
    """Small fields are written with a flush, large ones at once; what failed is said once, and nothing crashes."""
    path = tmp_path / "run.h5"
    full = subprocess.run(
        [sys.executable, "-c", WRITER, str(path), str(height)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room,) * 2),
    )
    assert full.returncode == 1 and "File too large): is the disk full?" in full.stderr
    last = int(full.stdout.split()[-1])
    assert check_visits(path, last + 1, height) == last + 1
    assert "dealloc" not in full.stderr


def test_a_disk_that_fills_up_at_the_very_end_is_said(create_chamber, chamber_field, tmp_path):
    """All fields are there and read back; only the summary is not."""
    path = tmp_path / "run.h5"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = create_chamber(path)
    for number in range(4):
        writer.field(*chamber_field(number))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, limits[1]))
        with pytest.raises(RecordingError, match=r"run\.h5 could not be .*is the disk full\?"):
            writer.close({"much": "x" * 100_000}, {"more": "y" * 100_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with open_chamber(path) as recording:
        assert [len(visit.pictures) for visit in recording.visits()] == [2] * 4
        assert recording.summary is None and not recording.closed


def test_a_disk_without_room_for_the_file_is_said_and_nothing_is_left(tmp_path):
    full = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path / "run.h5"), "200"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
    )
    assert full.returncode == 1 and "OutputError" in full.stderr and "is there room?" in full.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
def test_a_recording_cut_short_gives_what_is_left(chamber_recorded, chamber_field, share):
    path = chamber_recorded(40)
    os.truncate(path, int(path.stat().st_size * share))
    with open_chamber(path) as recording:
        visits = list(recording.visits())
        whole = [visit for visit in visits if len(visit.pictures) == 2]
        for visit in whole:
            expected, _ = chamber_field(visit.number)
            for one, other in zip(expected.pictures, visit.pictures, strict=True):
                assert np.array_equal(one.frame.pixels, other.frame.pixels)
        assert "cut short" in recording.loss
        assert all(visit.pictures or visit.settled.reason == UNREADABLE for visit in visits)
    if share > 0.99:
        assert len(whole) >= 38


def test_a_corrupt_picture_costs_its_visit_only(chamber_recorded):
    path = chamber_recorded(5)
    with h5py.File(path) as file:
        chunks = [file["hspc/fields/image"].id.get_chunk_info(row) for row in (2, 7)]  # transmitted of 1, CD48 of 3
    with path.open("r+b") as raw:
        for chunk in chunks:
            raw.seek(chunk.byte_offset + chunk.size // 2)
            raw.write(b"\x5a\xa5\x5a")
    with open_chamber(path) as recording:
        visits = list(recording.visits())
        assert [len(visit.pictures) for visit in visits] == [2, 0, 2, 1, 2]
        assert [visit.settled.reason for visit in visits] == ["", UNREADABLE, "", "", ""]
        assert "pictures cannot be read at 2 visits: 1, 3" in recording.loss and not recording.exact
        list(recording.visits())
        assert "at 2 visits" in recording.loss  # reading twice books it once
    assert summarise(path)["readable_pictures"] == 7


def test_foreign_pictures_and_formats_are_named(chamber_recorded):
    path = chamber_recorded(2)
    with h5py.File(path, "r+") as file:
        del file["hspc/fields/image"]
        file["hspc/fields/image"] = np.zeros((4, 48, 64), "f4")
    with pytest.raises(RecordingError, match=r"chamber\.h5: .*float32.*uint8 or uint16"):
        open_chamber(path)
    with h5py.File(path, "r+") as file:
        file["hspc"].attrs["format"] = "hspc-live-chamber/9"
    with pytest.raises(RecordingError, match="hspc-live-chamber/9"):
        open_chamber(path)
    (path.parent / "note.h5").write_text("a note\n" * 99)
    with pytest.raises(RecordingError, match=r"note\.h5 is not an HDF5 file"):
        open_chamber(path.parent / "note.h5")


def test_tables_of_other_columns_are_left_out_and_said(chamber_recorded):
    path = chamber_recorded(2)
    with h5py.File(path, "r+") as file:
        del file["hspc/objects"]
        file["hspc/objects"] = np.zeros(4, [("visit", "<i8"), ("what", "<f4")])
    with open_chamber(path) as recording:
        assert len(list(recording.visits())) == 2 and recording.objects(0) is None
        assert "the table objects cannot be read" in recording.loss


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_ends_in_good_fields_or_a_clear_error(chamber_recorded, chamber_field, tmp_path_factory, data):
    """Bytes overwritten or cut off anywhere: never a crash of this program, never an error that names no file."""
    folder = tmp_path_factory.mktemp("damage")
    content = bytearray(chamber_recorded(3, name=f"{folder.name}.h5").read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 8] = data.draw(st.binary(min_size=8, max_size=8))
    del content[data.draw(st.integers(1, len(content))) :]
    bad = folder / "bad.h5"
    bad.write_bytes(content)
    try:
        with open_chamber(bad) as recording:
            for visit in recording.visits():
                assert all(p.frame.pixels.shape == (48, 64) for p in visit.pictures)
                recording.objects(visit.number)
            recording.cells()
            recording.revisited()
            recording.scores()
            recording.lines("ledger")
            json.dumps(recording.summary)
    except HspcError as error:
        assert "bad.h5" in str(error)
