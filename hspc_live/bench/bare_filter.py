"""The compression of recordings by itself, without HDF5 around it: the limits that `bench record` holds the writer to.

`BareFilter` is what HDF5 calls, `BareCompression` what that calls in turn. HDF5 filters are shared libraries that
export a table with a C function (`H5Z_class2_t`, HDF5's H5Zpublic.h); that function is called here on one picture at a
time, as HDF5 calls it on one chunk. hdf5plugin brings the library.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import HspcError
from hspc_live.recording.chunks import bitshuffle_lz4, filter_library

_LZ4: Final = 2

_FILTER: Final = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.c_uint,
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_uint),
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_size_t),
    ctypes.POINTER(ctypes.c_void_p),
)


class _Class(ctypes.Structure):
    """H5Z_class2_t."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("id", ctypes.c_int),
        ("encoder_present", ctypes.c_uint),
        ("decoder_present", ctypes.c_uint),
        ("name", ctypes.c_char_p),
        ("can_apply", ctypes.c_void_p),
        ("set_local", ctypes.c_void_p),
        ("filter", _FILTER),
    )


class BareFilter:
    """bitshuffle-LZ4 as recordings use it. Raises HspcError where the library cannot be called by itself."""

    def __init__(self) -> None:
        self._library = filter_library()
        self._library.H5PLget_plugin_info.restype = ctypes.POINTER(_Class)
        described: Any = self._library.H5PLget_plugin_info().contents
        if described.id != hdf5plugin.Bitshuffle.filter_id:
            raise HspcError(
                f"{hdf5plugin.PLUGIN_PATH} holds another filter than the bitshuffle filter: install hdf5plugin anew"
            )
        self._filter = described.filter
        self._c = ctypes.CDLL(None)
        self._c.malloc.restype = ctypes.c_void_p
        self._c.malloc.argtypes = [ctypes.c_size_t]
        self._c.free.argtypes = [ctypes.c_void_p]

    def __call__(self, pixels: NDArray[Any]) -> int:
        """Compress one C-ordered picture and drop the result; returns its bytes. Raises HspcError if that fails.

        The filter wants memory that it may free, so the picture is copied once, as HDF5 copies it into a chunk.
        """
        size = pixels.nbytes
        buffer = ctypes.c_void_p(self._c.malloc(size))
        ctypes.memmove(buffer, pixels.ctypes.data_as(ctypes.c_void_p), size)
        room = ctypes.c_size_t(size)
        settings = (ctypes.c_uint * 5)(0, 4, pixels.itemsize, 0, _LZ4)
        got = int(self._filter(0, 5, settings, size, ctypes.byref(room), ctypes.byref(buffer)))
        self._c.free(buffer)
        if got == 0:
            raise HspcError("the bitshuffle filter failed on a picture")
        return got


class BareCompression:
    """Bitshuffle's own function, a picture a call, into memory that is used again: faster than the filter around it.

    The filter fetches memory for every picture, and the system may clear it page by page. Raises HspcError where the
    library does not show its function (Windows).
    """

    def __init__(self) -> None:
        found = bitshuffle_lz4()
        if found is None:
            raise HspcError("the bitshuffle library does not show its function on this machine")
        self._compress, self._bound = found
        self._memory = np.empty(0, np.uint8)

    def __call__(self, pixels: NDArray[Any]) -> int:
        """Compress one C-ordered picture and drop the result; returns its bytes. Raises HspcError if that fails."""
        told = (pixels.size, pixels.itemsize, 0)
        if len(self._memory) < (room := self._bound(*told)):
            self._memory = np.empty(room, np.uint8)
        got = int(self._compress(pixels.ctypes.data, self._memory.ctypes.data, *told))
        if got < 0:
            raise HspcError("bitshuffle failed on a picture")
        return got
