"""A run's door: workers of another computer help, vanish, repeat themselves and lie; every cell is decided once.

The other computer is a network namespace with a cable of its own, where this user may make one; else a loopback
address plays it (the test's id says which).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from hspc_live.core.errors import WireError
from hspc_live.processes.ask import ask
from hspc_live.processes.remote_worker import RemoteWorker
from hspc_live.wire.codec import Decoder, encode
from hspc_live.wire.guard import new_pair
from hspc_live.wire.keys import Pass, read_public, read_secret, write_keys
from hspc_live.wire.links import Link, open_dealer
from hspc_live.wire.messages import Pace
from hspc_live.wire.remote import Alive, Bye, Done, FromDoor, Hello, Offer, Unknown, Welcome, Work

ROOT = Path(__file__).parents[2]


@dataclass
class Elsewhere:
    """Another computer: our address as it sees it, how a command is run there, and how its cable is cut."""

    host: str
    prefix: tuple[str, ...]
    cut: Callable[[subprocess.Popen[bytes]], None]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _may_make_namespaces() -> bool:
    name = f"hspc-try-{os.getpid()}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@pytest.fixture(params=["namespace" if _may_make_namespaces() else "loopback"])
def elsewhere(request: pytest.FixtureRequest) -> Iterator[Elsewhere]:
    if request.param == "loopback":
        yield Elsewhere("127.0.0.2", (), lambda process: process.send_signal(signal.SIGSTOP))
        return
    tag = os.getpid() % 60000
    space, here, there = f"hspc-{tag}", f"hs{tag}a", f"hs{tag}b"
    net = f"10.{200 + tag % 50}.{tag // 50 % 250}"
    try:
        _ip("netns", "add", space)
        _ip("link", "add", here, "type", "veth", "peer", "name", there)
        _ip("link", "set", there, "netns", space)
        _ip("addr", "add", f"{net}.1/24", "dev", here)
        _ip("link", "set", here, "up")
        _ip("netns", "exec", space, "ip", "addr", "add", f"{net}.2/24", "dev", there)
        _ip("netns", "exec", space, "ip", "link", "set", there, "up")
        yield Elsewhere(f"{net}.1", ("ip", "netns", "exec", space), lambda _: _ip("link", "set", here, "down"))
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "del", here)
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("netns", "del", space)


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, tuple[Path, Path]]:
    return {name: write_keys(tmp_path / "keys", name, new_pair()) for name in ("rig", "helper", "stranger")}


def door(keys: dict[str, tuple[Path, Path]], host: str) -> list[str]:
    return [
        f"door.listen=tcp://{host}:*",
        f"door.keys.secret={keys['rig'][1]}",
        f"door.keys.allow=[{keys['helper'][0]}]",
        "pipeline.lease_timeout_s=1.0",
    ]


class Held:
    """A replay that is held still until somebody has joined; listens to the run and keeps what was said."""

    def __init__(self, on_open: Callable[[str], None], then: Callable[[], None] = lambda: None) -> None:
        self.said: list[tuple[str, str, str]] = []
        self._on_open = on_open
        self._then = then
        self._control = ""
        self._open_at = ""
        self._threads: list[threading.Thread] = []
        self._failure: BaseException | None = None
        self._begun = False

    def __call__(self, role: str, kind: str, text: str) -> None:
        self.said.append((role, kind, text))
        match kind:
            case "open":
                self._open_at = text.rpartition(" ")[2]
                self._start()
            case "running":
                self._control = text.rpartition(" ")[2]
                self._start()
            case "joined":
                self._work(lambda: ask(self._control, Pace(None)), self._then)

    def _start(self) -> None:
        if self._control and self._open_at and not self._begun:  # a door that is started anew opens, too
            self._begun = True
            self._work(lambda: ask(self._control, Pace(0)), lambda: self._on_open(self._open_at))

    def _work(self, *acts: Callable[[], Any]) -> None:
        def run() -> None:
            try:
                for act in acts:
                    act()
            except BaseException as error:  # shown by `done`; the run shall not wait for it
                self._failure = error
                ask(self._control, Pace(None))

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def done(self) -> None:
        for thread in self._threads:
            thread.join(30)
        if self._failure is not None:
            raise self._failure

    def texts(self, kind: str) -> list[str]:
        return [text for _, said, text in self.said if said == kind]


def test_a_worker_on_another_computer_helps_and_when_it_vanishes_its_frames_go_out_once_more(
    live, replay, replayed, keys, elsewhere
):
    """The decisions are those of an undisturbed replay; a stranger's worker is told that it is not on the list."""
    helpers: list[subprocess.Popen[bytes]] = []

    def command(name: str, at: str) -> subprocess.Popen[bytes]:
        own = ("--secret", str(keys[name][1]), "--run-key", str(keys["rig"][0]))
        words = [*elsewhere.prefix, sys.executable, "-m", "hspc_live", "worker", at, "--name", name, *own]
        helpers.append(subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE))
        return helpers[-1]

    def vanish() -> None:
        time.sleep(1.0)
        elsewhere.cut(helpers[0])

    def arrive(at: str) -> None:
        stranger = command("stranger", at)
        command("helper", at)
        helpers.reverse()
        told.append(stranger.communicate(timeout=60)[1].decode())

    told: list[str] = []
    held = Held(arrive, vanish)
    try:
        outcome = replay(live.path, *door(keys, elsewhere.host), speed=0.5, listen=held)
    finally:
        held.done()
        for helper in helpers:
            helper.kill()
            helper.communicate()
    s = outcome.summary
    assert outcome.error is None, outcome.error
    assert len(held.texts("joined")) == 1 and read_public(keys["helper"][0]) in held.texts("joined")[0]
    assert any("silent" in text for text in held.texts("parted")), held.said
    report = outcome.report.reports["door"]
    assert sum(report["frames"].values()) > 0, "it has helped"
    assert set(report["denied"]) == {read_public(keys["stranger"][0])} and "not on the list" in held.texts("denied")[0]
    assert "public key on its list" in " ".join(told[0].split())
    expected = replayed.summary
    assert s["frames"]["lost"] == {} and s["frames"]["processed"] == expected["frames"]["processed"]
    assert s["workers"]["leased_again"] >= 1 and s["ledger"]["balanced"]
    assert s["decisions_sha256"] == expected["decisions_sha256"] and s["outcomes_sha256"] == expected["outcomes_sha256"]
    assert s["cells"] == expected["cells"] and s["commands"] == expected["commands"]


