"""The chunks of PNG files: to tell a broken file before a decoder does, and to say and read who made a file."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_AROUND = 12  # bytes of a chunk beside its body: size, name, checksum


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, body) of each chunk, IEND last. Raises ValueError where the file is cut short or a checksum is wrong."""
    at = len(SIGNATURE)
    while at + _AROUND <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        at += _AROUND + size
        if at > len(data) or zlib.crc32(name + body) != struct.unpack_from(">I", data, at - 4)[0]:
            raise ValueError("a chunk is damaged")
        yield name, body
        if name == b"IEND":
            return
    raise ValueError("the file ends too early")


def signed(data: bytes, software: str) -> bytes:
    """A PNG file that says by what it was made, for `made_by`."""
    body = b"Software\0" + software.encode("latin-1")
    checksum = zlib.crc32(b"tEXt" + body)
    after_header = len(SIGNATURE) + _AROUND + struct.calcsize(">IIBBBBB")
    text = struct.pack(">I", len(body)) + b"tEXt" + body + struct.pack(">I", checksum)
    return data[:after_header] + text + data[after_header:]


def made_by(path: Path) -> str | None:
    """The software that a PNG file names; None where it names none, or is no whole PNG file. Raises OSError."""
    data = path.read_bytes()
    if not data.startswith(SIGNATURE):
        return None
    try:
        texts = [body for name, body in chunks(data) if name == b"tEXt"]
    except ValueError:
        return None
    found = (text.partition(b"\0") for text in texts)
    return next((value.decode("latin-1") for key, _, value in found if key == b"Software"), None)
