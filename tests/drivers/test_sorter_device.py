"""The firmware: whatever it is told and whenever it wakes, it never fires what it must not."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_drivers.sorter_device import Answer, ArmedChange, DeviceCommand, FiredPulse, Output, SorterDevice
from hspc_live.core.values import ReceiptKind
from hspc_live.settings.devices import SimulatedSorter

MS = 1_000_000
SETTINGS = SimulatedSorter(kind="simulated", watchdog_ms=200.0, min_lead_ms=5.0, latency_ms=2.0, max_queue=5)


@dataclass(frozen=True)
class Step:
    act: str
    wait_ms: int
    number: int
    in_ms: int
    width_ms: int


STEPS = st.lists(
    st.builds(
        Step,
        act=st.sampled_from(["send", "send", "send", "arm", "disarm", "beat", "sleep"]),
        wait_ms=st.integers(0, 120),
        number=st.integers(0, 12),
        in_ms=st.integers(-20, 300),
        width_ms=st.integers(-2, 30),
    ),
    max_size=40,
)


def _drive(steps: list[Step], *, punctual: bool) -> tuple[list[Output], list[DeviceCommand]]:
    """Arm, then do `steps`; a punctual device is advanced at every due moment, an unpunctual one only between steps."""
    device = SorterDevice(SETTINGS)
    now = 1000 * MS
    outputs = device.arm(now)
    sent: list[DeviceCommand] = []

    def go_to(at: int) -> None:
        while punctual and (due := device.next_due_ns()) is not None and due < at:
            outputs.extend(device.advance(due))
        outputs.extend(device.advance(at))

    for step in steps:
        now += step.wait_ms * MS
        go_to(now)
        match step.act:
            case "send":
                opens = now + step.in_ms * MS
                command = DeviceCommand(step.number, "left", opens, opens + step.width_ms * MS, opens - 5 * MS)
                sent.append(command)
                outputs.extend(device.accept(command, now))
            case "arm":
                outputs.extend(device.arm(now))
            case "disarm":
                outputs.extend(device.disarm(now))
            case "beat":
                outputs.extend(device.heartbeat(now))
    go_to(now + 2000 * MS)
    return outputs, sent


@given(STEPS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_command_is_answered_and_no_number_fires_twice(steps: list[Step], punctual: bool) -> None:
    outputs, sent = _drive(steps, punctual=punctual)
    answers = [out for out in outputs if isinstance(out, Answer)]
    assert len(answers) == len(sent)
    fired = [answer.command for answer in answers if answer.kind is ReceiptKind.FIRED]
    assert len(fired) == len(set(fired))
    assert fired == [out.command for out in outputs if isinstance(out, FiredPulse)]


@given(STEPS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_pulses_keep_to_their_windows_and_to_armed_times(steps: list[Step], punctual: bool) -> None:
    outputs, sent = _drive(steps, punctual=punctual)
    armed_since: int | None = None
    spans = []
    for out in outputs:
        if isinstance(out, ArmedChange):
            if out.armed:
                armed_since = out.at_ns
            elif armed_since is not None:
                spans.append((armed_since, out.at_ns))
    last_closed = 0
    for pulse in (out for out in outputs if isinstance(out, FiredPulse)):
        meant = [c for c in sent if c.command == pulse.command and c.opens_ns <= pulse.opened_ns]
        assert any(pulse.opened_ns < c.closes_ns for c in meant)
        assert pulse.opened_ns >= last_closed
        last_closed = pulse.closed_ns
        assert any(since <= pulse.opened_ns and pulse.closed_ns <= until for since, until in spans)
        if punctual:
            assert any(pulse.opened_ns == c.opens_ns and pulse.closed_ns <= c.closes_ns for c in meant)


def test_disarming_cuts_an_open_pulse_short() -> None:
    device = SorterDevice(SETTINGS)
    device.arm(0)
    device.accept(DeviceCommand(1, "left", 50 * MS, 90 * MS, 45 * MS), 0)
    device.advance(50 * MS)
    outputs = device.disarm(60 * MS)
    pulse = next(out for out in outputs if isinstance(out, FiredPulse))
    assert (pulse.opened_ns, pulse.closed_ns) == (50 * MS, 60 * MS)


def test_a_window_that_was_slept_through_is_not_fired_late() -> None:
    device = SorterDevice(SETTINGS)
    device.arm(0)
    device.accept(DeviceCommand(1, "left", 50 * MS, 60 * MS, 45 * MS), 0)
    assert device.heartbeat(80 * MS) == [Answer(1, ReceiptKind.REFUSED, 80 * MS, "slept")]


def test_misses_are_reported_as_fired() -> None:
    device = SorterDevice(SETTINGS.model_copy(update={"miss_rate": 0.5, "max_queue": 1000}))
    device.arm(0)
    for number in range(400):
        device.accept(DeviceCommand(number, "left", (100 + 10 * number) * MS, (105 + 10 * number) * MS, 10**12), 0)
    outputs: list[Output] = []
    for at in range(0, 4300):
        outputs += device.heartbeat(at * MS)
    answers = [out for out in outputs if isinstance(out, Answer)]
    assert {answer.kind for answer in answers} == {ReceiptKind.FIRED}
    missed = sum(not out.deflects for out in outputs if isinstance(out, FiredPulse))
    assert 150 < missed < 250
