"""Messages survive the way there and back, and no bytes whatever can do harm on arrival."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hspc_live.core.errors import WireError
from hspc_live.core.values import OBJECT_DTYPE, CellOutcome, CellRecord, Classification
from hspc_live.wire.codec import VERSION, Decoder, Limits, encode
from hspc_live.wire.messages import Books, Lease, Note, SnapshotHead, Ticket, ToRecord, Want

DTYPES = ["u1", "<u2", "<u4", "<i4", "<i8", "<f4", "<f8", OBJECT_DTYPE]
TICKET = Ticket(index=7, captured_ns=1, received_ns=2, slot=3, generation=4, background=5)
LEASE = Lease([TICKET], (80, 320), "uint8", [SnapshotHead(5, 1.5)])

arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)
decoder: Decoder[Lease | Want] = Decoder(Lease | Want)


def header(**changes: object) -> bytes:
    """A header as it should be, but for `changes`."""
    good = {"version": VERSION, "run": "r", "message": Want(2), "arrays": [{"dtype": "|u1", "shape": [3]}]}
    return msgspec.msgpack.encode(good | changes)


@given(st.lists(arrays, max_size=4), st.text(max_size=20))
@settings(deadline=None)
def test_any_allowed_arrays_arrive_unchanged_and_read_only(sent, run):
    decoded = decoder.decode([bytes(part) for part in encode(LEASE, sent, run)])
    assert decoded.message == LEASE
    assert decoded.run == run
    assert len(decoded.arrays) == len(sent)
    for before, after in zip(sent, decoded.arrays, strict=True):
        assert (after.dtype, after.shape) == (before.dtype, before.shape)
        assert after.tobytes() == before.tobytes()
        assert not after.flags.writeable


def test_records_of_cells_arrive_as_they_were():
    cell = CellRecord(
        cell=1,
        first_frame=3,
        last_frame=5,
        views=((3, 0), (4, 1)),
        outcome=CellOutcome.SORTED,
        reason="",
        outlet="left",
        classification=Classification(1, (0.25, 0.75), "LT-HSC", 2),
        velocity_um_s=1e4,
        velocity_sd_um_s=None,
        arrival_ns=2**62,
        arrival_sd_ns=10,
        y_um=4.5,
        last_capture_ns=1,
        decided_ns=2,
        latency_ns=1,
        features={"area_um2": np.float64(60.5)},
    )
    message = Decoder(ToRecord).decode(encode(Books([cell], [], []))).message
    assert message == Books([cell], [], [])


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview], ids=lambda w: w.__name__)
def test_arrays_are_neither_copied_on_sending_nor_on_arrival(wrap):
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    parts = encode(LEASE, [pixels])
    assert np.shares_memory(np.frombuffer(parts[1], "u1"), pixels)
    raw = wrap(bytes(parts[1]))
    (arrived,) = decoder.decode([parts[0], raw]).arrays
    assert np.shares_memory(arrived, np.frombuffer(raw, "u1"))
    with pytest.raises(ValueError, match="read-only"):
        arrived[0, 0] = 1


def test_strided_arrays_travel_too():
    pixels = np.arange(60, dtype=np.int32).reshape(6, 10)[::2, 1::3]
    (arrived,) = decoder.decode(encode(LEASE, [pixels])).arrays
    assert np.array_equal(arrived, pixels)


@pytest.mark.parametrize("dtype", ["bool", "f2", "c8", ">u2", "O", "S3", "M8[ns]", [("a", "u1")]], ids=str)
def test_other_dtypes_are_refused_before_sending(dtype):
    with pytest.raises(WireError, match="do not travel"):
        encode(LEASE, [np.zeros(2, dtype)])


def test_what_cannot_travel_is_refused_before_sending():
    with pytest.raises(WireError, match="5 dimensions"):
        encode(LEASE, [np.zeros((1,) * 5, "u1")])
    with pytest.raises(WireError, match="Note cannot be sent"):
        encode(Note("k", object(), 1))  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(WireError, match="Want cannot be sent"):
        encode(Want(1 << 70))


def test_another_version_is_said_so_even_if_its_messages_are_unknown():
    future = header(version=VERSION + 1, message={"type": "something new"})
    with pytest.raises(WireError, match=f"wire version {VERSION + 1}, this is version {VERSION}"):
        decoder.decode([future, b"abc"])


@pytest.mark.parametrize(
    ("head", "raw", "said"),
    [
        ({"arrays": [{"dtype": "|u1", "shape": [4]}]}, [b"abc"], "takes 4 bytes, 3 came"),
        ({"arrays": [{"dtype": "<f8", "shape": [3]}]}, [b"abc"], "takes 24 bytes, 3 came"),
        ({"arrays": [{"dtype": "|O", "shape": [3]}]}, [b"abc"], "dtype"),
        ({"arrays": [{"dtype": "object", "shape": [1]}]}, [b"abc"], "3 came"),
        ({"arrays": [{"dtype": "|u1", "shape": [3, 1, 1, 1, 1]}]}, [b"abc"], "at most 4"),
        ({"arrays": [{"dtype": "|u1", "shape": [-1, -3]}]}, [b"abc"], "extents"),
        ({"arrays": [{"dtype": "|u1", "shape": [0, 2**63]}]}, [b""], "extents"),
        ({"arrays": [{"dtype": "<f8", "shape": [0] + [2**31 - 1] * 3}]}, [b""], "shape"),
        ({"arrays": []}, [b"abc"], "names 0 arrays, 1 came"),
        ({}, [], "names 1 arrays, 0 came"),
        ({"message": {"type": "lease"}}, [b"abc"], "not a message this end takes"),
        ({"message": {"type": "beat"}}, [b"abc"], "not a message this end takes"),
        ({"run": 5}, [b"abc"], "not a header"),
    ],
)
def test_a_header_that_contradicts_its_parts_is_refused(head, raw, said):
    with pytest.raises(WireError, match=said):
        decoder.decode([header(**head), *raw])


@pytest.mark.parametrize("limits", [Limits(arrays=1), Limits(header_bytes=8), Limits(array_bytes=5)], ids=str)
def test_a_message_over_a_limit_is_refused(limits):
    parts = encode(Want(1), [np.zeros(3, "u1")] * 2)
    decoder.decode(parts)
    with pytest.raises(WireError, match="accepted"):
        Decoder(Want, limits).decode(parts)


def test_deeply_nested_headers_are_refused():
    deep = b"\x91" * 100_000
    unknown, message = b"\x81\xa1?", b"\x81\xa7message"
    for bomb in (deep, unknown + deep, message + deep):
        with pytest.raises(WireError):
            decoder.decode([bomb])


@given(st.lists(st.binary(max_size=60), max_size=5))
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_end_in_a_wire_error(parts):
    with pytest.raises(WireError):
        decoder.decode(parts)


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_a_damaged_message_is_read_whole_or_refused(data):
    parts = [bytearray(part) for part in encode(LEASE, [np.arange(6, dtype=np.uint16)], "run")]
    for _ in range(data.draw(st.integers(1, 4))):
        part = parts[data.draw(st.integers(0, len(parts) - 1))]
        at = data.draw(st.integers(0, len(part)))
        match data.draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                part[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del part[at:]
            case _:
                part[at:at] = data.draw(st.binary(max_size=9))
    try:
        decoded = decoder.decode([bytes(part) for part in parts])
    except WireError:
        return
    assert isinstance(decoded.message, Lease | Want)
    assert sum(array.nbytes for array in decoded.arrays) == len(parts[1])
