"""What was sent and has no receipt: repeated in time, never too late, named once where nobody knows its fate."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hspc_drivers.serial_pending import MOST_QUESTIONS, Commands
from hspc_live.core.values import SortCommand

MS = 1_000_000


def _command(number: int, deadline_ms: float = 100.0, fire_ms: float = 120.0) -> SortCommand:
    return SortCommand(number, number, "left", round(fire_ms * MS), 10 * MS, round(deadline_ms * MS), 0)


@given(st.floats(0, 400), st.lists(st.floats(0, 60), min_size=1, max_size=60), st.integers(0, 60))
def test_a_line_is_repeated_before_its_deadline_only_and_not_once_acknowledged(
    deadline_ms: float, steps: list[float], heard_at: int
) -> None:
    commands = Commands(Counter())
    command = _command(1, deadline_ms, deadline_ms + 20)
    commands.sent(command, 5, b"line", 0)
    now_ns = last_ns = 0
    for number, step in enumerate(steps):
        now_ns += round(step * MS)
        if number == heard_at:
            commands.acknowledged(5)
        for line in commands.again(now_ns):
            assert line == b"line" and number < heard_at
            assert now_ns < command.deadline_ns and now_ns - last_ns >= 30 * MS
            last_ns = now_ns


def test_never_heard_is_named_once_and_a_late_report_still_counts() -> None:
    faults: Counter[str] = Counter()
    commands = Commands(faults)
    commands.sent(_command(1), 5, b"line", 0)
    assert commands.unheard(400 * MS) is None  # an answer may still be under way
    assert commands.unheard(600 * MS) == 1 and commands.unheard(700 * MS) is None
    assert faults["unacknowledged"] == 1 and commands.again(700 * MS) == []
    assert commands.ended(1) and not commands.ended(1)


def test_a_report_that_does_not_come_is_asked_for_and_then_given_up() -> None:
    faults: Counter[str] = Counter()
    commands = Commands(faults)
    commands.sent(_command(1), 5, b"line", 0)
    commands.acknowledged(5)
    asked = [now for now in range(0, 1000, 10) if commands.questions(now * MS)]
    assert asked[0] == 190 and len(asked) == MOST_QUESTIONS  # the window closes at 125 ms
    assert commands.unheard(1000 * MS) == 1 and faults["report_lost"] == 1


def test_disarmed_nothing_is_repeated() -> None:
    commands = Commands(Counter())
    commands.sent(_command(1), 5, b"line", 0)
    commands.give_up_sending()
    assert commands.again(50 * MS) == []


def test_what_a_refusal_says() -> None:
    faults: Counter[str] = Counter()
    commands = Commands(faults)
    for number in (1, 2, 3):
        commands.sent(_command(number), 10 + number, b"line", 0)
    assert commands.refused(11, "too_late") == (1, "")
    assert commands.refused(12, "valve_stuck") == (2, "valve_stuck")
    # its number was new: the device has it in its books and has forgotten what became of it
    assert commands.refused(13, "duplicate") is None
    assert commands.unheard(0) == 3 and faults["report_lost"] == 1
    commands.sent(_command(4), 20, b"line", 0)
    commands.sent(_command(4), 21, b"line", 0)
    assert commands.refused(21, "duplicate") == (4, "")
    assert commands.ended(4), "the first of the two is still to come"
    assert commands.refused(99, "garbled") is None