class Parrot:
    """A link that says everything three times, and everything of earlier once more; and makes things up."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._before: list[list[bytes]] = []
        self.address = link.address

    def try_send(self, parts: Any) -> bool:
        kept = [bytes(part) for part in parts]
        if b"hello" not in kept[0]:  # said again, that begins anew and would only be slow
            self._before = [*self._before[-40:], kept]
        lies = [encode(Offer(10**6)), encode(Offer(-1)), encode(Done(10**9, [])), [b"\xff" * 100], encode(Alive())]
        for extra in [kept, kept, *self._before[:3], *lies]:
            self._link.try_send(extra)
        return self._link.try_send(kept)

    def try_recv(self) -> Any:
        return self._link.try_recv()

    async def wait_readable(self, timeout_s: float | None = None) -> bool:
        return await self._link.wait_readable(timeout_s)


def test_a_worker_that_repeats_itself_and_lies_changes_nothing(live, replay, replayed, keys):
    """One cell fires at most once, whatever is repeated: decisions, commands and receipts are those without it."""

    def babble(at: str) -> None:
        own = Pass(read_secret(keys["helper"][1]), read_public(keys["rig"][0]))
        with open_dealer(at, None, own) as link:
            worker = RemoteWorker(Parrot(link), "parrot", lambda _: None)  # type: ignore[arg-type]
            assert asyncio.run(worker.run()) == "the run is over"
            frames.append(worker.frames)
            link.try_send(encode(Bye("going")))

    frames: list[int] = []
    held = Held(babble)
    outcome = replay(live.path, *door(keys, "127.0.0.1"), "door.messages_per_s=100000", speed=4.0, listen=held)
    held.done()
    s, expected = outcome.summary, replayed.summary
    assert outcome.error is None, outcome.error
    assert frames and frames[0] > 20, "it had work"
    refused = outcome.report.reports["door"]["refused"]
    assert refused["repeated"] > 2 * 20 and refused["impossible"] > 20 and refused["malformed"] > 20
    assert s["refused"]["door.repeated"] == refused["repeated"]
    assert s["decisions_sha256"] == expected["decisions_sha256"] and s["outcomes_sha256"] == expected["outcomes_sha256"]
    assert s["commands"] == expected["commands"] and s["cells"] == expected["cells"] and s["ledger"]["balanced"]
    assert s["frames"]["lost"] == {}


class Forgetful:
    """A link that loses all work until somebody at the other end does not know us; `lost` hears of the first."""

    def __init__(self, link: Link, lost: Callable[[], None]) -> None:
        self._link = link
        self._lost = lost
        self._decoder = Decoder[FromDoor](FromDoor)
        self._forgets = True
        self._told = False
        self.address = link.address

    def try_send(self, parts: Any) -> bool:
        return self._link.try_send(parts)

    def try_recv(self) -> Any:
        while (got := self._link.try_recv()) is not None:
            message = self._decoder.decode(got[1]).message
            self._forgets = self._forgets and not isinstance(message, Unknown)
            if not (self._forgets and isinstance(message, Work)):
                return got
            if not self._told:
                self._told = True
                self._lost()
        return None

    async def wait_readable(self, timeout_s: float | None = None) -> bool:
        return await self._link.wait_readable(timeout_s)


@pytest.mark.timeout(90)
def test_the_frames_that_a_door_had_given_away_when_it_died_go_out_once_more(live, replay, replayed, keys, processes):
    """Its worker joins the door that is started anew, under a name that nobody had before."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def work(at: str) -> None:
        own = Pass(read_secret(keys["helper"][1]), read_public(keys["rig"][0]))
        with open_dealer(at, None, own) as link:
            forgetful = Forgetful(link, lambda: processes.kill(processes.of_role("door")))
            for _ in range(3):  # on a busy computer it takes longer than a worker's patience to start a door
                with contextlib.suppress(WireError):
                    worker = RemoteWorker(forgetful, "helper", lambda _: None)  # type: ignore[arg-type]
                    frames.append(0)
                    assert asyncio.run(worker.run()) == "the run is over"
                    frames.append(worker.frames)
                    return

    frames: list[int] = []
    held = Held(work)
    overrides = [f"door.listen=tcp://127.0.0.1:{port}", *door(keys, "127.0.0.1")[1:]]
    outcome = replay(live.path, *overrides, speed=0.5, listen=held)
    held.done()
    s, expected = outcome.summary, replayed.summary
    assert outcome.error is None, outcome.error
    assert ("door", "replaced") in [(role, kind) for role, kind, _ in held.said]
    names = [text.partition(",")[0] for text in held.texts("joined")]
    assert len(names) >= 2 and len(set(names)) == len(names), names
    assert frames[-1] > 0, "it works for the new door"
    assert s["workers"]["leased_again"] >= 1 and s["frames"]["lost"] == {} and s["ledger"]["balanced"]
    assert s["decisions_sha256"] == expected["decisions_sha256"] and s["cells"] == expected["cells"]


