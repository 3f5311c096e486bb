"""The sockets between processes: ROUTER/DEALER where what is sent must arrive, PUB/SUB for those who only look on.

With `guard` the only module that speaks ZeroMQ. A link never blocks: sending says at once whether the message was
taken, receiving takes what is there, and waiting is a call of its own. Every queue, part and message has a limit. Links
of one process belong to one thread. Addresses are private to this user or this machine (`wire.address`), or guarded by
keys.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import zmq

from hspc_live.core.errors import WireError
from hspc_live.wire.address import check_bindable, endpoint, private_folder
from hspc_live.wire.codec import Part
from hspc_live.wire.guard import Protection, identify, protect
from hspc_live.wire.keys import Guard, Pass

__all__ = [
    "Link",
    "endpoint",
    "open_dealer",
    "open_links",
    "open_pub",
    "open_router",
    "open_sub",
    "private_folder",
    "wait_any",
]

Options = dict[int, int | bytes]

HANDSHAKE_MS = 10_000
ANEW_S = 1.0
_SUBSCRIPTION_BYTES = 256  # the handshake needs some 50
_LEND_FROM_BYTES = 64 << 10  # on arrival; below this, copying costs less than keeping the queue's buffer alive

_lock = threading.Lock()
_context: zmq.Context[zmq.Socket[bytes]] | None = None
_open: set[Link] = set()


def open_links() -> int:
    """How many links of this process are open."""
    return len(_open)


class LinkLimits(TypedDict, total=False):
    """What may be set at a link: messages queued per peer and direction (1000), bytes of a message (512 MiB).

    Also the parts of a message (257), the bytes and parts of one that comes in (as many), and the seconds that closing
    leaves to what is queued (0.2).
    """

    hwm: int
    max_message_bytes: int
    max_parts: int
    max_incoming_bytes: int | None
    max_incoming_parts: int | None
    linger_s: float


class Link:
    """One socket. Made by the `open_…` functions; a context manager.

    `address` is the endpoint with its real port. `refused` counts messages that came and were over a limit, `denied`
    the public keys that knocked and are not on the list, `peer_key` is that of the last message's sender (empty without
    CURVE). Using a closed link raises WireError.
    """

    def __init__(
        self,
        kind: int,
        address: str,
        *,
        bind: bool,
        options: Options,
        hwm: int = 1000,
        max_message_bytes: int = 512 << 20,
        max_parts: int = 257,
        max_incoming_bytes: int | None = None,
        max_incoming_parts: int | None = None,
        linger_s: float = 0.2,
        security: Guard | Pass | None = None,
    ) -> None:
        global _context
        if bind:
            check_bindable(address, guarded=isinstance(security, Guard))
        if address.startswith("tcp://"):
            # A unix socket tells at once when its peer is gone; TCP has to ask. Nor may a stranger dawdle at the door.
            options = {
                **options,
                zmq.HEARTBEAT_IVL: 1000,
                zmq.HEARTBEAT_TIMEOUT: 5000,
                zmq.HANDSHAKE_IVL: HANDSHAKE_MS,
                zmq.IPV6: int("[" in address),
            }
        self._routes = kind == zmq.ROUTER
        self._max_bytes = max_message_bytes
        self._max_incoming = max_message_bytes if max_incoming_bytes is None else max_incoming_bytes
        self._max_parts = max_parts
        self._max_incoming_parts = max_parts if max_incoming_parts is None else max_incoming_parts
        self._waiters: set[asyncio.Future[bool]] = set()
        self._watching: asyncio.AbstractEventLoop | None = None
        self._protection: Protection | None = None
        self.refused = 0
        self.peer_key = ""
        with _lock:
            if _context is None:
                _context = zmq.Context()
            try:
                self._socket: zmq.Socket[bytes] = _context.socket(kind)
            except zmq.ZMQError as error:  # e.g. too many open files
                raise WireError(f"no socket for {address}: {error}") from error
            _open.add(self)
        try:
            self._socket.set_hwm(hwm)
            self._socket.setsockopt(zmq.MAXMSGSIZE, self._max_incoming)
            self._socket.setsockopt(zmq.LINGER, round(linger_s * 1000))
            for option, value in options.items():
                self._socket.setsockopt(option, value)
            match security:
                case Guard():
                    self._protection = protect(_context, self._socket, security)
                case Pass():
                    identify(self._socket, security)
                case None:
                    pass
            if bind:
                self._socket.bind(address)
            else:
                self._socket.connect(address)
            self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        except zmq.ZMQError as error:
            self.close()
            raise WireError(f"cannot {'bind' if bind else 'connect to'} {address}: {error}") from error
        except WireError:
            self.close()
            raise

    @property
    def denied(self) -> dict[str, int]:
        """How often which public key was turned away."""
        return {} if self._protection is None else dict(self._protection.allow_list.denied)

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def try_send(self, parts: Sequence[Part], to: bytes | None = None) -> bool:
        """Hand over a message whole, or not at all and return False: the queue is full, or `to` is not connected.

        `to` names the peer of a router, and only there. The parts are the caller's again on return. True means
        queued: a peer that dies takes its queue along. Raises WireError for a message over the limits.
        """
        if self._routes != (to is not None):
            raise WireError("a router's message names its receiver; no other link's does")
        if not 1 <= len(parts) <= self._max_parts:
            raise WireError(f"a message of {len(parts)} parts over the limit of this link")
        if sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in parts) > self._max_bytes:
            raise WireError(f"a message of more than {self._max_bytes} bytes, the limit of this link")
        frames: Sequence[Part] = parts if to is None else [to, *parts]
        last = len(frames) - 1
        sent = True
        for number, frame in enumerate(frames):
            try:
                # Copied: lending the memory until it is sent gains nothing measurable below 1 MiB (bench link)
                # and would let a sender overwrite what is still in the queue.
                self._socket.send(frame, zmq.NOBLOCK | (zmq.SNDMORE if number < last else 0))
            except zmq.Again:
                # After the first part only a peer that vanished in mid-message ends here. The socket then swallows
                # the parts up to the last one; unless it gets them, it would swallow the start of the next message.
                sent = False
                if number == 0:
                    break
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise self._broken(error) from error
                sent = False
                break
        self._wake()
        return sent

    def try_recv(self) -> tuple[bytes | None, list[Part]] | None:
        """The next message as (sender, parts), or None when none waits. The sender is None but for a router."""
        try:
            while (message := self._receive()) is None:
                self.refused += 1
        except zmq.Again:
            message = None
        except zmq.ZMQError as error:
            raise self._broken(error) from error
        self._wake()
        if message is None:
            return None
        return (bytes(message[0]), message[1:]) if self._routes else (None, message)

    def _receive(self) -> list[Part] | None:
        """One message, or None for one over the limits, which is read to its end and let go. Raises zmq.Again."""
        parts: list[Part] = []
        room, most = self._max_incoming, self._max_incoming_parts + self._routes
        count, more = 0, True
        while more:
            frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            count += 1
            more = frame.more
            room -= len(frame)
            if count <= most and room >= 0:
                parts.append(frame.buffer if len(frame) >= _LEND_FROM_BYTES else frame.bytes)
            if count == 1 and self._protection is not None:
                self.peer_key = str(frame.get("User-Id"))
        return parts if count <= most and room >= 0 and count > self._routes else None

    # The descriptor of a socket signals commands, not messages, and any send or receive may consume the signal. So
    # readiness is asked after every operation on behalf of whoever is waiting, and before anyone begins to wait.

    def readable(self) -> bool:
        """Whether a message waits."""
        try:
            return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)
        except zmq.ZMQError as error:
            raise self._broken(error) from error

    def watch(self, waiter: asyncio.Future[bool]) -> None:
        """Set `waiter` to True once a message comes, until `unwatch`; none may wait already (see `wait_any`)."""
        loop = waiter.get_loop()
        if self._watching is not loop:
            self._leave_loop()
            loop.add_reader(self._socket.FD, self._on_signal)
            self._watching = loop
        self._waiters.add(waiter)

    def unwatch(self, waiter: asyncio.Future[bool]) -> None:
        """Forget `waiter`."""
        self._waiters.discard(waiter)

    def _broken(self, error: zmq.ZMQError) -> WireError:
        return WireError(f"the link at {self.address} is closed" if self not in _open else f"{self.address}: {error}")

    def _wake(self) -> None:
        if self._waiters:
            self._on_signal()

    def _on_signal(self) -> None:
        if self.readable():  # asking consumes the signal, or the loop would spin on it while nobody waits
            for waiter in self._waiters:
                _settle(waiter, True)

    def _leave_loop(self) -> None:
        if self._watching is not None and not self._watching.is_closed():
            self._watching.remove_reader(self._socket.FD)
        self._watching = None

    async def wait_readable(self, timeout_s: float | None = None) -> bool:
        """Wait until a message is there (True) or the time is up (False). Use it in an event loop."""
        return await wait_any((self,), timeout_s)

    def wait(self, timeout_s: float | None = None) -> bool:
        """As `wait_readable`, blocking the thread: for processes without an event loop."""
        try:
            return bool(self._socket.poll(None if timeout_s is None else math.ceil(timeout_s * 1000)))
        except zmq.ZMQError as error:
            raise self._broken(error) from error

    def close(self) -> None:
        """Close; what is queued gets the linger time. The last link of a process waits for that time to pass."""
        global _context
        with _lock:
            if self not in _open:
                return
            self._leave_loop()
            for waiter in self._waiters:
                _settle(waiter, False)
            self._waiters.clear()
            self._socket.close()
            if self._protection is not None:
                self._protection.lift()
            _open.discard(self)
            if not _open and _context is not None:
                _context.term()
                _context = None


def _settle(waiter: asyncio.Future[bool], readable: bool) -> None:
    if not waiter.done():
        waiter.set_result(readable)


async def wait_any(
    links: Sequence[Link], timeout_s: float | None = None, also: Sequence[asyncio.Future[Any]] = ()
) -> bool:
    """Wait until a link has a message or a future of `also` is done (True), or time is up or a link is closed (False).

    One future is waited for, whatever comes: tasks for each, cancelled by the first, would cost a cell more time than
    its way through the sockets.
    """
    if any(link.readable() for link in links):
        return True
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[bool] = loop.create_future()
    timer = None if timeout_s is None else loop.call_later(timeout_s, _settle, waiter, False)
    for link in links:
        link.watch(waiter)

    def done(_: asyncio.Future[Any]) -> None:
        _settle(waiter, True)

    for future in also:
        future.add_done_callback(done)
    try:
        return await waiter
    finally:
        for future in also:
            future.remove_done_callback(done)
        if timer is not None:
            timer.cancel()
        for link in links:
            link.unwatch(waiter)


def open_router(
    address: str, guard: Guard | None = None, *, handover: bool = True, **limits: Unpack[LinkLimits]
) -> Link:
    """Bind the end that many dealers connect to; with a `guard` only for those whose key is on its list.

    `handover`: a restarted peer takes over its name. Without it nobody can take another's. Raises WireError if others
    than this user (ipc) or this machine (tcp) could reach it and there is no guard.
    """
    options: Options = {zmq.ROUTER_MANDATORY: 1, zmq.ROUTER_HANDOVER: int(handover)}  # say when a receiver is unknown
    return Link(zmq.ROUTER, address, bind=True, options=options, security=guard, **limits)


def open_dealer(address: str, identity: bytes | None, own: Pass | None = None, **limits: Unpack[LinkLimits]) -> Link:
    """Connect to a router under the name `identity` (1 to 255 bytes, not beginning with a zero).

    None takes a name that the router gives, and that nobody else can have. `own` opens a guarded one.
    """
    if identity is not None and (not 1 <= len(identity) <= 255 or identity[0] == 0):
        raise WireError(f"{identity!r} is no identity: 1 to 255 bytes, the first not zero")
    options: Options = {} if identity is None else {zmq.IDENTITY: identity}
    return Link(zmq.DEALER, address, bind=False, options=options, security=own, **limits)


class Publisher:
    """The sending end for those who only look on; made by `open_pub`, a context manager.

    `try_send` never waits: who does not keep up, or stands still, misses messages, and the sender does not notice.
    """

    STRANGE = 1000

    def __init__(self, address: str) -> None:
        self._link = _pub(address)
        self._listened = False
        self._strange = 0
        self._before = 0

    @property
    def refused(self) -> int:
        """What came that is no subscription to everything; nobody who looks on sends anything else."""
        return self._before + self._strange + self._link.refused

    @property
    def address(self) -> str:
        """Where to subscribe."""
        return self._link.address

    def listened(self) -> bool:
        """Whether anybody subscribes now: without that, nothing needs to be made up at all."""
        while (got := self._link.try_recv()) is not None:  # the socket says who comes first and who goes last
            if len(got[1]) == 1 and bytes(got[1][0]) in (b"\x00", b"\x01"):
                self._listened = bytes(got[1][0]) == b"\x01"
                continue
            self._strange += 1
            if self._strange >= self.STRANGE:
                self._anew()
                break
        return self._listened

    def _anew(self) -> None:
        """Bind anew: a socket remembers every subscription, and only its end frees the memory of strange ones.

        Those who really look on are back at once.
        """
        self._before, self._strange, self._listened = self.refused, 0, False
        address = self._link.address
        self._link.close()
        path = Path(address.removeprefix("ipc://"))
        until = time.monotonic() + ANEW_S
        while address.startswith("ipc://") and path.exists() and time.monotonic() < until:
            time.sleep(0.001)  # else the old socket's end, in ZeroMQ's own thread, would remove the new one's file
        while True:
            try:
                self._link = _pub(address)
                return
            except WireError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.001)

    def try_send(self, part: Part) -> None:
        """Hand over one message of one part to all who keep up. Raises WireError for one over the limits."""
        self._link.try_send([part])

    def close(self) -> None:
        """Close; nobody is waited for."""
        self._link.close()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_pub(address: str) -> Publisher:
    """Bind the end that many may subscribe to. One message may wait for each: a slow one misses the others.

    Raises WireError as `open_router` does.
    """
    return Publisher(address)


def _pub(address: str) -> Link:
    return Link(zmq.XPUB, address, bind=True, options={}, hwm=1, max_incoming_bytes=_SUBSCRIPTION_BYTES, linger_s=0.0)


def open_sub(address: str) -> Link:
    """Subscribe to everything at `address`; only the newest message is kept, in one part (`codec.split`)."""
    options: Options = {zmq.CONFLATE: 1, zmq.SUBSCRIBE: b""}
    return Link(zmq.SUB, address, bind=False, options=options, linger_s=0.0)
