"""Pixels arrive as they were written or not at all, and no end of a process leaves a file behind or takes one away."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hspc_live.core.errors import WireError
from hspc_live.wire.ring import PixelRing, StaleSlot, pixel_folder


@pytest.fixture
def ring(folder):
    with PixelRing.create(folder, slots=3, slot_bytes=1000) as ring:
        yield ring


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            hnp.arrays(st.sampled_from(["u1", "<u2", "<f4"]), hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)),
        ),
        max_size=12,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_reader_sees_the_last_frame_of_each_slot_and_no_older_one(ring, writes):
    newest: dict[int, tuple[int, np.ndarray]] = {}
    older: list[tuple[int, int]] = []
    with PixelRing.attach(ring.path) as reader:
        for slot, array in writes:
            if slot in newest:
                older.append((slot, newest[slot][0]))
            newest[slot] = (ring.write(slot, array), array)
        for slot, (generation, array) in newest.items():
            seen = reader.view(slot, generation, array.shape, array.dtype)
            assert seen.tobytes() == array.tobytes()
            assert reader.still_valid(slot, generation)
        for slot, generation in older:
            with pytest.raises(StaleSlot, match=f"slot {slot}"):
                reader.view(slot, generation, (1,), "u1")


def test_a_view_is_the_ring_itself_and_read_only(ring):
    with PixelRing.attach(ring.path) as reader:
        for end in (ring, reader):
            generation = ring.write(1, np.full((4, 5), 7, np.uint16))
            view = end.view(1, generation, (4, 5), np.uint16)
            with pytest.raises(ValueError, match="read-only"):
                view[0, 0] = 1
            ring.write(1, np.full((4, 5), 8, np.uint16))
            assert (view == 8).all()
            assert not end.still_valid(1, generation)
            del view
        with pytest.raises(WireError, match="only the process that created"):
            reader.write(0, np.zeros(1, np.uint8))


def test_a_strided_array_is_written_as_it_reads(ring):
    array = np.arange(200, dtype=np.uint8).reshape(10, 20)[::2, ::3]
    generation = ring.write(0, array)
    assert np.array_equal(ring.view(0, generation, array.shape, array.dtype), array)


def test_a_slot_that_was_never_written_or_is_being_written_is_stale(ring):
    with pytest.raises(StaleSlot):
        ring.view(0, 0, (1,), "u1")
    generation = ring.write(0, np.ones(5, np.uint8))
    ring._generations[0] += 1  # as it stands while a writer copies, or where one died doing so
    for guess in (generation, generation + 1):
        with pytest.raises(StaleSlot):
            ring.view(0, guess, (1,), "u1")
    after = ring.write(0, np.ones(5, np.uint8))
    assert after > generation
    assert after % 2 == 0
    assert ring.view(0, after, (5,), "u1").sum() == 5


@pytest.mark.parametrize(
    ("slot", "shape", "dtype", "said"),
    [
        (3, (1,), "u1", "slot 3 of a ring of 3"),
        (-1, (1,), "u1", "slot -1"),
        (0, (1001,), "u1", "1001 bytes does not fit a slot of 1000"),
        (0, (2**40, 2**40), "u1", "does not fit"),
        (0, (-1, -5), "u1", "no array"),
        (0, (1,), "O", "no array"),
    ],
)
def test_what_does_not_fit_is_refused(ring, slot, shape, dtype, said):
    with pytest.raises(WireError, match=said):
        ring.view(slot, 2, shape, dtype)


def test_a_frame_too_large_is_refused_and_harms_no_neighbour(ring):
    generation = ring.write(1, np.full(1000, 9, np.uint8))
    with pytest.raises(WireError, match="does not fit"):
        ring.write(0, np.zeros(1001, np.uint8))
    ring.write(0, np.zeros(1000, np.uint8))
    ring.write(2, np.zeros(1000, np.uint8))
    assert (ring.view(1, generation, (1000,), "u1") == 9).all()


def test_the_file_is_private_and_goes_with_its_creator_only(folder):
    with PixelRing.create(folder, 2, 100) as ring:
        assert stat.S_IMODE(ring.path.stat().st_mode) == 0o600
        with PixelRing.attach(ring.path):
            pass
        assert ring.path.exists()
        ring.close()
        ring.close()
        assert list(folder.iterdir()) == []
        with pytest.raises(WireError, match="closed"):
            ring.view(0, 2, (1,), "u1")


def test_a_view_that_is_still_held_outlives_the_ring(folder):
    with PixelRing.create(folder, 1, 100) as ring:
        generation = ring.write(0, np.full(100, 3, np.uint8))
        view = ring.view(0, generation, (100,), "u1")
    assert (view == 3).all()


def test_what_is_no_ring_is_refused(folder):
    with pytest.raises(WireError, match="No such file"):
        PixelRing.attach(folder / "missing")
    for content in (b"", b"short", bytes(5000)):
        (folder / "x").write_bytes(content)
        with pytest.raises(WireError, match="not a pixel ring"):
            PixelRing.attach(folder / "x")
    with PixelRing.create(folder, 4, 5000) as ring:
        (folder / "x").write_bytes(ring.path.read_bytes()[:-1])
    with pytest.raises(WireError, match="not a pixel ring"):
        PixelRing.attach(folder / "x")


def test_a_ring_larger_than_the_disk_is_refused_and_leaves_no_file(folder):
    with pytest.raises(WireError, match="no room"):
        PixelRing.create(folder, 1 << 20, 1 << 40)
    assert list(folder.iterdir()) == []
    for slots, slot_bytes in ((0, 10), (10, 0)):
        with pytest.raises(WireError, match="at least 1"):
            PixelRing.create(folder, slots, slot_bytes)


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs /dev/shm")
def test_a_ring_that_shared_memory_cannot_hold_is_refused_at_once(folder):
    """A file may be larger than the memory behind it; the first write to what is missing would kill the process."""
    shared = pixel_folder(folder)
    with pytest.raises(WireError, match="no room"):
        PixelRing.create(shared, 1, shutil.disk_usage(shared).total + (1 << 30))
    assert list(shared.iterdir()) == []
    shared.rmdir()


def test_the_folder_for_pixels_is_private(folder):
    found = pixel_folder(folder)
    assert stat.S_IMODE(found.stat().st_mode) == 0o700
    if found != folder:
        shutil.rmtree(found)


READER = """
import sys
from pathlib import Path
import numpy as np
from hspc_live.wire.ring import PixelRing, StaleSlot
ring = PixelRing.attach(Path(sys.argv[1]))
print("up", flush=True)
good = torn_unseen = noticed = 0
while int(ring._generations[1]) == 0:
    generation = int(ring._generations[0])
    try:
        view = ring.view(0, generation, (ring.slot_bytes,), np.uint8)
        if view[0] != view[-1] and ring.still_valid(0, generation):
            torn_unseen += 1
        lowest, highest = view.min(), view.max()
    except StaleSlot:
        continue
    if not ring.still_valid(0, generation):
        noticed += 1
    elif lowest == highest:
        good += 1
    else:
        torn_unseen += 1
