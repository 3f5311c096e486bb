"""Damaged files made to look whole: what can be read is read, and nothing waits for a writer that is long dead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from hspc_live.core.errors import RecordingError
from hspc_live.recording.mended import lookup3, without_writer
from hspc_live.recording.recover import Source

CRASHED = """
import os, sys, h5py, numpy as np
file = h5py.File(sys.argv[1], "x", libver=("v110", "v110"))
file.attrs["who"] = "me"
for name in "ab":
    file.create_dataset(name, (0,), "<i8", maxshape=(None,), chunks=(100,))
file.swmr_mode = True
for name in "ab":
    file[name].resize((1000,))
    file[name][:] = np.arange(1000)
file.flush()
os._exit(9)
"""


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    path = tmp_path / "crashed.h5"
    assert subprocess.run([sys.executable, "-c", CRASHED, str(path)]).returncode == 9
    with pytest.raises(OSError, match=r"h5clear|already open"):
        h5py.File(path, locking=False)
    return path


@pytest.mark.parametrize(
    ("text", "sum_"),
    [(b"", 0xDEADBEEF), (b"Four score and seven years ago", 0x17770551)],  # the values its author gives
)
def test_the_checksum_is_that_of_its_author(text, sum_):
    assert lookup3(text) == sum_


@pytest.mark.parametrize("version", ["v108", "v110", "v112"])
def test_the_checksum_is_that_in_files(tmp_path, version):
    path = tmp_path / "file.h5"
    with h5py.File(path, "x", libver=(version, version), userblock_size=0) as file:
        file["x"] = 1
    head = path.read_bytes()[:48]
    assert lookup3(head[:44]) == int.from_bytes(head[44:], "little")


def test_a_file_left_open_is_read_as_it_stands_and_not_changed(crashed):
    before = crashed.read_bytes()
    source = Source(crashed)
    assert source.crashed and not source.truncated and source.attributes("") == {"who": "me"}
    assert all(np.array_equal(source.column(name), np.arange(1000)) for name in "ab")
    source.close()
    source.close()
    assert crashed.read_bytes() == before


def test_a_torn_header_costs_its_dataset_and_no_time(crashed):
    """The kill fell between two parts of a write: HDF5, asked to read beside a writer, would try again for ever."""
    with h5py.File(without_writer(crashed), "r") as file:
        at = h5py.h5o.get_info(file["b"].id).addr
    raw = bytearray(crashed.read_bytes())
    raw[at + 20] ^= 0xFF
    crashed.write_bytes(raw)
    source = Source(crashed)
    assert source.dataset("b") is None and np.array_equal(source.column("a"), np.arange(1000))
    source.close()


@pytest.mark.parametrize("keep", [10, 40])
def test_one_that_was_also_cut_short_in_its_beginning_is_refused_in_words(crashed, keep):
    crashed.write_bytes(crashed.read_bytes()[:keep])
    with pytest.raises(RecordingError, match=r"crashed\.h5 .*damaged"):
        Source(crashed)
