"""Still images from files: PNG, TIFF, OME-TIFF, ImageJ's; a grey picture of uint8 or uint16 each, its scale if given.

What a file holds decides, not its name. Every refusal names the file and the mend; nothing is guessed, scaled or cut:
a colour picture is read only if it is a grey one in disguise, another type of number only if it holds camera counts.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from hspc_live.core.errors import RecordingError
from hspc_live.core.values import Pixels
from hspc_live.recording import png

SUFFIXES = (".png", ".tif", ".tiff")
_PNG_HEADER = ">IIBB"  # of the first chunk: width, height, bits a sample, kind of colour (0 is grey)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MOST_COUNTS = 65_535
TURNED = "the file says that white is 0 in it (WhiteIsZero): turned round, so that more light is a larger number"
_UM = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "": 1.0}  # OME's default is µm


@dataclass(frozen=True, slots=True, eq=False)
class StillImage:
    """One picture: `pixels` (height, width) uint8 or uint16; `um_per_px` where the file states it, else None.

    `note` says what was converted, without any loss, to come to these pixels; None where they are the file's own.
    """

    path: Path
    pixels: Pixels
    um_per_px: float | None
    note: str | None = None


def image_files(paths: list[Path], leave_out: Callable[[Path], bool] = lambda _: False) -> list[Path]:
    """The files among `paths`; a folder stands for its PNG and TIFF files, by name.

    Hidden files are left out, so is a file named twice, and in folders whatever `leave_out` says of. What cannot be
    read is kept, and reading it says so: a path that does not exist, a link that leads nowhere, a folder that is closed
    or without any picture.
    """
    files: list[Path] = []
    for path in paths:
        files += [file for file in _inside(path) if not leave_out(file)] or [path]
    return list({os.path.realpath(file): file for file in files}.values())


def _inside(path: Path) -> list[Path]:
    """The pictures in a folder, by name; none where it is no folder, or cannot be looked into."""
    if not os.path.isdir(path):  # pathlib's own raises for names that are too long
        return []
    try:
        named = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    except OSError:
        return []
    return sorted(p for p in named if os.path.isfile(p) or (os.path.islink(p) and not os.path.exists(p)))


def read_image(path: Path) -> StillImage:
    """Read one picture. Raises RecordingError, naming the file and what to do."""
    if os.path.isdir(path):
        try:
            os.listdir(path)
        except OSError as error:
            raise RecordingError(f"{path}: the folder cannot be read: {error.strerror}") from error
        raise RecordingError(f"{path}: no picture in this folder, PNG or TIFF; name the files, or another folder")
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
    um_per_px, turned = None, False
    if head.startswith(png.SIGNATURE):
        array = _png(path)
    elif head.startswith(_TIFF):
        array, um_per_px, turned = _tiff(path)
    elif not head:
        raise RecordingError(f"{path}: the file is empty; copy it again from where it came from")
    else:
        raise RecordingError(f"{path}: neither PNG nor TIFF inside, whatever its name says; save it as one of these")
    pixels, converted = _grey(np.asarray(array), path)
    notes = [*([TURNED] if turned else []), *([converted] if converted else [])]
    return StillImage(path, pixels, um_per_px, "; ".join(notes) or None)


def _png(path: Path) -> NDArray[Any]:
    """The picture of a PNG file; one channel, or colours in OpenCV's order."""
    data = path.read_bytes()
    broken = RecordingError(f"{path}: a broken PNG file; copy it again from where it came from")
    try:  # OpenCV would tell a broken file, too, but with lines of its own on stderr
        width, height, bits, kind = struct.unpack_from(_PNG_HEADER, dict(png.chunks(data))[b"IHDR"])
    except (ValueError, KeyError, struct.error):
        raise broken from None
    if not width or not height:
        raise _no_pixels(path, (height, width))
    if bits == 1 or (bits < 8 and kind == 0):  # of one bit, with a palette, too
        many = "one bit" if bits == 1 else f"{bits} bits"
        raise RecordingError(f"{path}: {many} a pixel, a mask and no picture; give the grey image itself")
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # a header that promises more than OpenCV would ever read
        array = None
    if array is None:
        raise broken
    return np.asarray(array)


