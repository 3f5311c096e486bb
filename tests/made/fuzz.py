"""Messages that nobody should send: seeded noise, and valid messages gone wrong. Run as a program it sends them.

python tests/made/fuzz.py PLAN.json      # {"seed", "messages", "targets": [{"kind", "at", "name", …}]}
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zmq
from msgspec import Struct

from hspc_drivers.sorter_wire import Answered, Pong, State
from hspc_live.core.errors import WireError
from hspc_live.core.values import OBJECT_DTYPE, FrameResult, ReceiptKind
from hspc_live.processes.results import encode_results, pack_results
from hspc_live.wire import messages as m
from hspc_live.wire import remote as r
from hspc_live.wire.codec import Decoder, encode
from hspc_live.wire.keys import Pass, read_public, read_secret
from hspc_live.wire.links import Link, open_dealer

Message = list[bytes]

WEIRD: list[Any] = [
    *(0, -1, 1, 2**31, 2**63 - 1, 2**64 - 1, -(2**63), 0.5, float("nan"), float("inf"), -0.0, True, None),
    *("", "a", "\x00", "../../etc/passwd", "segment-0", "sort", "x" * 3000, "\N{SNOWMAN}" * 50),
    *(
        b"",
        b"\x80\x04\x95",
        b"cos\nsystem\n(S'true'\ntR.",
        [],
        {},
        [[]],
        {"": []},
        [0] * 300,
        {str(n): n for n in range(50)},
    ),
]


def results(index: int, run: str) -> Message:
    objects = np.zeros(2, OBJECT_DTYPE)
    crops, none = np.zeros((2, 64, 64), np.uint8), np.zeros((0, 8, 8), np.uint8)
    return _bytes(encode_results([FrameResult(index, index, objects, crops, none, none, 0)], run))


def _bytes(parts: Any) -> Message:
    return [bytes(part) for part in parts]


def valid(kind: str, run: str, index: int) -> list[Message]:
    """Messages that the socket of this kind takes, or that one of its neighbours does."""
    ticket = m.Ticket(index, index, index, 0, 2, 0)
    told: dict[str, list[Struct]] = {
        "control": [
            *(
                m.Ready("segment-x", 1),
                m.Prepared(),
                m.Beat(),
                m.Said("alarm", "!"),
                m.Report("{}"),
                m.Failed("E", "t"),
            ),
            *(m.Hung("segment-0"), m.Parted("segment-0"), m.DisarmNow("fuzz"), m.SetGates('{"outlets": []}', "fuzz")),
            *(m.AskStatus(), m.AskRun(), m.Answer("segment-0", True, "yes"), m.Want(1), m.Quit(), m.Drain()),
        ],
        "work": [m.Want(1), m.Want(2), m.Release([index]), m.Prepared(), m.Lease([ticket], (8, 8), "uint8", [])],
        "sort": [
            *(m.Notices([m.Entry(index, index, index)]), m.Lost([index], "no"), m.StreamEnded(index), m.Want(1)),
            *(m.Results([]), m.Release([index])),
        ],
        "record": [
            *(m.Keep([ticket], (8, 8), "uint8", []), m.FramesEnded(1, 0), m.Scores([(index, 0)]), m.Note("a", "b", 1)),
            *(m.RunningLedger("{}"), m.CloseRecording("{}", "{}"), m.Books([], [], [])),
        ],
        "sorter": [Pong(1, 1, 1), State(1, True), State(0, False), Answered(index, ReceiptKind.FIRED, 1, "")],
        "door": [
            *(r.Hello("fuzz"), r.Offer(1), r.Offer(3), r.Alive(), r.Bye("x"), r.Done(index % 50, [])),
            *(r.Welcome(run, "{}", 1.0, "dic", 64, 0.25, 0), m.ArmNow("x"), m.EndRun("x"), m.StopNow("x")),
        ],
        "show": [m.AskStatus()],
    }
    made = [_bytes(encode(message, run=run)) for message in told[kind]]
    if kind in ("sort", "record"):
        made += [results(index, run), _bytes(encode(m.Scores([(index, 0)]), [np.zeros((1, 3), "f4")], run=run))]
    if kind == "door":
        heads, arrays = pack_results(
            [FrameResult(index, 1, np.zeros(0, OBJECT_DTYPE), *(np.zeros((0, 8, 8), np.uint8),) * 3, 0)]
        )
        made.append(_bytes(encode(r.Done(index % 50, heads), arrays, run=run)))
    return made


class Fuzz:
    """Endless bad messages for one kind of socket, the same for the same seed."""

    def __init__(self, kind: str, run: str, seed: int) -> None:
        self._random = random.Random(f"{seed} {kind}")
        self._kind = kind
        self._run = run

    def __iter__(self) -> Iterator[Message]:
        while True:
            pick = self._random
            index = pick.randrange(5000)
            base = pick.choice(valid(self._kind, pick.choice([self._run, self._run, self._run, "", "other"]), index))
            for _ in range(20):  # one body is changed in many ways: making a valid one costs more than to spoil it
                yield self._one(base)

    def _one(self, base: Message) -> Message:
        pick = self._random
        how: list[Callable[[Message], Message]] = [
            *(self._noise, self._flip, self._flip, self._cut, self._grow, self._parts),
            *(self._leaf, self._leaf, self._leaf, self._leaf, lambda parts: parts),
        ]
        return pick.choice(how)(list(base))

    def _noise(self, _: Message) -> Message:
        return [
            self._random.randbytes(self._random.choice([0, 1, 7, 40, 300]))
            for _ in range(self._random.choice([1, 1, 2, 5]))
        ]

    def _flip(self, parts: Message) -> Message:
        at = self._random.randrange(len(parts))
        body = bytearray(parts[at])
        for _ in range(self._random.choice([1, 1, 2, 8])):
            if body:
                body[self._random.randrange(len(body))] ^= 1 << self._random.randrange(8)
        parts[at] = bytes(body)
        return parts

    def _cut(self, parts: Message) -> Message:
        at = self._random.randrange(len(parts))
        parts[at] = parts[at][: self._random.randrange(len(parts[at]) + 1)]
        return parts

    def _grow(self, parts: Message) -> Message:
        at = self._random.randrange(len(parts))
        parts[at] += self._random.randbytes(self._random.choice([1, 8, 2000]))
        return parts

    def _parts(self, parts: Message) -> Message:
        match self._random.randrange(4):
            case 0:
                return parts * self._random.choice([2, 3])
            case 1:
                return parts + [b""] * self._random.choice([1, 4, 300])
            case 2:
                return parts[1:] or [b""]
            case _:
                self._random.shuffle(parts)
                return parts

    def _leaf(self, parts: Message) -> Message:
        """Another value somewhere in the header: of another type, far too large, or out of any range."""
        try:
            tree = msgspec.msgpack.decode(parts[0])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return self._flip(parts)
        holder, key = None, None
        node = tree
        while isinstance(node, dict | list) and node and (holder is None or self._random.random() < 0.8):
            holder, key = node, self._random.choice(list(node) if isinstance(node, dict) else range(len(node)))
            node = holder[key]
        if holder is not None:
            if self._random.random() < 0.15:
                del holder[key]
            else:
                holder[key] = self._random.choice(WEIRD)
        parts[0] = msgspec.msgpack.encode(tree)
        return parts


_CONTROL = Decoder(m.Visited)  # type: ignore[arg-type]
_REAL_WISHES = (m.EndRun, m.StopNow, m.ArmNow, m.Pace)


def is_a_real_wish(parts: Message) -> bool:
    """Whether the run would rightly do what this says: a spoilt message may still be a good one."""
    try:
        return isinstance(_CONTROL.decode(parts).message, _REAL_WISHES)
    except WireError:
        return False


class Onlooker:
    """What connects to a publisher and says more than an onlooker has to say."""

    def __init__(self, at: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.XSUB)
        self._socket.set(zmq.SNDHWM, 100)
        self._socket.set(zmq.LINGER, 20_000)
        self._socket.connect(at)

    def try_send(self, parts: Message) -> bool:
        """As `Link.try_send`; most of it is made a subscription."""
        body = parts[0] if parts[0][:1] == b"\xff" else b"\x01" + parts[0]
        try:
            self._socket.send(body, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def try_recv(self) -> None:
        """Nothing it is shown matters."""
        while self._socket.poll(0):
            self._socket.recv()

    def close(self) -> None:
        """As `Link.close`."""
        self._socket.close()
        self._context.term()


def _send(link: Link | Onlooker, parts: Message) -> bool:
    """Send, waiting for room as long as it takes; False if nobody is there any more."""
    until = time.monotonic() + 60.0
    while not link.try_send(parts):
        while link.try_recv() is not None:
            pass
        if time.monotonic() > until:
            return False
        time.sleep(0.0005)
    while link.try_recv() is not None:
        pass
    return True


def main() -> None:
    """Send what the plan says, to all targets in turn; print how many went to each."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    links: list[tuple[str, Link | Onlooker, Iterator[Message], int]] = []
    for target in plan["targets"]:
        own = (
            Pass(read_secret(Path(target["secret"])), read_public(Path(target["server"])))
            if "secret" in target
            else None
        )
        link = (
            Onlooker(target["at"])
            if target["kind"] == "show"
            else open_dealer(target["at"], target["name"].encode(), own, hwm=100, max_parts=1000, linger_s=20.0)
        )
        links.append((target["kind"], link, iter(Fuzz(target["kind"], plan["run"], plan["seed"])), target["messages"]))
    sent = dict.fromkeys((target["kind"] for target in plan["targets"]), 0)
    most = max(messages for *_, messages in links)
    for number in range(most):
        for kind, link, source, messages in links:
            if number < messages:
                parts = next(source)
                while kind == "control" and is_a_real_wish(parts):
                    parts = next(source)
                sent[kind] += _send(link, parts)
    for _, link, *_ in links:
        link.close()
    print(json.dumps(sent))


if __name__ == "__main__":
    main()
