"""One cell fires at most once, whatever is repeated on the wire: from a worker's results to the sorter's valve.

The real codec, the real order, core and firmware, in virtual time; hypothesis says what is repeated, and when.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from hspc_drivers.sorter_process import _DeviceProcess
from hspc_drivers.sorter_wire import Answered, ArmIt, Begin, DisarmIt, Fire, ToHost
from hspc_live.core.events import Arm, Classify, Command, Ended, Event, Finished, Received, Scored
from hspc_live.core.values import OBJECT_DTYPE, FrameResult, Receipt, SortCommand
from hspc_live.processes.order import FrameOrder
from hspc_live.processes.results import ResultShape, decode_results, encode_results
from hspc_live.settings.devices import SimulatedSorter
from hspc_live.settings.sort import Outlet, ScoreGate, SortSettings
from hspc_live.stages.sort_core import SortCore
from hspc_live.wire.codec import Decoder, Part, encode
from hspc_live.wire.messages import Entry, Results

MS = 1_000_000
FRAME_NS = 10 * MS
FRAMES = 110
SHAPE = ResultShape(np.dtype(np.uint8), 4, None, 100)
OUTLET = Outlet(name="left", gate=ScoreGate(class_name="LT-HSC", min=0.5))
INSTANT = SimulatedSorter(kind="simulated", latency_ms=0.0, min_lead_ms=0.0, watchdog_ms=1e9)


@dataclass
class Wire:
    """The device's end of a link: what it says is kept."""

    said: list[list[bytes]] = field(default_factory=list)

    def try_send(self, parts: list[Part]) -> bool:
        self.said.append([bytes(part) for part in parts])
        return True


@dataclass
class Clock:
    """Virtual time; host and device agree."""

    now_ns: int = 0

    def device_ns(self, _: int) -> int:
        return self.now_ns

    def host_ns(self, device_ns: int) -> int:
        return device_ns


class Chain:
    """Frames in, pulses out. `seed` decides what is said once more, and when; None: nothing is."""

    def __init__(self, starts: list[int], seed: int | None, *, orders_too: bool) -> None:
        self.starts = starts
        self.seed = seed
        self.random = random.Random(seed)
        self.orders_too = orders_too
        self.clock, self.wire = Clock(), Wire()
        self.device = _DeviceProcess(INSTANT, self.clock, self.wire, None, lambda: True)  # type: ignore[arg-type]
        self.core = SortCore(SortSettings(outlets=(OUTLET,)), ("LT-HSC", "MPP"))
        self.order = FrameOrder(None, 64)
        self.results, self.answers = Decoder[Results](Results), Decoder[ToHost](ToHost)
        self.commands: list[SortCommand] = []
        self.to_device: list[list[Part]] = []
        self.from_workers: list[list[Part]] = []
        self.from_device: list[list[bytes]] = []
        self._order(Begin(7))
        self._order(ArmIt())
        self.feed(Arm("test"))

    def repeats(self, kept: list[Any]) -> list[Any]:
        """What of `kept` comes once more now: the newest, and one of long ago."""
        if not kept or self.seed is None or self.random.random() < 0.5:
            return []
        return [kept[-1]] * self.random.randrange(3) + [self.random.choice(kept)]

    def frame(self, index: int) -> list[Part]:
        now = index * FRAME_NS
        xs = sorted(x for start in self.starts if 8.0 <= (x := (now - start * MS) * 4e-6) <= 248.0)
        objects = np.zeros(len(xs), OBJECT_DTYPE)
        for name, value in {"y_um": 30.0, "area_um2": 50.0, "diameter_um": 8.0, "brightness": 120.0}.items():
            objects[name] = value
        objects["x_um"], objects["sharpness"], objects["brightness_sd"] = xs, 3.0, 9.0
        crops = np.zeros((len(xs), 4, 4), np.uint8)
        none = np.zeros((0, 8, 8), np.uint8)
        return encode_results([FrameResult(index, now, objects, crops, none, none, 0)], "run")

    def run(self) -> None:
        for index in range(FRAMES):
            self.advance(index * FRAME_NS)
            entry = Entry(index, index * FRAME_NS, index * FRAME_NS)
            self.order.log([entry, *self.repeats([entry])])
            self.from_workers.append(self.frame(index))
            for parts in [self.from_workers[-1], *self.repeats(self.from_workers)]:
                decoded = self.results.decode(parts)
                for result in decode_results(decoded.message, decoded.arrays, SHAPE):
                    self.order.result(result)
            for item in self.order.take(0):
                self.feed(item.event)
        self.feed(Ended())
        self.advance(5_000 * MS)
        self.feed(Finished())

    def advance(self, until_ns: int) -> None:
        """The device acts at its own moments, and is told things again in between."""
        while self.clock.now_ns < until_ns:
            due = self.device._device.next_due_ns()
            self.clock.now_ns = min(until_ns, due if due is not None and due > self.clock.now_ns else until_ns)
            self.device._do(self.device._device.advance)
            for parts in self.repeats(self.to_device):
                self.device._serve(parts)
            self.receipts()

    def receipts(self) -> None:
        fresh, self.wire.said = self.wire.said, []
        self.from_device += fresh
        for parts in [*fresh, *self.repeats(self.from_device)]:
            message = self.answers.decode(parts).message
            if isinstance(message, Answered):
                self.feed(Received((Receipt(message.command, message.kind, message.at_ns, message.reason),)))

    def feed(self, event: Event) -> None:
        asked: list[tuple[int, int]] = []
        for action in self.core.feed(event, self.clock.now_ns):
            match action:
                case Classify():
                    asked.append((action.frame, action.view))
                case Command(command):
                    self.commands.append(command)
                    opens = command.fire_at_ns - command.width_ns // 2
                    self._order(
                        Fire(command.command, command.outlet, opens, opens + command.width_ns, command.deadline_ns)
                    )
        assert self.core.ledger.balanced() == []
        if asked:
            self.feed(Scored(tuple(asked), np.array([[0.9, 0.1]] * len(asked), np.float32)))

    def _order(self, message: Struct) -> None:
        parts = encode(message)
        if self.orders_too or isinstance(message, Fire):
            self.to_device.append(parts)
        for said in [parts, *self.repeats(self.to_device)]:
            self.device._serve([bytes(part) for part in said])
        if isinstance(message, Fire) and self.orders_too and len(self.to_device) % 3 == 0:
            self._order(DisarmIt())
            self._order(ArmIt())

    @property
    def fired(self) -> Counter[int]:
        """Pulses by cell."""
        cell_of = {command.command: command.cell for command in self.commands}
        return Counter(cell_of[pulse.command] for pulse in self.device._books.entries if hasattr(pulse, "opened_ns"))


