"""What comes in is decoded, of this run and not too much; the rest is counted and changes nothing."""

from __future__ import annotations

import threading
import time

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.wire.codec import encode
from hspc_live.wire.intake import BURST, Intake, Rate
from hspc_live.wire.links import endpoint, open_dealer, open_pub, open_router, open_sub
from hspc_live.wire.messages import Release, Want


def test_each_refusal_has_its_name_and_the_good_come_through(folder):
    with (
        open_router(endpoint(folder, "a"), max_incoming_bytes=1000, max_incoming_parts=2) as router,
        open_dealer(router.address, b"friend") as friend,
        open_dealer(router.address, b"foe") as foe,
    ):
        told: list[tuple[str, str]] = []
        intake = Intake[Want](
            router,
            Want,
            run="r",
            senders=lambda name: name == b"friend",
            rate=Rate(1.0, 8.0),
            tell=lambda *words: told.append(words),
        )
        assert foe.try_send(encode(Want(1), run="r"))
        bad = [
            encode(Want(1), run="s"),
            encode(Release([1]), run="r"),
            [b"noise"],
            [b"a", b"b", b"c"],
            [b"x" * 999, b"y" * 9],
        ]
        for parts in [*bad, *[[b"noise"]] * 4, *[encode(Want(7), run="r")] * 5]:
            assert friend.try_send(parts)
        got = []
        until = time.monotonic() + 10
        while sum(intake.refused.values()) + len(got) < 15 and time.monotonic() < until:
            router.wait(0.1)
            got += [(sender, decoded.message) for sender, decoded in intake.take()]
        # the two over the link's limits never come so far as to be counted against the rate
        assert intake.refused == {"over_limit": 2, "stranger": 1, "other_run": 1, "malformed": 6, "too_fast": 4}
        assert got == [(b"friend", Want(7))]
        assert len(told) == Intake.TOLD and all(name == "friend" for name, _ in told)


def test_a_flood_is_taken_a_burst_at_a_time(folder):
    with open_router(endpoint(folder, "a")) as router, open_dealer(router.address, b"w") as dealer:
        intake = Intake[Want](router, Want)
        for _ in range(BURST + 10):
            assert dealer.try_send([b"noise"])
        until = time.monotonic() + 10
        while sum(intake.refused.values()) < BURST and time.monotonic() < until:
            router.wait(0.1)
            before = sum(intake.refused.values())
            list(intake.take())
            assert sum(intake.refused.values()) - before <= BURST


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0.0, 0.5)), max_size=200))
def test_nobody_gets_more_than_the_rate_and_what_may_come_at_once(steps):
    rate, now, admitted = Rate(10.0, 0.5, most=3), 0.0, dict.fromkeys(range(6), 0)
    alone = Rate(10.0, 0.5)
    for who, gap in steps:
        now += gap
        rate.admits(bytes([who]), now)
        admitted[who] += alone.admits(bytes([who]), now)
        assert len(rate._buckets) <= 3
    assert all(n <= 5.0 + 10.0 * now + 1e-6 for n in admitted.values())


@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_strange_subscriptions_are_forgotten_and_those_who_look_on_are_back(folder, transport):
    """A publisher remembers every subscription: a thousand strange ones, and it begins anew."""
    address = endpoint(folder, "show") if transport == "ipc" else "tcp://127.0.0.1:*"
    stop = threading.Event()

    def rain(at: str) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        socket = context.socket(zmq.XSUB)
        socket.linger = 0
        socket.connect(at)
        number = 0
        while not stop.is_set() and number < 200_000:
            socket.send(b"\x01" + number.to_bytes(8, "big") + b"strange", zmq.NOBLOCK)
            number += 1
            if number % 100 == 0:
                time.sleep(0.001)
        socket.close()
        context.term()

    with open_pub(address) as pub, open_sub(pub.address) as sub:
        first = pub._link
        thread = threading.Thread(target=rain, args=(pub.address,))
        thread.start()
        try:
            until = time.monotonic() + 20
            while pub.refused < 1500 and time.monotonic() < until:
                pub.listened()
                time.sleep(0.001)
        finally:
            stop.set()
            thread.join()
        assert pub.refused >= 1500 and pub._link is not first
        until = time.monotonic() + 20
        while not sub.wait(0.05) and time.monotonic() < until:
            if pub.listened():
                pub.try_send(b"news")
        assert sub.try_recv() == (None, [b"news"])