print(good, noticed, torn_unseen, flush=True)
"""


def test_a_reader_raced_by_the_writer_never_takes_a_torn_frame_for_whole(folder, start):
    size = 1 << 20
    with PixelRing.create(folder, 2, size) as ring:
        ring.write(0, np.zeros(size, np.uint8))
        process = start(READER, ring.path)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        until = time.monotonic() + 1.0
        number = 0
        while time.monotonic() < until:
            number += 1
            ring.write(0, np.full(size, number % 251, np.uint8))
            if number % 4 == 0:
                time.sleep(0.002)  # now and then a frame may be read in peace
        ring.write(1, np.zeros(1, np.uint8))
        good, noticed, torn_unseen = map(int, process.stdout.readline().split())
    assert torn_unseen == 0
    assert good > 0
    assert noticed > 0


def test_a_frame_cannot_be_had_while_it_is_being_overwritten(folder):
    size = 32 << 20
    frame = np.zeros((size, 2), np.uint8)[:, 0]  # a slow one to copy
    with PixelRing.create(folder, 1, size) as ring, PixelRing.attach(ring.path) as reader:
        seen_writing = False
        until = time.monotonic() + 10
        while not seen_writing and time.monotonic() < until:
            before = ring.write(0, frame[:1])
            writer = threading.Thread(target=ring.write, args=(0, frame))
            writer.start()
            while writer.is_alive() and not seen_writing:
                seen_writing = not reader.still_valid(0, before) and not reader.still_valid(0, before + 2)
            writer.join()
            assert reader.still_valid(0, before + 2)
        assert seen_writing


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_killing_a_reader_leaves_the_ring_to_the_others(folder, start):
    source = "import sys, time; from pathlib import Path; from hspc_live.wire.ring import PixelRing\n"
    source += "ring = PixelRing.attach(Path(sys.argv[1])); view = ring.view(0, 2, (100,), 'u1')\n"
    source += "print(view.sum(), flush=True); time.sleep(30)"
    with PixelRing.create(folder, 1, 100) as ring:
        ring.write(0, np.full(100, 2, np.uint8))
        process = start(source, ring.path)
        assert process.stdout is not None
        assert process.stdout.readline() == "200\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait(5) == -signal.SIGKILL
        assert ring.path.exists()
        generation = ring.write(0, np.full(100, 3, np.uint8))
        with PixelRing.attach(ring.path) as other:
            assert (other.view(0, generation, (100,), "u1") == 3).all()


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_killing_the_creator_leaves_one_file_and_readers_alive(folder, start):
    source = "import sys, time, numpy as np; from pathlib import Path; from hspc_live.wire.ring import PixelRing\n"
    source += "ring = PixelRing.create(Path(sys.argv[1]), 1, 100); ring.write(0, np.full(100, 2, 'u1'))\n"
    source += "print(ring.path, flush=True); time.sleep(30)"
    process = start(source, folder)
    assert process.stdout is not None
    process.stdout.readline()
    (path,) = folder.iterdir()
    with PixelRing.attach(path) as reader:
        process.kill()
        process.wait(5)
        shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
        assert reader.view(0, 2, (100,), "u1").sum() == 200