starts = st.lists(st.integers(0, 400), min_size=1, max_size=3).map(
    lambda gaps: list(np.cumsum([g + 130 for g in gaps]))
)
seeds = st.integers(0, 2**32)


def test_undisturbed_the_chain_fires() -> None:
    chain = Chain([100, 350], None, orders_too=False)
    chain.run()
    assert sorted(chain.fired.values()) == [1, 1] and chain.core.ledger.commands.fired == 2


@settings(max_examples=25, deadline=None)
@given(starts, seeds)
def test_repeated_results_commands_and_receipts_change_nothing(at: list[int], seed: int) -> None:
    plain, noisy = Chain(at, None, orders_too=False), Chain(at, seed, orders_too=False)
    plain.run()
    noisy.run()
    assert noisy.commands == plain.commands
    assert noisy.fired == plain.fired and set(noisy.fired.values()) <= {1}
    assert noisy.core.ledger.to_json() == plain.core.ledger.to_json()


@settings(max_examples=25, deadline=None)
@given(starts, seeds)
def test_no_cell_fires_twice_even_if_orders_to_begin_and_to_arm_come_again(at: list[int], seed: int) -> None:
    chain = Chain(at, seed, orders_too=True)
    chain.run()
    assert set(chain.fired.values()) <= {1}
    commands = chain.core.ledger.commands
    assert len(chain.commands) == commands.sent == commands.fired + commands.refused + commands.unacknowledged


def test_the_whole_order_said_again_at_the_very_moment_of_firing_fires_once() -> None:
    chain = Chain([100], None, orders_too=True)
    opens = 50 * MS
    story = [encode(Begin(7)), encode(ArmIt()), encode(Fire(1, "left", opens, opens + 5 * MS, opens))]
    for now_ns in (40 * MS, opens, opens, opens + MS, opens + 10 * MS):
        chain.clock.now_ns = now_ns
        chain.device._do(chain.device._device.advance)
        for parts in story:
            chain.device._serve([bytes(part) for part in parts])
    assert [type(entry).__name__ for entry in chain.device._books.entries].count("Pulse") == 1
