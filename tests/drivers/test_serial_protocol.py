"""The line protocol: what is spelt reads back, a flipped bit is never believed, no bytes whatever break the reader."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_drivers import serial_protocol as protocol
from hspc_drivers.serial_protocol import TO_DEVICE, TO_HOST, U32, Bad, Fault, Line, LineReader, decode, encode, unwrap

FIELDS = {
    "u32": st.integers(0, U32 - 1),
    "u8": st.integers(0, 255),
    "flag": st.booleans(),
    "word": st.from_regex(r"[A-Za-z0-9._-]{1,16}", fullmatch=True),
}
MESSAGES = {
    way: st.one_of([st.builds(kind, *(FIELDS[field] for field in fields)) for kind, fields in layout.values()])
    for way, layout in (("device", TO_DEVICE), ("host", TO_HOST))
}
LAYOUTS = {"device": TO_DEVICE, "host": TO_HOST}
SEQS = st.integers(0, 0xFFFF)


@given(st.data(), SEQS, st.sampled_from(["device", "host"]))
def test_every_message_reads_back_and_fits(data: st.DataObject, seq: int, way: str) -> None:
    message = data.draw(MESSAGES[way])
    line = encode(seq, message)
    assert len(line) <= protocol.MAX_LINE and line.endswith(b"\n") and line[:-1].isascii()
    assert decode(line[:-1], LAYOUTS[way]) == Line(seq, message)
    other = LAYOUTS["host" if way == "device" else "device"]
    assert decode(line[:-1], other) == Bad(seq, Fault.UNKNOWN)


@given(st.data(), SEQS, st.integers(0, 10**6), st.integers(0, 7))
def test_a_flipped_bit_is_never_taken_for_a_message(data: st.DataObject, seq: int, place: int, bit: int) -> None:
    line = bytearray(encode(seq, data.draw(MESSAGES["device"])))
    line[place % (len(line) - 1)] ^= 1 << bit
    assert not [got for got in LineReader(TO_DEVICE).feed(bytes(line)) if isinstance(got, Line)]


@given(st.lists(st.one_of(st.binary(max_size=200), MESSAGES["device"].map(lambda m: encode(7, m))), max_size=20))
def test_bytes_of_any_kind_are_read_and_a_message_after_a_line_feed_is_found(chunks: list[bytes]) -> None:
    """Junk never hides what comes after it; cutting the stream elsewhere changes nothing."""
    stream = b"".join(chunks) + b"\n" + encode(9, protocol.Ping())
    whole = LineReader(TO_DEVICE).feed(stream)
    assert whole[-1] == Line(9, protocol.Ping())
    reader = LineReader(TO_DEVICE)
    assert [got for byte in stream for got in reader.feed(bytes([byte]))] == whole
    for got in whole:
        if isinstance(got, Line):  # one message has one spelling
            assert encode(got.seq, got.message) in stream


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"0001 FIRE 1 1 2 3", Fault.SYNTAX),
        (b"0001 FIRE 1 1 2 3 4 5", Fault.SYNTAX),
        (b"0001 FIRE 1 256 2 3 4", Fault.SYNTAX),
        (b"0001 FIRE 01 1 2 3 4", Fault.SYNTAX),
        (b"0001 FIRE -1 1 2 3 4", Fault.SYNTAX),
        (b"0001 FIRE 4294967296 1 2 3 4", Fault.SYNTAX),
        (b"0001  PING", Fault.UNKNOWN),
        (b"0001 ping", Fault.UNKNOWN),
        (b"0001", Fault.GARBLED),
        (b"001 PING", Fault.GARBLED),
        (b"000a PING", Fault.GARBLED),
    ],
)
def test_what_is_wrong_is_named(body: bytes, fault: Fault) -> None:
    line = body + b"*%04X" % protocol.crc16(body)
    got = decode(line, TO_DEVICE)
    assert isinstance(got, Bad) and got.fault is fault
    assert got.seq == (protocol.UNASKED if fault is Fault.GARBLED else 1)


def test_the_examples_of_the_description_are_right() -> None:
    """`docs/serial-protocol.md` is what devices are built by."""
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs/serial-protocol.md").read_text(encoding="utf-8")
    lines = [line[2:].encode() for line in text.splitlines() if line.startswith(("> ", "< ")) and "*" in line]
    assert len(lines) >= 10
    for line in lines:
        got = [decode(line, layout) for layout in (TO_DEVICE, TO_HOST)]
        assert any(isinstance(one, Line) for one in got), line
    for layout in (TO_DEVICE, TO_HOST):
        for verb in layout:
            assert f"`{verb.decode()}" in text, f"{verb.decode()} is not described"
    for fault in Fault:
        assert f"`{fault}`" in text
    assert protocol.crc16(b"123456789") == 0x29B1 and "0x29B1" in text


def test_a_field_out_of_its_range_is_not_sent() -> None:
    for message in (protocol.Fire(U32, 1, 0, 1, 0), protocol.Fire(1, 256, 0, 1, 0), protocol.Nak("two words")):
        with pytest.raises(ValueError, match="of the protocol"):
            encode(1, message)
    assert all(field.type for field in dataclasses.fields(protocol.Fire))


@given(st.integers(0, 1 << 60), st.integers(-(U32 // 2), U32 // 2 - 1))
def test_a_clock_that_wraps_around_is_counted_on(near: int, away: int) -> None:
    true = near + away
    assert unwrap(true % U32, near) == true
