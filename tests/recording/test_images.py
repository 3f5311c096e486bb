"""Still images: what is read, what is refused, and that every refusal names the file and the mend."""

from __future__ import annotations

import errno
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile

from hspc_live.core.errors import RecordingError
from hspc_live.recording.images import image_files, read_image

GREY8 = np.arange(600, dtype=np.uint16).reshape(20, 30).astype(np.uint8)
GREY16 = (np.arange(600, dtype=np.uint16) * 100).reshape(20, 30)


def png(path, array):
    path.write_bytes(cv2.imencode(".png", array)[1].tobytes())
    return path


def tiff(path, array, **kwargs):
    tifffile.imwrite(path, array, **kwargs)
    return path


def one_bit_palette(path):
    """8 × 2 pixels, black and white by a palette of two, as drawing programs store masks."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 8, 2, 1, 3, 0, 0, 0)),
        (b"PLTE", bytes([0, 0, 0, 255, 255, 255])),
        (b"IDAT", zlib.compress(bytes([0, 0xF0, 0, 0x0F]))),
        (b"IEND", b""),
    ]
    data = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(data))
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape[:2] == (2, 8)
    return path


def refused(path, *words):
    with pytest.raises(RecordingError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("grey", [GREY8, GREY16], ids=["uint8", "uint16"])
def test_pixels_come_back_as_they_are(tmp_path, grey):
    for path in (png(tmp_path / "a.png", grey), tiff(tmp_path / "a.tif", grey)):
        image = read_image(path)
        assert image.pixels.dtype == grey.dtype
        assert np.array_equal(image.pixels, grey)
        assert image.um_per_px is None


def test_the_content_counts_and_not_the_name(tmp_path):
    assert np.array_equal(read_image(tiff(tmp_path / "wrong.png", GREY16, photometric="minisblack")).pixels, GREY16)
    assert np.array_equal(read_image(png(tmp_path / "b.png", GREY8).rename(tmp_path / "wrong.tif")).pixels, GREY8)


@pytest.mark.parametrize("unit", [("µm", 0.25), ("nm", 250.0), ("mm", 0.00025), (None, 0.25)])
def test_an_ome_tiff_states_its_pixel_size(tmp_path, unit):
    name, size = unit
    metadata = {"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeY": size}
    if name is not None:
        metadata |= {"PhysicalSizeXUnit": name, "PhysicalSizeYUnit": name}
    image = read_image(tiff(tmp_path / "a.ome.tif", GREY16, ome=True, metadata=metadata))
    assert image.um_per_px == pytest.approx(0.25)
    assert np.array_equal(image.pixels, GREY16)


def test_an_ome_tiff_without_scale_or_with_oblong_pixels(tmp_path):
    assert read_image(tiff(tmp_path / "no.ome.tif", GREY8, ome=True, metadata={"axes": "YX"})).um_per_px is None
    odd = {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
    refused(tiff(tmp_path / "odd.ome.tif", GREY8, ome=True, metadata=odd), "square")


def test_grey_in_colours_is_grey(tmp_path):
    same = np.repeat(GREY8[:, :, None], 3, axis=2)
    alpha = np.concatenate((same, np.full((20, 30, 1), 255, np.uint8)), axis=2)
    for path in (
        png(tmp_path / "rgb.png", same),
        png(tmp_path / "rgba.png", alpha),
        tiff(tmp_path / "rgb.tif", same, photometric="rgb"),
    ):
        assert np.array_equal(read_image(path).pixels, GREY8)


def test_true_colour_is_refused(tmp_path):
    colour = np.stack((GREY8, GREY8, 255 - GREY8), axis=2)
    refused(png(tmp_path / "c.png", colour), "colour", "convert")
    refused(tiff(tmp_path / "c.tif", colour, photometric="rgb"), "colour", "convert")


@pytest.mark.parametrize("value", [0.5, -1.0, 65536.0, np.nan, np.inf, -np.inf])
def test_floating_point_that_is_no_count_is_refused(tmp_path, value):
    """One such pixel is enough."""
    for kind in (np.float32, np.float64):
        array = GREY16.astype(kind)
        array[3, 4] = value
        refused(tiff(tmp_path / "f.tif", array), "floating point", "8 or 16 bits")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int16, np.int32, np.uint32, np.int64])
def test_counts_in_another_type_are_read_exactly_and_that_is_noted(tmp_path, kind):
    grey = np.array([[0, 1], [2047, 2048 if kind in (np.float16, np.int16) else 65535]], np.uint16)
    image = read_image(tiff(tmp_path / "a.tif", grey.astype(kind)))
    assert image.pixels.dtype == np.uint16 and np.array_equal(image.pixels, grey)
    assert image.note is not None and np.dtype(kind).name in image.note
    assert read_image(tiff(tmp_path / "b.tif", grey)).note is None


def test_of_a_palette_the_grey_that_it_shows_is_read(tmp_path):
    """Its numbers say nothing by themselves: here black is 255 in one, and the other shows colours."""
    grey = np.repeat(257 * np.arange(256, dtype=np.uint16)[None, ::-1], 3, axis=0)
    path = tiff(tmp_path / "grey.tif", GREY8, photometric="palette", colormap=grey)
    assert np.array_equal(read_image(path).pixels, 255 - GREY8)
    colours = np.random.default_rng(0).integers(0, 65535, (3, 256)).astype(np.uint16)
    refused(tiff(tmp_path / "colours.tif", GREY8, photometric="palette", colormap=colours), "colour")


def test_masks_stacks_and_empty_pictures_are_refused(tmp_path):
    refused(tiff(tmp_path / "bits.tif", GREY8 > 9, photometric="minisblack"), "one bit")
    (tmp_path / "bits.png").write_bytes(
        cv2.imencode(".png", np.where(GREY8 > 9, 255, 0).astype(np.uint8), [cv2.IMWRITE_PNG_BILEVEL, 1])[1]
    )
    refused(tmp_path / "bits.png", "one bit")
    refused(one_bit_palette(tmp_path / "palette.png"), "one bit")
    refused(tiff(tmp_path / "pages.tif", np.stack([GREY8, GREY8, GREY8]), photometric="minisblack"), "3 pages")
    for value in (-1, 65536):
        refused(tiff(tmp_path / "int.tif", np.full((20, 30), value, np.int32)), "int32", str(value), "0 to 65535")


def test_pictures_without_pixels_are_refused(tmp_path):
    body = struct.pack(">IIBBBBB", 0, 0, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", body), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    data = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in parts]
    (tmp_path / "nothing.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(data))
    refused(tmp_path / "nothing.png", "0 × 0")
    with pytest.warns(UserWarning, match="zero-size"):
        tiff(tmp_path / "nothing.tif", np.zeros((0, 0), np.uint8))
    refused(tmp_path / "nothing.tif", "0 × 0")


@pytest.mark.parametrize("part", [0.3, 0.5, 0.9, 0.99])
def test_a_png_file_cut_short_or_damaged_is_refused_without_noise(tmp_path, part, capfd):
    whole = png(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (90, 80), np.uint8)).read_bytes()
    at = int(len(whole) * part)
    (tmp_path / "cut.png").write_bytes(whole[:at])
    refused(tmp_path / "cut.png", "broken")
    (tmp_path / "bit.png").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    refused(tmp_path / "bit.png", "broken")
    assert capfd.readouterr().err == ""


def test_a_stack_that_is_stored_as_one_page_is_refused(tmp_path):
    """ImageJ writes those of more than 4 GB so: one directory, and the planes one after the other."""
    path = tiff(tmp_path / "a.tif", np.stack([GREY16] * 3), imagej=True)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        after = file.pages.first.offset + 2 + 12 * len(file.pages.first.tags)
    data[after : after + 4] = bytes(4)  # no further directory
    path.write_bytes(data)
    refused(path, "(3, 20, 30)")


def test_broken_files_are_refused(tmp_path):
    whole = png(tmp_path / "a.png", GREY16).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[:40])
    refused(tmp_path / "half.png", "broken")
    good = tiff(tmp_path / "a.tif", GREY16).read_bytes()
    (tmp_path / "half.tif").write_bytes(good[: len(good) // 2])
    refused(tmp_path / "half.tif")
    (tmp_path / "head.tif").write_bytes(good[:6])
    refused(tmp_path / "head.tif")
    (tmp_path / "nothing.png").write_bytes(b"")
    refused(tmp_path / "nothing.png", "empty")
    (tmp_path / "text.png").write_text("no picture")
    refused(tmp_path / "text.png", "neither PNG nor TIFF")
    refused(tmp_path / "missing.png", "cannot be read")
    refused(tmp_path, "no picture in this folder, PNG or TIFF")


def test_a_folder_stands_for_its_pictures(tmp_path):
    for name in ("b.png", "a.tif", "c.TIFF"):
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    assert [p.name for p in image_files([tmp_path])] == ["a.tif", "b.png", "c.TIFF"]
    (tmp_path / "._a.tif").touch()
    (tmp_path / "empty").mkdir()
    found = image_files([tmp_path, tmp_path / "empty", tmp_path / "a.tif"])
    assert [p.name for p in found] == ["a.tif", "b.png", "c.TIFF", "empty"], "hidden files out, none twice"
    refused(tmp_path / "empty", "no picture in this folder, PNG or TIFF")


def test_what_cannot_be_read_in_a_folder_is_not_passed_over(tmp_path):
    """A link that leads nowhere, or to itself: the user believes that there is a picture."""
    png(tmp_path / "a.png", GREY8)
    (tmp_path / "gone.png").symlink_to(tmp_path / "moved away.png")
    (tmp_path / "loop.tif").symlink_to(tmp_path / "loop.tif")
    (tmp_path / "folder.png").mkdir()
    assert [p.name for p in image_files([tmp_path])] == ["a.png", "gone.png", "loop.tif"]
    for name in ("gone.png", "loop.tif"):
        refused(tmp_path / name, "cannot be read")
    endless = tmp_path / ("a" * 300)
    assert image_files([endless]) == [endless]
    refused(endless, "cannot be read")


def test_a_closed_folder_is_said_to_be_closed(tmp_path, monkeypatch):
    def closed(_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    png(tmp_path / "a.png", GREY8)
    monkeypatch.setattr(os, "listdir", closed)
    assert image_files([tmp_path]) == [tmp_path]
    refused(tmp_path, "folder cannot be read", "Permission denied")


def test_colours_in_planes_and_two_samples(tmp_path):
    grey = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
    tifffile.imwrite(tmp_path / "planes.tif", np.stack([grey] * 3), photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_image(tmp_path / "planes.tif").pixels, grey)
    two = np.stack([grey, grey[::-1]], axis=-1)
    tifffile.imwrite(tmp_path / "two.tif", two, photometric="minisblack", planarconfig="contig", extrasamples=[])
    refused(tmp_path / "two.tif")


def test_compressed_tiff_files_are_read(tmp_path):
    """Whatever tifffile reads by itself, and LZW and JPEG, which it does not without a further package."""
    smooth = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (64, 80), np.uint8), (0, 0), 3)
    codes = {"none": 1, "lzw": 5, "jpeg": 7, "deflate": 8, "packbits": 32773}
    for name, code in codes.items():
        path = tmp_path / f"{name}.tif"
        path.write_bytes(cv2.imencode(".tif", smooth, [cv2.IMWRITE_TIFF_COMPRESSION, code])[1].tobytes())
        difference = np.abs(read_image(path).pixels.astype(int) - smooth).max()
        assert difference == 0 if name != "jpeg" else difference < 20, name
    assert np.array_equal(read_image(tiff(tmp_path / "tiled.tif", GREY16, tile=(16, 16))).pixels, GREY16)
    assert np.array_equal(read_image(tiff(tmp_path / "big.tif", GREY16, bigtiff=True)).pixels, GREY16)


@pytest.mark.parametrize("grey", [GREY8, GREY16], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "LZW"])
def test_where_white_is_zero_the_picture_is_turned_round_and_that_is_said(tmp_path, grey, packed):
    path = tiff(tmp_path / "w.tif", np.invert(grey), photometric="miniswhite")
    if packed:  # which another program than tifffile has to read; none here writes it, so the tag is set afterwards
        path.write_bytes(cv2.imencode(".tif", np.invert(grey), [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes())
        with tifffile.TiffFile(path, mode="r+") as file:
            file.pages[0].tags["PhotometricInterpretation"].overwrite(0)
    image = read_image(path)
    assert np.array_equal(image.pixels, grey) and image.pixels.dtype == grey.dtype
    assert image.note is not None and "white is 0" in image.note and "turned round" in image.note
    assert read_image(tiff(tmp_path / "b.tif", grey)).note is None


@pytest.mark.parametrize(
    ("unit", "lines"), [("micron", 4.0), ("um", 4.0), ("\\u00B5m", 4.0), ("nm", 0.004), ("mm", 4e3)]
)
def test_what_was_set_in_imagej_is_stated(tmp_path, unit, lines):
    path = tiff(tmp_path / "a.tif", GREY16, imagej=True, resolution=(lines, lines), metadata={"unit": unit})
    assert read_image(path).um_per_px == pytest.approx(0.25)


def test_an_imagej_file_without_a_scale_states_none(tmp_path):
    """72 pixels an inch are a printer's, not a microscope's."""
    assert read_image(tiff(tmp_path / "a.tif", GREY16, imagej=True)).um_per_px is None
    assert read_image(tiff(tmp_path / "b.tif", GREY16, resolution=(72, 72), resolutionunit="INCH")).um_per_px is None
    path = tiff(tmp_path / "c.tif", GREY16, imagej=True, resolution=(4, 4), metadata={"unit": "pixel"})
    assert read_image(path).um_per_px is None
    path = tiff(tmp_path / "d.tif", GREY16, imagej=True, resolution=(4, 2), metadata={"unit": "um"})
    refused(path, "square")
