"""Who comes in: only keys on the list, from the first moment on; and key files that are secret stay secret."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
import zmq
from zmq.auth import create_certificates, load_certificate

from hspc_live.core.errors import OutputError, SettingsError, WireError
from hspc_live.wire.guard import new_pair
from hspc_live.wire.keys import Guard, KeyPair, Pass, read_guard, read_public, read_secret, write_keys
from hspc_live.wire.links import Link, open_dealer, open_router

posix = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")

RIG, FRIEND, STRANGER = new_pair(), new_pair(), new_pair()


def arrives(router: Link, dealer: Link, within_s: float) -> bool:
    """Whether what the dealer says comes through."""
    assert dealer.try_send([b"hello"])
    return router.wait(within_s)


def test_a_known_key_comes_in_and_is_known_by_it():
    with open_router("tcp://127.0.0.1:*", Guard(RIG, frozenset({FRIEND.public}))) as router:
        with open_dealer(router.address, b"w", Pass(FRIEND, RIG.public)) as dealer:
            assert arrives(router, dealer, 10)
            assert router.try_recv() == (b"w", [b"hello"])
            assert router.peer_key == FRIEND.public and router.denied == {}
            assert router.try_send([b"welcome"], to=b"w")
            assert dealer.wait(5) and dealer.try_recv() == (None, [b"welcome"])


@pytest.mark.parametrize("who", ["unknown key", "no key", "wrong server", "own server key"])
def test_nobody_else_comes_in_and_the_known_are_not_disturbed(who: str):
    own = {
        "unknown key": Pass(STRANGER, RIG.public),
        "no key": None,
        "wrong server": Pass(FRIEND, STRANGER.public),  # an impostor's computer learns nothing from ours
        "own server key": Pass(RIG, RIG.public),
    }[who]
    with (
        open_router("tcp://127.0.0.1:*", Guard(RIG, frozenset({FRIEND.public}))) as router,
        open_dealer(router.address, b"bad", own) as bad,
        open_dealer(router.address, b"good", Pass(FRIEND, RIG.public)) as good,
    ):
        assert not arrives(router, bad, 1.0)
        assert arrives(router, good, 10)
        assert router.try_recv() == (b"good", [b"hello"]) and not router.wait(0.2)
        turned_away = {"unknown key": {STRANGER.public}, "own server key": {RIG.public}}.get(who, set())
        assert set(router.denied) == turned_away


def test_without_the_list_any_key_would_come_in():
    """What `protect` is for: a bare CURVE server asks nobody. If this ever fails, ZeroMQ has changed its mind."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    server, client = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    try:
        server.curve_server = True
        server.curve_secretkey = RIG.secret.encode()
        port = server.bind_to_random_port("tcp://127.0.0.1")
        client.curve_serverkey, client.linger = RIG.public.encode(), 0
        client.curve_publickey, client.curve_secretkey = STRANGER.public.encode(), STRANGER.secret.encode()
        client.connect(f"tcp://127.0.0.1:{port}")
        client.send(b"hello")
        assert server.poll(5000)
    finally:
        client.close()
        server.close()
        context.term()


def test_two_doors_of_one_process_have_lists_of_their_own():
    with (
        open_router("tcp://127.0.0.1:*", Guard(RIG, frozenset({FRIEND.public}))) as one,
        open_router("tcp://127.0.0.1:*", Guard(RIG, frozenset({STRANGER.public}))) as two,
        open_dealer(one.address, b"a", Pass(STRANGER, RIG.public)) as a,
        open_dealer(two.address, b"b", Pass(STRANGER, RIG.public)) as b,
    ):
        assert arrives(two, b, 10) and not arrives(one, a, 0.5)
    with open_router("tcp://127.0.0.1:*", Guard(RIG, frozenset({FRIEND.public}))) as again:  # after the handler's end
        with open_dealer(again.address, b"c", Pass(STRANGER, RIG.public)) as c:
            assert not arrives(again, c, 0.5)


def test_without_handover_nobody_takes_anothers_name():
    guard = Guard(RIG, frozenset({FRIEND.public, STRANGER.public}))
    with (
        open_router("tcp://127.0.0.1:*", guard, handover=False) as router,
        open_dealer(router.address, b"w", Pass(FRIEND, RIG.public)) as first,
    ):
        assert arrives(router, first, 10) and router.try_recv() is not None
        with open_dealer(router.address, b"w", Pass(STRANGER, RIG.public)) as second:
            assert not arrives(router, second, 0.5)
            assert router.try_send([b"for the first"], to=b"w")
            assert first.wait(5) and first.try_recv() == (None, [b"for the first"])


