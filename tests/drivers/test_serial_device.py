"""The device at the end of the wire: firmware (C++) and Python say the same bytes and do the same, whatever comes."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_drivers import serial_protocol as protocol
from hspc_drivers.serial_device import Brain, SerialDevice
from hspc_drivers.serial_firmware import Firmware
from hspc_drivers.serial_protocol import TO_HOST, U32, Line, LineReader, encode
from hspc_drivers.sorter_device import FiredPulse
from hspc_live.settings.devices import SimulatedSorter

MS = 1000
SETTINGS = SimulatedSorter(kind="simulated", watchdog_ms=200.0, min_lead_ms=5.0, latency_ms=2.0, max_queue=5)
STARTS = st.one_of(st.integers(0, 10**7), st.integers(U32 - 10**6, U32 + 10**6), st.integers(0, 3 * U32))


@dataclass(frozen=True)
class Step:
    """Wait, then say `message`, or wake up (None), or send junk."""

    wait_us: int
    act: str
    number: int
    seq: int
    outlet: int
    in_us: int
    width_us: int
    slack_us: int
    junk: bytes


STEPS = st.lists(
    st.builds(
        Step,
        wait_us=st.one_of(st.integers(0, 100), st.integers(0, 60 * MS), st.integers(0, 400 * MS)),
        act=st.sampled_from(["fire"] * 8 + ["arm", "arm", "ping", "ask", "ask", "disarm", "hello", "wake", "junk"]),
        number=st.integers(0, 40),
        seq=st.integers(1, 3),
        outlet=st.integers(0, 4),
        in_us=st.one_of(st.integers(-10 * MS, 150 * MS), st.integers(-(10**8), 10**8)),
        width_us=st.one_of(st.integers(0, 30 * MS), st.integers(0, 2 * 10**6)),
        slack_us=st.integers(-60 * MS, 20 * MS),
        junk=st.binary(max_size=100),
    ),
    max_size=60,
)


def _bytes(step: Step, now_us: int) -> bytes:
    def wire(at_us: int) -> int:
        return at_us % U32

    match step.act:
        case "fire":
            opens, deadline = now_us + step.in_us, now_us + step.in_us + step.slack_us
            fire = protocol.Fire(step.number, step.outlet, wire(opens), step.width_us, wire(deadline))
            return encode(step.seq, fire)
        case "arm":
            return encode(step.seq, protocol.Arm())
        case "ping":
            return encode(step.seq, protocol.Ping())
        case "ask":
            return encode(step.seq, protocol.Ask(step.number))
        case "disarm":
            return encode(step.seq, protocol.Disarm())
        case "hello":
            return encode(step.seq, protocol.Hello(1, step.number))
        case "junk":
            return step.junk
    return b""


def _drive(brain: Brain, steps: list[Step], start_us: int, *, punctual: bool) -> list[object]:
    """Everything that is said and done; a punctual device wakes at every due moment."""
    now_us = start_us
    said: list[object] = [brain.feed(encode(1, protocol.Hello(1, 77)), now_us)]
    said.append(brain.feed(encode(2, protocol.Arm()), now_us))
    for step in steps:
        until_us = now_us + step.wait_us
        while punctual and (due_us := brain.due_us(now_us)) is not None and due_us < until_us:
            now_us = max(now_us, due_us)
            said.append((now_us, brain.advance(now_us)))
        now_us = until_us
        said.append((now_us, brain.due_us(now_us)))
        said.append(brain.feed(_bytes(step, now_us), now_us))
        said.append((brain.advance(now_us), brain.outputs()))
    return said


def _busy_life(seed: int) -> list[Step]:
    """A long stretch of sorting as it goes, with all that is refused in it: deeper than chance alone would come."""
    chance = random.Random(seed)
    steps = []
    number = 0
    for _ in range(chance.randrange(40, 160)):
        act = chance.choices(["fire", "ping", "ask", "arm", "wake", "disarm", "hello"], [60, 20, 12, 6, 4, 1, 0.5])[0]
        if act == "hello":
            number = 0
        number += act == "fire" and chance.random() < 0.95
        steps.append(
            Step(
                wait_us=chance.choice([0, 1, chance.randrange(3 * MS), chance.randrange(25 * MS)]),
                act=act,
                number=max(0, number - (chance.randrange(30) if act == "ask" else 0)),
                seq=chance.randrange(1, 3),
                outlet=chance.choice([1, 2, 1, 2, 1, 2, 0, 3]),
                in_us=chance.choice([chance.randrange(4 * MS, 12 * MS), chance.randrange(100 * MS), 61_000 * MS]),
                width_us=chance.choice([1, chance.randrange(3 * MS), chance.randrange(12 * MS), 1000 * MS + 1]),
                slack_us=-chance.choice([0, 5 * MS, chance.randrange(100 * MS)]),
                junk=b"",
            )
        )
    return steps


def _same(firmware: Path, steps: list[Step], start_us: int, *, punctual: bool) -> None:
    core = Firmware(firmware, SETTINGS)
    try:
        theirs = _drive(core, steps, start_us, punctual=punctual)
    finally:
        core.close()
    assert theirs == _drive(SerialDevice(SETTINGS), steps, start_us, punctual=punctual)


@given(STEPS, STARTS, st.booleans())
@settings(max_examples=150, deadline=None)
def test_the_firmware_says_and_does_what_the_python_device_does(
    firmware: Path, steps: list[Step], start_us: int, punctual: bool
) -> None:
    _same(firmware, steps, start_us, punctual=punctual)


@given(st.integers(0, 2**32), STARTS, st.booleans())
@settings(max_examples=150, deadline=None)
def test_so_it_does_in_a_long_and_busy_life(firmware: Path, seed: int, start_us: int, punctual: bool) -> None:
    _same(firmware, _busy_life(seed), start_us, punctual=punctual)


@pytest.mark.parametrize("word", ["4294967295", "4294967296", "42949672950", "01", "", "-1", "1a", "+1", " 1"])
@pytest.mark.parametrize(
    "body", ["0001 ASK {}", "0001 HELLO {} 7", "0001 FIRE 1 {} 3 4 5", "0001 PING{}", "000{} PING"]
)
def test_both_read_the_same_numbers(firmware: Path, body: str, word: str) -> None:
    text = f"000{body.format(word)}".encode()
    line = b"%s*%04X\n" % (text, protocol.crc16(text))
    python, core = _brains(firmware)
    _say(python, 1, protocol.Hello(1, 5), 0), _say(core, 1, protocol.Hello(1, 5), 0)
    assert python.feed(line, 0) == core.feed(line, 0) != b""


@given(STEPS, STARTS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_accepted_command_has_one_end_and_fires_in_its_window(
    steps: list[Step], start_us: int, punctual: bool
) -> None:
    device = SerialDevice(SETTINGS)
    hello_free = [step for step in steps if step.act != "hello"]
    happened = _drive(device, hello_free, start_us, punctual=punctual)
    last = device.advance(start_us + sum(step.wait_us for step in hello_free) + 10**9)
    stream = b"".join(part for item in [*happened, last] for part in _parts(item) if isinstance(part, bytes))
    messages = _read(stream)
    assert len(messages) == stream.count(b"\n"), "the device says nothing that its host cannot read"
    ends = [said.command for seq, said in messages if seq == 0 and isinstance(said, protocol.Done | protocol.Drop)]
    assert len(ends) == len(set(ends))
    pulses = [out for item in happened for out in _outputs(item) if isinstance(out, FiredPulse)]
    pulses += [out for out in device.outputs() if isinstance(out, FiredPulse)]
    assert len({pulse.command for pulse in pulses}) == len(pulses)
    for before, after in itertools.pairwise(pulses):
        assert before.closed_ns <= after.opened_ns


def _parts(item: object) -> tuple[object, ...]:
    return item if isinstance(item, tuple) else (item,)


def _outputs(item: object) -> list[object]:
    return [out for part in _parts(item) if isinstance(part, list) for out in part]


def _say(brain: Brain, seq: int, message: protocol.Message, now_us: int) -> list[tuple[int, protocol.Message]]:
    return _read(brain.feed(encode(seq, message), now_us))


def _read(said: bytes) -> list[tuple[int, protocol.Message]]:
    lines = LineReader(TO_HOST).feed(said)
    return [(line.seq, line.message) for line in lines if isinstance(line, Line)]


def _brains(firmware: Path) -> list[Brain]:
    return [SerialDevice(SETTINGS), Firmware(firmware, SETTINGS)]


def test_a_pulse_across_the_wrap_of_the_clock(firmware: Path) -> None:
    for brain in _brains(firmware):
        start = U32 - 30 * MS
        _say(brain, 1, protocol.Hello(1, 5), start)
        _say(brain, 2, protocol.Arm(), start)
        fire = protocol.Fire(1, 2, (start + 40 * MS) % U32, 10 * MS, (start + 20 * MS) % U32)
        assert _say(brain, 3, fire, start) == [(3, protocol.Ack())]
        assert brain.due_us(start) == start + 40 * MS
        assert brain.advance(start + 40 * MS) == b""
        assert _read(brain.advance(start + 50 * MS)) == [(0, protocol.Done(1, 10 * MS))]
        [pulse] = [out for out in brain.outputs() if isinstance(out, FiredPulse)]
        assert (pulse.opened_ns, pulse.closed_ns) == ((start + 40 * MS) * 1000, (start + 50 * MS) * 1000)


def test_a_line_sent_again_is_answered_again_and_fires_once(firmware: Path) -> None:
    for brain in _brains(firmware):
        _say(brain, 1, protocol.Hello(1, 5), 0)
        _say(brain, 2, protocol.Arm(), 0)
        fire = protocol.Fire(1, 1, 50 * MS, 10 * MS, 40 * MS)
        assert _say(brain, 3, fire, 0) == _say(brain, 3, fire, MS) == [(3, protocol.Ack())]
        assert _say(brain, 4, fire, MS) == [(4, protocol.Nak("duplicate"))]  # another line, the same number
        brain.advance(50 * MS)
        brain.advance(60 * MS)
        assert _say(brain, 3, fire, 61 * MS) == [(3, protocol.Ack())]
        assert _say(brain, 5, protocol.Ask(1), 62 * MS) == [(5, protocol.Done(1, 50 * MS))]
        assert _say(brain, 6, protocol.Ask(2), 62 * MS) == [(6, protocol.Nak("forgotten"))]
        assert len([out for out in brain.outputs() if isinstance(out, FiredPulse)]) == 1


def test_a_device_that_was_switched_on_anew_takes_nothing(firmware: Path) -> None:
    for brain in _brains(firmware):
        assert _say(brain, 1, protocol.Arm(), 0) == [(1, protocol.Nak("session"))]
        assert _say(brain, 2, protocol.Fire(1, 1, 50 * MS, MS, MS), 0) == [(2, protocol.Nak("session"))]
        assert _say(brain, 3, protocol.Ping(), 7) == [(3, protocol.Pong(0, 7, False, 0))]