def _tiff(path: Path) -> tuple[NDArray[Any], float | None, bool]:
    """The one page of a TIFF file, its pixel size, and whether it was turned round to have black as 0."""
    try:
        with tifffile.TiffFile(path) as file:
            pages = len(file.pages)
            if pages > 1:
                raise RecordingError(f"{path}: {pages} pages; save the one to segment as a file of its own")
            page = file.series[0].pages[0] if file.series else None
            if not isinstance(page, tifffile.TiffPage):
                raise RecordingError(f"{path}: a TIFF file without a picture; save it again")
            if not page.imagewidth or not page.imagelength:
                raise _no_pixels(path, (page.imagelength, page.imagewidth))
            if file.series[0].size > page.size:  # ImageJ writes stacks over 4 GB, and others at will, as one page
                raise RecordingError(f"{path}: a stack {file.series[0].shape}; save the plane to segment by itself")
            um_per_px = _ome_scale(file.ome_metadata, path) if file.is_ome else None
            if file.is_imagej:
                um_per_px = _imagej_scale((file.imagej_metadata or {}).get("unit"), page, path)
            if page.bitspersample == 1:
                raise RecordingError(f"{path}: one bit a pixel, a mask and no picture; give the grey image itself")
            array = _decoded(page, path)
            if array.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                array = np.moveaxis(array, 0, -1)  # colours as planes, one after the other
            if array.ndim == 3 and not page.extrasamples:  # the last is no alpha: it has to agree like the others
                array = array[:, :, [*range(array.shape[2]), *[0] * (3 - array.shape[2])]]
            return array, um_per_px, page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    # tifffile raises whatever the broken place raises: its own, struct's, zlib's (ValueError), imagecodecs missing
    except (
        tifffile.TiffFileError,
        struct.error,
        ValueError,
        OSError,
        KeyError,
        IndexError,
        TypeError,
        RuntimeError,
    ) as error:
        raise RecordingError(
            f"{path}: a TIFF file that cannot be read ({error}); save it again, uncompressed"
        ) from error


def _decoded(page: tifffile.TiffPage, path: Path) -> NDArray[Any]:
    """The page's pixels; black is 0 in all of them.

    tifffile reads LZW, JPEG and their like only with a further package, so OpenCV does where it can.
    """
    inverse = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    shown = False  # in the colours of a palette, if there is one
    try:
        array = page.asarray()
    except ValueError as error:
        read = _by_opencv(page, path) if "imagecodecs" in str(error) else None
        if read is None or read.shape[:2] != page.shape[:2]:
            raise
        array, shown = np.asarray(read), True
    if inverse:
        if array.dtype.kind != "u":
            raise RecordingError(f"{path}: {array.dtype} pixels with white as 0; save it as 8 or 16 bits")
        array = np.invert(array)
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None and not shown:
        array = np.moveaxis(page.colormap[:, array] >> 8, 0, -1).astype(np.uint8)  # what is shown, not its number
    return np.asarray(array)


def _by_opencv(page: tifffile.TiffPage, path: Path) -> NDArray[Any] | None:
    """The page as OpenCV reads it, None where it cannot; where white is 0, it still is."""
    data = np.fromfile(path, np.uint8)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        # OpenCV would turn 8 bits round and leave 16 as they are: told that black is 0, it leaves both
        place = page.tags["PhotometricInterpretation"].valueoffset
        black = struct.pack(f"{page.parent.byteorder}H", tifffile.PHOTOMETRIC.MINISBLACK)
        data[place : place + len(black)] = np.frombuffer(black, np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)