def test_keys_open_what_others_can_reach_and_only_keys_do():
    with pytest.raises(WireError, match=r"CURVE.*allow-list.*keygen"):
        open_router("tcp://0.0.0.0:*")
    with open_router("tcp://0.0.0.0:*", Guard(RIG, frozenset({FRIEND.public}))) as router:
        at = router.address.replace("0.0.0.0", "127.0.0.1")
        with open_dealer(at, b"w", Pass(FRIEND, RIG.public)) as dealer, open_dealer(at, b"x") as bare:
            assert arrives(router, dealer, 10) and router.try_recv() == (b"w", [b"hello"])
            assert not arrives(router, bare, 0.5)


def test_what_is_no_key_is_an_error_without_the_key_in_it():
    bad = KeyPair("x" * 40, "short")
    for attempt in (
        lambda: open_router("tcp://127.0.0.1:*", Guard(bad, frozenset({FRIEND.public}))),
        lambda: open_dealer("tcp://127.0.0.1:5555", b"w", Pass(bad, RIG.public)),
        lambda: open_dealer("tcp://127.0.0.1:5555", b"w", Pass(FRIEND, "no key")),
    ):
        with pytest.raises(WireError, match=r"no keys?$") as error:
            attempt()
        assert "short" not in str(error.value) and "no key at" not in str(error.value)
    assert RIG.secret not in repr(Guard(RIG, frozenset())) + repr(Pass(RIG, ""))


# ---- files ---------------------------------------------------------------------------------------------------------


@posix
def test_keys_are_written_once_the_secret_one_for_this_user_alone(tmp_path: Path):
    before = os.umask(0)
    try:
        public, secret = write_keys(tmp_path / "keys", "rig-1", RIG)
    finally:
        os.umask(before)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert RIG.secret not in public.read_text() and read_secret(secret) == RIG and read_public(public) == RIG.public
    text = secret.read_text()
    with pytest.raises(OutputError, match="never overwritten"):
        write_keys(tmp_path / "keys", "rig-1", FRIEND)
    assert secret.read_text() == text
    for name in ("", "../rig", "a/b", ".hidden", "x" * 65, "a\n"):
        with pytest.raises(OutputError, match="no name"):
            write_keys(tmp_path / "keys", name, FRIEND)
    (tmp_path / "link.key_secret").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="never overwritten"):
        write_keys(tmp_path, "link", FRIEND)
    assert not (tmp_path / "elsewhere").exists()


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o666, 0o644])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int):
    public, secret = write_keys(tmp_path, "rig", RIG)
    secret.chmod(mode)
    with pytest.raises(SettingsError, match=r"others can read.*chmod 600"):
        read_guard(secret, [public])


def test_files_that_hold_no_key_are_named(tmp_path: Path):
    public, secret = write_keys(tmp_path, "rig", RIG)
    with pytest.raises(SettingsError, match="no secret key"):
        (tmp_path / "copy").write_text(public.read_text())
        (tmp_path / "copy").chmod(0o600)
        read_secret(tmp_path / "copy")
    with pytest.raises(SettingsError, match=r"is a secret key; name the public file, rig\.key"):
        read_public(secret)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_public(tmp_path / "nobody.key")
    with pytest.raises(SettingsError, match="empty"):
        read_guard(secret, [])
    noise = tmp_path / "noise.key"
    noise.write_bytes(os.urandom(1 << 20))
    with pytest.raises(SettingsError, match="no public key"):
        read_public(noise)


def test_certificates_of_other_zeromq_tools_are_read(tmp_path: Path):
    for number in range(20):  # whatever characters a key is made of
        public, secret = map(Path, create_certificates(tmp_path, f"peer{number}", {"since": str(time.time())}))
        secret.chmod(0o600)
        pair = read_secret(secret)
        assert read_public(public) == pair.public == load_certificate(public)[0].decode()
        ours = write_keys(tmp_path / "ours", f"again{number}", pair)
        assert load_certificate(ours[1]) == (pair.public.encode(), pair.secret.encode())
