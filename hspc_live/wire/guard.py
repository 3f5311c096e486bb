"""CURVE on a socket, and who asks at the door: the allow-list is in force before anything is bound.

CURVE alone only encrypts: a ZeroMQ server without a ZAP handler lets in whoever knows its public key. So `protect`
starts the handler first, and a socket that it has not seen cannot be bound where others reach it (`wire.address`).
Beside `links` the only module that speaks ZeroMQ.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter

import zmq
from zmq.auth.thread import ThreadAuthenticator

from hspc_live.core.errors import WireError
from hspc_live.wire.keys import Guard, KeyPair, Pass

_lock = threading.Lock()
_at_the_door: dict[zmq.Context[zmq.Socket[bytes]], ThreadAuthenticator] = {}


def new_pair() -> KeyPair:
    """New keys, from ZeroMQ's own generator."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


class AllowList:
    """Says of each key that knocks whether it may come in; `denied` counts the others by key."""

    MOST_REMEMBERED = 64

    def __init__(self, allow: frozenset[str]) -> None:
        self._allow = frozenset(key.encode() for key in allow)
        self.denied: Counter[str] = Counter()

    def callback(self, _domain: str, key: bytes) -> bool:
        """What the ZAP handler asks, in its own thread."""
        if key in self._allow:
            return True
        name = key.decode("ascii", errors="replace")
        if name in self.denied or len(self.denied) < self.MOST_REMEMBERED:
            self.denied[name] += 1
        return False


class Protection:
    """A bound socket's protection; `lift` it when the socket has been closed."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], domain: str, allow_list: AllowList) -> None:
        self._context = context
        self._domain = domain
        self.allow_list = allow_list

    def lift(self) -> None:
        """Forget the list; the last one of a context ends its handler, without which the context could not end."""
        with _lock:
            handler = _at_the_door[self._context]
            del handler.credentials_providers[self._domain]
            if not handler.credentials_providers:
                del _at_the_door[self._context]
                handler.stop()


def protect(context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes], guard: Guard) -> Protection:
    """Before `socket` is bound: only keys on the list get through. Raises WireError for keys that are none."""
    allow_list = AllowList(guard.allow)
    domain = secrets.token_hex(8)
    with _lock:
        handler = _at_the_door.get(context)
        if handler is None:
            handler = ThreadAuthenticator(context)
            handler.start()
            _at_the_door[context] = handler
        handler.configure_curve_callback(domain, allow_list)
    protection = Protection(context, domain, allow_list)
    try:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        _set_keys(socket, guard.own)
        socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
    except WireError:
        protection.lift()
        raise
    return protection


def identify(socket: zmq.Socket[bytes], own: Pass) -> None:
    """Before `socket` is connected: who we are, and who must answer. Raises WireError for keys that are none."""
    _set_keys(socket, own.own)
    try:
        socket.setsockopt(zmq.CURVE_SERVERKEY, own.server.encode())
    except zmq.ZMQError as error:
        raise WireError("the other end's public key is no key") from error


def _set_keys(socket: zmq.Socket[bytes], pair: KeyPair) -> None:
    try:
        socket.setsockopt(zmq.CURVE_PUBLICKEY, pair.public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, pair.secret.encode())
    except zmq.ZMQError as error:  # never with the key in it
        raise WireError("the keys of this end are no keys") from error