def test_a_worker_that_says_hello_again_is_welcomed_again_and_keeps_a_short_name(live, replay, keys, processes):
    """Before it has asked for work nothing changes; afterwards it begins anew, by the name that it gives.

    A door that may open no more files lets nobody in, but stays; when it may again, it does.
    """

    def knock(at: str) -> None:
        own = Pass(read_secret(keys["helper"][1]), read_public(keys["rig"][0]))
        decoder = Decoder[FromDoor](FromDoor)
        name = "a-name-of-just-thirty-characters"

        def told(kind: type[Struct]) -> bool:
            while link.wait(10.0) and (got := link.try_recv()) is not None:
                if isinstance(decoder.decode(got[1]).message, kind):
                    return True
            return False

        with open_dealer(at, None, own) as link:
            for wishes in ([Hello(name)], [Hello(name)], [Offer(1), Hello(name)], [Offer(1), Hello(name)]):
                for wish in wishes:
                    link.try_send(encode(wish))
                answers.append(told(Welcome))
            pid = processes.of_role("door")
            limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
            for wish in (Offer(1), Hello(name), Alive()):
                link.try_send(encode(wish))
            answers.append(told(Unknown))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            link.try_send(encode(Hello(name)))
            answers.append(told(Welcome))
            link.try_send(encode(Bye("going\x1b[2J home\r\n")))

    answers: list[bool] = []
    held = Held(knock)
    outcome = replay(live.path, *door(keys, "127.0.0.1"), listen=held)
    held.done()
    assert outcome.error is None, outcome.error
    assert answers == [True] * 6
    names = [text.partition(",")[0] for text in held.texts("joined")]
    assert len(names) == 4 and all(name.startswith("segment-a-name-") for name in names), names
    assert sum("began anew" in text for text in held.texts("parted")) == 3
    assert outcome.report.reports["door"]["refused"] == {"too_many": 1}
    assert "left: going[2J home;" in held.texts("parted")[-1], "nothing that commands a terminal"
    assert not [kind for _, kind, _ in held.said if kind == "replaced"]
