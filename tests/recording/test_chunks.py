"""Chunks made without HDF5: to HDF5, and to everybody who reads with it, they are its own."""

from __future__ import annotations

from dataclasses import replace

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.recording import stream as stream_module
from hspc_live.recording.chunks import ROW, Chunks, block_of, fletcher32
from hspc_live.recording.reader import open_recording
from hspc_live.recording.stream import new_images


def drawn(seed: int, shape: tuple[int, ...], dtype: str, levels: int) -> np.ndarray:
    """Noise of few or many levels: from what compresses to almost nothing to what does not at all."""
    return np.random.default_rng(seed).integers(0, levels, shape).astype(dtype)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 130),
    eights=st.integers(1, 40),
    count=st.integers(1, 9),
    dtype=st.sampled_from(["u1", "u2"]),
    levels=st.sampled_from([1, 2, 17, 256]),
    seed=st.integers(0, 99),
)
def test_hdf5_reads_what_was_packed_without_it(tmp_path_factory, height, eights, count, dtype, levels, seed):
    shape = (height, 8 * eights)
    pictures = drawn(seed, (count, *shape), dtype, levels)
    chunks = Chunks.of(shape, np.dtype(dtype))
    if chunks is None:  # nothing near to divide it by
        assert block_of(height * 8 * eights, pictures.itemsize) is None
        return
    with h5py.File(tmp_path_factory.mktemp("packed") / "one.h5", "x") as file:
        dataset = new_images(file, "image", shape, dtype)
        dataset.resize(2 * count, axis=0)
        for begin in (0, count):  # the memory of the first block serves the second
            told = chunks.compress(pictures)
            made = [bytes(chunk) for chunk in chunks.take()]
            assert sum(map(len, made)) == told
            for row, chunk in enumerate(made, begin):
                dataset.id.write_direct_chunk((row, 0, 0), chunk)
            pictures = pictures[::-1].copy()
        assert np.array_equal(dataset[:count], pictures) and np.array_equal(dataset[count:], pictures[::-1])


@pytest.mark.parametrize(("shape", "dtype"), [((64, 128), "u1"), ((64, 64), "u2"), ((256, 1024), "u1")])
def test_where_the_blocks_are_bitshuffles_own_the_bytes_are_hdf5s(tmp_path, shape, dtype):
    picture = drawn(1, shape, dtype, 40)
    with h5py.File(tmp_path / "one.h5", "x") as file:
        dataset = new_images(file, "image", shape, dtype)
        dataset.resize(1, axis=0)
        dataset[0] = picture
        file.flush()
        theirs = dataset.id.read_direct_chunk((0, 0, 0))[1]
    chunks = Chunks.of(shape, np.dtype(dtype))
    assert chunks is not None
    chunks.compress(picture[None])
    assert [bytes(chunk) for chunk in chunks.take()] == [theirs]


@settings(deadline=None)
@given(st.integers(1, 3000), st.sampled_from(["noise", "zeros", "ones", "high", "low", "almost"]), st.integers(0, 99))
def test_the_checksum_is_hdf5s(tmp_path_factory, length, kind, seed):
    data = {
        "noise": drawn(seed, (length,), "u1", 256),
        "zeros": np.zeros(length, "u1"),
        "ones": np.full(length, 255, "u1"),
        "high": (np.arange(length) % 2 == 0).astype("u1") * np.uint8(255),
        "low": (np.arange(length) % 2).astype("u1") * np.uint8(255),
        "almost": np.where(np.arange(length) == seed % length, 1, 0).astype("u1"),
    }[kind]
    with h5py.File(tmp_path_factory.mktemp("sum") / "one.h5", "x") as file:
        dataset = file.create_dataset("bytes", data=data, chunks=(length,), fletcher32=True)
        file.flush()
        stored = dataset.id.read_direct_chunk((0,))[1]
    padded = np.concatenate([data, np.zeros(-length % ROW, "u1")])
    assert fletcher32(padded, length) == int.from_bytes(stored[length:], "little")


def test_a_byte_that_changed_on_the_disk_makes_the_picture_unreadable(tmp_path):
    picture = drawn(2, (48, 64), "u2", 300)
    chunks = Chunks.of(picture.shape, picture.dtype)
    assert chunks is not None
    chunks.compress(picture[None])
    (good,) = (bytes(chunk) for chunk in chunks.take())
    with h5py.File(tmp_path / "one.h5", "x") as file:
        dataset = new_images(file, "image", picture.shape, "u2")
        dataset.resize(1, axis=0)
        for place in range(0, len(good), 97):
            dataset.id.write_direct_chunk((0, 0, 0), good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
            with pytest.raises(OSError):
                dataset[0]
        dataset.id.write_direct_chunk((0, 0, 0), good)
        assert np.array_equal(dataset[0], picture)


@pytest.mark.parametrize(
    ("elements", "itemsize", "block"),
    [
        (80 * 320, 1, 6400),
        (80 * 80, 1, 6400),  # smaller than a block: all of it
        (256 * 1024, 1, 8192),
        (2048 * 2048, 2, 4096),
        (81 * 321, 1, None),  # bitshuffle turns eight elements at a time
        (8 * 8191, 1, None),  # of two factors, neither of them near
    ],
)
def test_blocks_divide_the_picture(elements, itemsize, block):
    assert block_of(elements, itemsize) == block


@pytest.mark.parametrize("why", ["odd pictures", "no function"])
def test_where_hdf5_has_to_do_it_the_recording_is_the_same(create, camera, tmp_path, monkeypatch, why):
    if why == "no function":
        monkeypatch.setattr(stream_module.Chunks, "of", classmethod(lambda *_: None))
    shape = (81, 321) if why == "odd pictures" else (80, 320)
    camera = replace(camera, height_px=shape[0], width_px=shape[1])
    writer = create(tmp_path / "run.rtdc", camera=camera)
    for index in range(300):  # more than one block
        writer.write_frame(index, index * 1000, drawn(index, shape, "u1", 256), 0)
    writer.close({"balanced": True}, {})
    with open_recording(tmp_path / "run.rtdc") as recording:
        frames = list(recording.frames())
        assert recording.exact and [frame.index for frame in frames] == list(range(300))
        assert all(np.array_equal(frame.pixels, drawn(frame.index, shape, "u1", 256)) for frame in frames)
    with h5py.File(tmp_path / "run.rtdc") as file:
        assert hdf5plugin.Bitshuffle.filter_id in [
            file["hspc/frames/image"].id.get_create_plist().get_filter(i)[0] for i in range(2)
        ]


def test_pictures_that_do_not_compress_still_fit_in_the_room_set_aside(create, camera, tmp_path):
    """Noise grows by what compression adds to it; many blocks of it, each handed to the other thread."""
    writer = create(tmp_path / "run.rtdc")
    shape = (camera.height_px, camera.width_px)
    for index in range(1100):
        writer.write_frame(index, index * 1000, drawn(index, shape, "u1", 256), 0)
    counts = writer.flush()
    assert counts["frames"] == 1100
    writer.close({"balanced": True}, {})
    with open_recording(tmp_path / "run.rtdc") as recording:
        for frame in recording.frames():
            assert np.array_equal(frame.pixels, drawn(frame.index, shape, "u1", 256))
        assert recording.exact
