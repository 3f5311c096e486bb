"""Messages as bytes: `[header][raw bytes of array 0][raw bytes of array 1]…`, and back. Pure: no socket, no clock.

The header is msgpack: `{version, run, message, arrays: [{dtype, shape}]}`; the message's own tag names its type. Arrays
follow as they lie in memory (C order, little endian), so neither end copies them. Whatever the bytes are, decoding ends
in a checked message or in a `WireError`: the sizes of a header are believed only where they equal the parts' own.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Generic, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import WireError
from hspc_live.core.values import OBJECT_DTYPE

VERSION = 1
MAX_DIMS = 4
_ALIGN = 16  # of each part within a joined message, so that its arrays lie as numpy likes them

Part = bytes | memoryview
"""One part of a message: something that lends its bytes."""

_DTYPES: dict[str, np.dtype[Any]] = {
    "|u1": np.dtype("u1"),
    "<u2": np.dtype("<u2"),
    "<u4": np.dtype("<u4"),
    "<i4": np.dtype("<i4"),
    "<i8": np.dtype("<i8"),
    "<f4": np.dtype("<f4"),
    "<f8": np.dtype("<f8"),
    "object": OBJECT_DTYPE,
}

T = TypeVar("T")


def join(parts: Sequence[Part]) -> bytes:
    """`parts` as one part, for links that keep whole messages only one part long (newest-only). `split` undoes it."""
    sizes = [part.nbytes if isinstance(part, memoryview) else len(part) for part in parts]
    pieces: list[Part] = [struct.pack(f"<{len(parts) + 1}Q", len(parts), *sizes)]
    at = 8 * (len(parts) + 1)
    for part, size in zip(parts, sizes, strict=True):
        gap = -at % _ALIGN
        pieces += [bytes(gap), part]
        at += gap + size
    return b"".join(pieces)


def split(joined: Part, most: int = 257) -> list[Part]:
    """The parts that `join` put together, without copying them. Raises WireError where the sizes do not add up."""
    view = memoryview(joined)
    count = struct.unpack_from("<Q", view)[0] if view.nbytes >= 8 else 0
    if not 1 <= count <= most or view.nbytes < 8 * (count + 1):
        raise WireError("not a joined message of HSPC Live")
    parts: list[Part] = []
    at = 8 * (count + 1)
    for size in struct.unpack_from(f"<{count}Q", view, 8):
        at += -at % _ALIGN
        if size > view.nbytes - at:
            raise WireError("a joined message that is shorter than its parts")
        parts.append(view[at : at + size])
        at += size
    if at != view.nbytes:
        raise WireError("a joined message that is longer than its parts")
    return parts


@dataclass(frozen=True, slots=True)
class Limits:
    """What a decoder accepts at most: arrays in a message, bytes of the header, bytes of all arrays together."""

    arrays: int = 256
    header_bytes: int = 16 << 20
    array_bytes: int = 512 << 20


class _ArrayHead(msgspec.Struct, frozen=True):
    """What the bytes of one array mean."""

    dtype: str
    shape: list[int]


class _Outgoing(msgspec.Struct, frozen=True):
    """The header as it is written."""

    version: int
    run: str
    message: msgspec.Struct
    arrays: list[_ArrayHead]


class _Incoming(msgspec.Struct, frozen=True):
    """The header as it is read: the message stays packed until the version is known to be ours."""

    version: int
    run: str
    message: msgspec.Raw
    arrays: list[_ArrayHead]


@dataclass(frozen=True, slots=True, eq=False)
class Decoded(Generic[T]):
    """A message, the read-only arrays that came with it, and the run it belongs to."""

    message: T
    arrays: tuple[NDArray[Any], ...]
    run: str


def _plain(value: object) -> object:
    """A numpy scalar as the Python number it stands for; anything else has no business in a message."""
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} cannot travel in a message")


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_plain)


def encode(message: msgspec.Struct, arrays: Sequence[NDArray[Any]] = (), run: str = "") -> list[Part]:
    """The parts of `message` with `arrays` behind it.

    Contiguous arrays are lent, not copied: do not write to them until `Link.try_send` has returned. Raises WireError
    for a dtype off the list, more than `MAX_DIMS` dimensions, or a message holding something that cannot travel.
    """
    heads: list[_ArrayHead] = []
    parts: list[Part] = [b""]
    for array in arrays:
        name = "object" if array.dtype == OBJECT_DTYPE else array.dtype.str
        if name not in _DTYPES:
            raise WireError(f"arrays of {array.dtype} do not travel; these do: {', '.join(_DTYPES)}")
        if array.ndim > MAX_DIMS:
            raise WireError(f"an array of {array.ndim} dimensions does not travel; at most {MAX_DIMS} do")
        heads.append(_ArrayHead(name, list(array.shape)))
        parts.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else b"")
    try:
        parts[0] = _ENCODER.encode(_Outgoing(VERSION, run, message, heads))
    except (TypeError, NotImplementedError, OverflowError) as error:
        raise WireError(f"{type(message).__name__} cannot be sent: {error}") from error
    return parts


class Decoder(Generic[T]):
    """Reads messages of the given Struct, or tagged union of Structs, within `limits`."""

    def __init__(self, messages: type[T] | UnionType, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._header = msgspec.msgpack.Decoder(_Incoming)
        self._message = msgspec.msgpack.Decoder(cast("type[T]", messages))

    def decode(self, parts: Sequence[Part]) -> Decoded[T]:
        """The message in `parts`; its arrays are read-only views of them. Raises WireError, and nothing else."""
        limits = self._limits
        if not 1 <= len(parts) <= limits.arrays + 1:
            raise WireError(f"a message of {len(parts)} parts; 1 to {limits.arrays + 1} are accepted")
        views = [memoryview(part) for part in parts]
        if views[0].nbytes > limits.header_bytes:
            raise WireError(f"a header of {views[0].nbytes} bytes; at most {limits.header_bytes} are accepted")
        if (total := sum(view.nbytes for view in views[1:])) > limits.array_bytes:
            raise WireError(f"arrays of {total} bytes; at most {limits.array_bytes} are accepted")
        try:
            header = self._header.decode(views[0])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise WireError(f"not a header of HSPC Live: {error}") from error
        if header.version != VERSION:
            raise WireError(
                f"the message is of wire version {header.version}, this is version {VERSION}: "
                "run the same HSPC Live at both ends"
            )
        if len(header.arrays) != len(views) - 1:
            raise WireError(f"the header names {len(header.arrays)} arrays, {len(views) - 1} came")
        try:
            message = self._message.decode(header.message)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise WireError(f"not a message this end takes: {error}") from error
        arrays = tuple(map(_array, header.arrays, views[1:]))
        return Decoded(message, arrays, header.run)


def _array(head: _ArrayHead, view: memoryview) -> NDArray[Any]:
    """The bytes of `view` as `head` describes them, read-only. Raises WireError where they contradict each other."""
    dtype = _DTYPES.get(head.dtype)
    if dtype is None:
        raise WireError(f"an array of dtype {head.dtype!r}; accepted are {', '.join(_DTYPES)}")
    shape = head.shape
    # An empty array may hide a huge extent behind its zero, so each extent is bounded by itself too.
    if len(shape) > MAX_DIMS or any(not 0 <= extent < 1 << 31 for extent in shape):
        raise WireError(f"an array of shape {shape}; at most {MAX_DIMS} extents of 0 to 2^31 - 1 are accepted")
    if (named := math.prod(shape) * dtype.itemsize) != view.nbytes:
        raise WireError(f"an array of {shape} {head.dtype} takes {named} bytes, {view.nbytes} came")
    if not view.nbytes:
        return _empty(shape, dtype)
    array = np.frombuffer(view, dtype).reshape(shape)
    array.flags.writeable = False
    return array


def _empty(shape: list[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array of no elements, read-only; numpy refuses extents whose product overflows even beside a zero."""
    try:
        array = np.empty(shape, dtype)
    except ValueError as error:
        raise WireError(f"an array of shape {shape}: {error}") from error
    array.flags.writeable = False
    return array
