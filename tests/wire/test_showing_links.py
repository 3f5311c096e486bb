"""For those who only look on: joined messages, and a publisher whom no subscriber can hold up."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.core.errors import WireError
from hspc_live.core.values import OBJECT_DTYPE
from hspc_live.wire.codec import encode, join, split
from hspc_live.wire.links import endpoint, open_pub, open_sub
from hspc_live.wire.messages import Want
from hspc_live.wire.telemetry import LATENCY_BINS, Seen, Standing, Telemetry, pack, unpack

STANDS_STILL = """
import sys
from hspc_live.wire.links import open_sub
with open_sub(sys.argv[1]) as link:
    assert link.wait(20)
    print("looking", flush=True)
    sys.stdin.read()
"""

STANDING = Standing(
    armed=False, waits_to_arm=False, alarms={}, told_alarms={}, disarmed=[], lasting=[], passing=[], gate_revision=0,
    outlets="[]", ledger="{}", open_cells=0, classes={}, sorted=[], met=0, missed=0, unrecorded=0, queue=0, held=0,
    slots=4, unshown=0, ended=False,
)  # fmt: skip


def telemetry(objects: int = 0, crops: int = 0, mask: tuple[int, int] = (5, 7)) -> Telemetry:
    return Telemetry(
        3, 1, 2, 1, 1, (), mask, [Seen(0, -1)] * objects, [], [(1, 2, number) for number in range(crops)], STANDING
    )


def arrays(objects: int, crops: int, mask: tuple[int, int] = (5, 7)) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    masks = rng.integers(0, 2, (objects, *mask), dtype=np.uint8)
    return [
        rng.integers(0, 255, (8, 16), dtype=np.uint8),
        np.zeros(objects, OBJECT_DTYPE),
        np.packbits(masks.reshape(objects, -1), axis=1) if objects else np.empty((0, 0), np.uint8),
        np.zeros(LATENCY_BINS, np.uint32),
        rng.integers(0, 65535, (crops, 4, 4), dtype=np.uint16),
    ]


@given(st.lists(st.binary(max_size=70), min_size=1, max_size=9))
@settings(deadline=None)
def test_joined_parts_come_apart_as_they_were(parts):
    assert [bytes(part) for part in split(join(parts))] == parts


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_whatever_comes_is_parts_or_an_error(data):
    try:
        assert all(len(part) <= len(data) for part in split(data))
    except WireError:
        pass


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4), st.integers(0, 200))
@settings(deadline=None)
def test_a_joined_message_cut_short_is_refused(parts, cut):
    whole = join(parts)
    with pytest.raises(WireError):
        split(whole[: min(cut, len(whole) - 1)])


def test_telemetry_arrives_as_it_was_sent():
    sent = arrays(3, 2)
    shown = unpack(pack(telemetry(3, 2), sent, "run-1"))
    assert shown.run == "run-1" and shown.told == telemetry(3, 2)
    assert np.array_equal(shown.pixels, sent[0]) and np.array_equal(shown.crops, sent[4])
    assert np.array_equal(np.packbits(shown.masks.reshape(3, -1), axis=1), sent[2])


@pytest.mark.parametrize(
    ("told", "sent"),
    [
        (telemetry(2, 0), arrays(3, 0)),
        (telemetry(3, 1), arrays(3, 0)),
        (telemetry(3, 0, (9, 9)), arrays(3, 0)),
        (telemetry(0, 0), arrays(0, 0)[:4]),
    ],
)
def test_telemetry_whose_arrays_contradict_it_is_refused(told, sent):
    with pytest.raises(WireError):
        unpack(pack(told, sent, "r"))


def test_something_else_is_no_telemetry():
    with pytest.raises(WireError):
        unpack(join(encode(Want(1), run="r")))


@pytest.fixture(params=["ipc", "tcp"])
def address(request, folder):
    return endpoint(folder, "show") if request.param == "ipc" else "tcp://127.0.0.1:*"


def test_a_publisher_knows_whether_anybody_looks(address):
    def until(wanted: bool) -> bool:
        deadline = time.monotonic() + 10
        while pub.listened() != wanted:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    with open_pub(address) as pub:
        assert not pub.listened()
        with open_sub(pub.address), open_sub(pub.address):
            assert until(True)
        assert until(False)


def test_only_the_newest_is_kept(address):
    with open_pub(address) as pub, open_sub(pub.address) as sub:
        while not pub.listened():
            time.sleep(0.005)
        for number in range(50):
            pub.try_send(b"%d" % number)
            time.sleep(0.002)
        deadline = time.monotonic() + 10
        seen: list[int] = []
        while 49 not in seen and time.monotonic() < deadline:
            if sub.wait(1) and (got := sub.try_recv()) is not None:
                seen.append(int(bytes(got[1][0])))
        assert seen[-1] == 49 and len(seen) < 5, "what nobody took has been replaced"


def test_one_who_stands_still_holds_up_nobody(address, start):
    """A subscriber is stopped in its tracks: the publisher goes on at once, and another sees what is new."""
    megabyte = bytes(1 << 20)
    with open_pub(address) as pub:
        process = start(STANDS_STILL, pub.address)
        while not pub.listened():
            time.sleep(0.005)
        pub.try_send(b"first")
        assert process.stdout.readline() == "looking\n"
        os.kill(process.pid, signal.SIGSTOP)
        with open_sub(pub.address) as sub:
            busy = time.process_time()
            for number in range(200):
                pub.try_send(megabyte + b"%d" % number)
                time.sleep(0.001)
            spent = time.process_time() - busy
            assert sub.wait(10), "the other one sees what is sent"
            assert spent < 5.0, "nothing spins"