def _ome_scale(xml: str | None, path: Path) -> float | None:
    """PhysicalSizeX in µm, None if the file leaves it out."""
    try:
        root = ElementTree.fromstring(xml or "<OME/>")
    except ElementTree.ParseError:
        return None
    found = next((e for e in root.iter() if e.tag.rpartition("}")[2] == "Pixels"), None)
    if found is None:
        return None
    across, down = _um(found, "X"), _um(found, "Y")
    return across if across is None or down is None else _square(across, down, path)


def _imagej_scale(unit: Any, page: tifffile.TiffPage, path: Path) -> float | None:
    """What ImageJ and Fiji have under Image > Properties, in µm; None for a picture whose scale nobody set."""
    one = _UM.get(str(unit or "pixel").replace("\\u00B5", "µ").replace("micron", "um"))
    lines = [page.tags.valueof(f"{axis}Resolution") for axis in "XY"]  # pixels a unit, as a fraction
    if one is None or not all(isinstance(line, tuple) and line[0] > 0 and line[1] > 0 for line in lines):
        return None
    across, down = (one * below / above for above, below in lines)
    return _square(across, down, path)


def _square(across: float, down: float, path: Path) -> float:
    if abs(across - down) > 0.01 * across:
        raise RecordingError(f"{path}: pixels of {across:g} × {down:g} µm; resample the image to square pixels")
    return across


def _um(pixels: ElementTree.Element, axis: str) -> float | None:
    """The pixels' size along an axis; None if left out, no positive number, or in a unit of the screen ("pixel")."""
    try:
        size = float(pixels.attrib[f"PhysicalSize{axis}"]) * _UM[pixels.attrib.get(f"PhysicalSize{axis}Unit", "")]
    except (ValueError, KeyError):
        return None
    return size if 0 < size < float("inf") else None


def _grey(array: NDArray[Any], path: Path) -> tuple[Pixels, str | None]:
    """One grey picture of uint8 or uint16, and what was converted. Raises RecordingError."""
    if array.size == 0:
        raise _no_pixels(path, array.shape)
    if array.ndim == 3 and array.shape[2] in (1, 2, 3, 4):
        array = _one_channel(array, path)
    if array.ndim != 2:
        raise RecordingError(f"{path}: {array.ndim} dimensions {array.shape}; save one plane as a file of its own")
    if array.dtype == bool:
        raise RecordingError(f"{path}: one bit a pixel, a mask and no picture; give the grey image itself")
    if array.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(array), None
    kind = _not_counts(array)
    if kind is not None:
        raise RecordingError(f"{path}: {kind}; save the camera's own counts as 8 or 16 bits")
    return array.astype(np.uint16), f"{array.dtype} with whole numbers alone, read as 16 bits"


def _not_counts(array: NDArray[Any]) -> str | None:
    """Why numbers of another type are no camera counts, the whole numbers from 0 to 65535; None if they are."""
    if array.dtype.kind not in "iuf":
        return f"{array.dtype} pixels"
    kind = "floating point" if array.dtype.kind == "f" else f"{array.dtype} pixels"
    if not np.isfinite(array).all():
        return f"{kind} with NaN or infinity"
    least, most = float(array.min()), float(array.max())
    if least < 0 or most > MOST_COUNTS:
        return f"{kind} from {least:g} to {most:g}, where counts go from 0 to {MOST_COUNTS}"
    if np.any(array != np.rint(array)):
        return f"{kind} with fractions, from {least:g} to {most:g}"
    return None


def _no_pixels(path: Path, shape: tuple[int, ...]) -> RecordingError:
    return RecordingError(f"{path}: a picture without pixels, {' × '.join(map(str, shape))}; save it again")


def _one_channel(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """The channel that all colours agree on; an alpha channel (the second, the fourth) is left out."""
    colours = array[:, :, : 1 if array.shape[2] <= 2 else 3]
    if np.any(colours != colours[:, :, :1]):
        raise RecordingError(f"{path}: a colour picture; save one channel, or convert it to grey, as 8 or 16 bits")
    return colours[:, :, 0]
