"""Messages arrive whole and in order, nobody blocks, nobody sleeps through a message, and strangers stay outside."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from hspc_live.core.errors import WireError
from hspc_live.wire.links import (
    Link,
    endpoint,
    open_dealer,
    open_links,
    open_router,
    private_folder,
    wait_any,
)

posix = pytest.mark.skipif(os.name != "posix", reason="sockets in folders are POSIX's")

ECHO = """
import asyncio, sys
from hspc_live.wire.links import open_dealer
async def main():
    with open_dealer(sys.argv[1], sys.argv[2].encode()) as link:
        link.try_send([b"here"])
        while True:
            if not await link.wait_readable(20):
                sys.exit("overslept")
            while (got := link.try_recv()) is not None:
                if got[1] == [b"quit"]:
                    return
                while not link.try_send(got[1]):
                    await asyncio.sleep(0)
asyncio.run(main())
"""


@pytest.fixture(params=["ipc", "tcp"])
def address(request, folder):
    return endpoint(folder, "a") if request.param == "ipc" else "tcp://127.0.0.1:*"


def take(link: Link, timeout_s: float = 5.0) -> tuple[bytes | None, list[bytes]]:
    """The next message, which must come in time."""
    assert link.wait(timeout_s), "no message came"
    got = link.try_recv()
    assert got is not None
    return got[0], [bytes(part) for part in got[1]]


def send(link: Link, parts, to: bytes | None = None, timeout_s: float = 5.0) -> None:
    """Send; a peer that is still connecting is waited for."""
    until = time.monotonic() + timeout_s
    while not link.try_send(parts, to):
        assert time.monotonic() < until, "not taken"
        time.sleep(0.001)


def test_a_request_and_its_answer(address):
    with open_router(address) as router, open_dealer(router.address, b"w1") as dealer:
        big = bytes(range(256)) * 4096
        send(dealer, [b"head", big, b""])
        assert take(router) == (b"w1", [b"head", big, b""])
        send(router, [b"back", memoryview(big)], to=b"w1")
        assert take(dealer) == (None, [b"back", big])
        assert dealer.try_recv() is None
        assert router.try_recv() is None


def test_messages_to_someone_unknown_are_not_taken_and_harm_no_other(address):
    with open_router(address) as router, open_dealer(router.address, b"known") as dealer:
        send(dealer, [b"hello"])
        take(router)
        assert not router.try_send([b"a", b"b", b"c"], to=b"unknown")
        send(router, [b"d", b"e"], to=b"known")
        assert take(dealer) == (None, [b"d", b"e"])


def test_a_full_queue_says_so_and_loses_nothing_it_took(address):
    with open_router(address, hwm=5) as router, open_dealer(router.address, b"w", hwm=5) as dealer:
        send(dealer, [b"hello"])
        take(router)
        payload = bytes(100_000)
        for sender, receiver, to in ((router, dealer, b"w"), (dealer, router, None)):
            taken = 0
            started = time.monotonic()
            while sender.try_send([taken.to_bytes(4, "big"), payload], to) and taken < 10_000:
                taken += 1
            assert taken < 10_000, "the queue has no end"
            assert time.monotonic() - started < 5
            for number in range(taken):
                assert take(receiver)[1][0] == number.to_bytes(4, "big")
            send(sender, [b"again"], to)
            assert take(receiver)[1] == [b"again"]


def test_a_message_is_addressed_where_it_must_be_and_only_there(address):
    with open_router(address) as router, open_dealer(router.address, b"w") as dealer:
        with pytest.raises(WireError, match="receiver"):
            router.try_send([b"x"])
        with pytest.raises(WireError, match="receiver"):
            dealer.try_send([b"x"], to=b"y")


def test_messages_over_a_limit_are_not_sent(address):
    with open_router(address, max_message_bytes=100, max_parts=2) as router:
        for parts in ([], [b""] * 3, [b"x" * 60, b"y" * 60]):
            with pytest.raises(WireError, match="limit"):
                router.try_send(parts, to=b"w")


def test_messages_over_a_limit_are_dropped_on_arrival_and_counted(address):
    with (
        open_router(address, max_message_bytes=100, max_parts=2) as router,
        open_dealer(router.address, b"w") as dealer,
    ):
        send(dealer, [b""] * 3)
        send(dealer, [b"x" * 60, b"y" * 60])
        send(dealer, [b"good", b"one"])
        assert take(router) == (b"w", [b"good", b"one"])
        assert router.refused == 2
        # A single part over the limit ends the connection; the sender comes back by itself.
        send(dealer, [b"x" * 200])
        time.sleep(0.3)
        send(dealer, [b"better"])
        assert take(router) == (b"w", [b"better"])


def test_a_restarted_peer_takes_over_its_name(address):
    with open_router(address) as router, open_dealer(router.address, b"w") as first:
        send(first, [b"first"])
        assert take(router) == (b"w", [b"first"])
        with open_dealer(router.address, b"w") as second:
            send(second, [b"second"])
            assert take(router) == (b"w", [b"second"])
            send(router, [b"for the second"], to=b"w")
            assert take(second) == (None, [b"for the second"])
            assert not first.wait(0.05)


def test_a_killed_peer_is_noticed_and_what_is_sent_to_it_is_not_taken(address, start):
    with open_router(address) as router:
        peer = start(ECHO, router.address, "w")
        assert take(router, 20) == (b"w", [b"here"])
        peer.kill()
        peer.wait()
        until = time.monotonic() + 10
        while router.try_send([b"head", b"body"], to=b"w"):
            assert time.monotonic() < until, "still taken"
            time.sleep(0.01)


# ---- waiting -------------------------------------------------------------------------------------------------------


async def test_waiting_ends_with_the_time_or_the_message(address):
    with open_router(address) as router, open_dealer(router.address, b"w") as dealer:
        started = time.monotonic()
        assert not await router.wait_readable(0.05)
        assert not router.wait(0.05)
        assert 0.09 < time.monotonic() - started < 2
        assert not await router.wait_readable(0)
        waiting = asyncio.create_task(router.wait_readable(5))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert dealer.try_send([b"x"])
        assert await waiting
        assert await router.wait_readable(0), "what waits already counts"


async def test_a_sender_does_not_swallow_the_wake_up_of_a_waiter(address):
    """The signal of a socket is used up by any operation: sending while another task waits must pass it on."""
    with open_router(address) as router, open_dealer(router.address, b"w") as dealer:
        send(dealer, [b"hello"])
        take(router)
        for _ in range(20):
            waiting = asyncio.create_task(router.wait_readable(5))
            await asyncio.sleep(0)
            assert dealer.try_send([b"x"])
            time.sleep(0.02)  # the message arrives while this loop is busy
            router.try_send([b"y"], to=b"w")
            started = time.monotonic()
            assert await waiting
            assert time.monotonic() - started < 1
            take(router)


async def test_a_reader_does_not_swallow_the_wake_up_of_a_waiter(address):
    with open_router(address) as router, open_dealer(router.address, b"w") as dealer:
        waiting = asyncio.create_task(router.wait_readable(5))
        await asyncio.sleep(0)
        assert dealer.try_send([b"x"])
        assert dealer.try_send([b"y"])
        time.sleep(0.1)
        assert router.try_recv() == (b"w", [b"x"])
        assert await waiting


async def test_two_waiters_on_one_link_both_wake(address):
    with open_router(address) as router, open_dealer(router.address, b"w") as dealer:
        waiting = [asyncio.create_task(router.wait_readable(5)) for _ in range(2)]
        await asyncio.sleep(0)
        assert dealer.try_send([b"x"])
        assert await asyncio.gather(*waiting) == [True, True]


async def test_waiting_for_any_of_several_links(folder):
    with (
        open_router(endpoint(folder, "a")) as a,
        open_router(endpoint(folder, "b")) as b,
        open_dealer(b.address, b"w") as dealer,
    ):
        assert not await wait_any((a, b), 0.02)
        waiting = asyncio.create_task(wait_any((a, b), 5))
        await asyncio.sleep(0)
        assert dealer.try_send([b"x"])
        assert await waiting
        assert b.readable()
        assert not a.readable()
        waiting = asyncio.create_task(wait_any((a,), 5))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await wait_any((a, b), 5)


async def test_work_that_is_done_ends_the_wait_for_messages(folder):
    loop = asyncio.get_running_loop()
    with open_router(endpoint(folder, "a")) as link:
        work: asyncio.Future[None] = loop.create_future()
        assert not await wait_any((link,), 0.02, (work,)), "neither a message nor the work"
        waiting = asyncio.create_task(wait_any((link,), 60, (work,)))
        await asyncio.sleep(0)
        await loop.run_in_executor(None, loop.call_soon_threadsafe, work.set_result, None)
        assert await asyncio.wait_for(waiting, 10)
        assert await asyncio.wait_for(wait_any((link,), 60, (work,)), 10), "it was done before anybody waited"


async def test_a_message_nobody_waits_for_does_not_keep_the_loop_busy(address):
    with open_router(address) as router, open_dealer(router.address, b"w") as dealer:
        assert not await router.wait_readable(0.01)
        assert dealer.try_send([b"x"])
        before = time.thread_time()
        await asyncio.sleep(0.3)
        assert time.thread_time() - before < 0.1
        assert router.readable()


async def test_closing_ends_the_waiting(address):
    with open_router(address) as router:
        waiting = asyncio.create_task(router.wait_readable(5))
        await asyncio.sleep(0.01)
        router.close()
        assert not await asyncio.wait_for(waiting, 1)


def test_a_link_outlives_an_event_loop(address):
    with open_router(address) as router, open_dealer(router.address, b"w") as dealer:
        for _ in range(3):
            assert not asyncio.run(router.wait_readable(0.01))
            assert dealer.try_send([b"x"])
            assert asyncio.run(router.wait_readable(5))
            take(router)


async def test_no_wake_up_is_lost_under_load_in_both_directions(address, start):
    """Two tasks share the link: one sends as fast as it can, one sleeps whenever nothing waits."""
    names = [b"e1", b"e2"]
    count = 6000
    with open_router(address, hwm=200) as router:
        for name in names:
            start(ECHO, router.address, name.decode())
        for _ in names:
            assert await router.wait_readable(20)
            assert router.try_recv() is not None
        got: dict[bytes | None, list[int]] = {name: [] for name in names}

        async def flood() -> None:
            for number in range(count):
                for name in names:
                    while not router.try_send([number.to_bytes(4, "big")], to=name):
                        await asyncio.sleep(0)
                if number % 7 == 0:
                    await asyncio.sleep(0)

        async def listen() -> None:
            while sum(map(len, got.values())) < count * len(names):
                assert await router.wait_readable(5), "overslept"
                if (message := router.try_recv()) is not None:
                    got[message[0]].append(int.from_bytes(message[1][0], "big"))

        await asyncio.gather(flood(), listen())
        assert all(numbers == list(range(count)) for numbers in got.values())
        # One at a time: every message is awaited asleep, and so is its echo at the other end.
        for number in range(500):
            assert router.try_send([number.to_bytes(4, "big")], to=b"e1")
            assert await router.wait_readable(5), "overslept"
            message = router.try_recv()
            assert message is not None
            assert bytes(message[1][0]) == number.to_bytes(4, "big")
        for name in names:
            send(router, [b"quit"], to=name)


# ---- addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "192.168.1.5", "localhost", "example.org", "eth0", "[::]", ""])
def test_nothing_is_bound_where_other_machines_can_reach_it(host):
    with pytest.raises(WireError, match=r"CURVE.*allow-list"):
        open_router(f"tcp://{host}:5555")


@posix
def test_a_socket_is_bound_only_where_no_other_user_gets_in(folder):
    (folder / "open").mkdir()
    (folder / "open").chmod(0o755)
    for address in (f"ipc://{folder}/open/a", "ipc://@abstract", "ipc://relative", "ipc://*", "ipc:///no/such/x"):
        with pytest.raises(WireError, match=r"private folder|others can enter"):
            open_router(address)
    for address in ("inproc://a", "nonsense", "udp://127.0.0.1:5555"):
        with pytest.raises(WireError, match="ipc:// or tcp://"):
            open_router(address)


@posix
def test_the_private_folder_is_private_and_short(monkeypatch, tmp_path):
    for runtime in ("", str(tmp_path / "missing"), "/" + "long/" * 30):
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        path = private_folder()
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert len(os.fsencode(path)) < 80
        path.rmdir()
    runtime = private_folder()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert private_folder().parent == runtime
    for child in runtime.iterdir():
        child.rmdir()
    runtime.rmdir()


@posix
def test_a_name_too_long_for_a_socket_is_an_error_that_says_so(folder):
    with pytest.raises(WireError, match="107 bytes"):
        endpoint(folder, "x" * 100)


def test_an_address_in_use_is_an_error_and_leaves_nothing_open():
    with open_router("tcp://127.0.0.1:*") as router:
        with pytest.raises(WireError, match="cannot bind"):
            open_router(router.address)
        assert open_links() == 1
    with pytest.raises(WireError, match="cannot connect"):
        open_dealer("nowhere", b"w")
    for identity in (b"", b"\0w", b"w" * 256):
        with pytest.raises(WireError, match="identity"):
            open_dealer("tcp://127.0.0.1:5555", identity)


def test_a_closed_link_says_so(address):
    with open_router(address) as other:
        link = open_dealer(other.address, b"w")
        link.close()
        for use in (link.try_recv, link.readable, link.wait, lambda: link.try_send([b"x"])):
            with pytest.raises(WireError, match="is closed"):
                use()


def test_what_was_sent_is_the_senders_again(address):
    with open_router(address) as router, open_dealer(router.address, b"w") as dealer:
        pixels = bytearray(b"a" * 5_000_000)
        send(dealer, [memoryview(pixels)])
        pixels[:] = b"b" * 5_000_000
        assert take(router)[1] == [b"a" * 5_000_000]


# ---- ends ----------------------------------------------------------------------------------------------------------


def test_closing_does_not_wait_for_a_peer_that_never_comes(folder):
    started = time.monotonic()
    dealer = open_dealer(f"ipc://{folder}/nobody", b"w", linger_s=0.1)
    assert dealer.try_send([b"x"])
    dealer.close()
    dealer.close()
    assert time.monotonic() - started < 2


def test_the_last_words_of_a_process_arrive(address, start):
    source = "import sys; from hspc_live.wire.links import open_dealer\n"
    source += "with open_dealer(sys.argv[1], b'w') as link: link.try_send([b'x' * 1000000])\n"
    source += "import os; os._exit(0)"  # so that nothing but the closing can have waited
    with open_router(address) as router:
        process = start(source, router.address)
        assert process.wait(20) == 0
        assert take(router)[1] == [b"x" * 1_000_000]


@posix
def test_an_interrupt_during_a_wait_is_not_lost(folder, start):
    source = "import sys; from hspc_live.wire.links import open_router, open_dealer\n"
    source += "with open_router(sys.argv[1]) as link:\n  print('up', flush=True)\n  link.wait(20)"
    process = start(source, endpoint(folder, "a"))
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(5) not in (0, None)
    assert sys.platform == "win32" or process.returncode == -signal.SIGINT


NO_MORE_FILES = """
import resource
from hspc_live.core.errors import WireError
from hspc_live.wire.links import open_dealer, open_links
before = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
links = []
try:
    while len(links) < 200:
        links.append(open_dealer("tcp://127.0.0.1:9", None))
except WireError as error:
    print(error)
assert open_links() == len(links) > 10
resource.setrlimit(resource.RLIMIT_NOFILE, before)
open_dealer("tcp://127.0.0.1:9", None).close()
for link in links:
    link.close()
"""


def test_no_more_open_files_is_an_error_that_says_so_and_harms_no_open_link():
    done = subprocess.run([sys.executable, "-c", NO_MORE_FILES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no socket for tcp://127.0.0.1:9: Too many open files")
