"""Wishes at a run's control socket: a flood of the harmless ones keeps out neither a disarm nor an end."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from hspc_live.processes.visitors import WISHES_BURST_S, WISHES_PER_S, Visitors
from hspc_live.wire.messages import Answer, AskStatus, DisarmNow, EndRun, Prepare, StopNow

BURST = round(WISHES_PER_S * WISHES_BURST_S)
PREPARE = Prepare("{}", '{"live": true}')


class Hall:
    """Visitors of a run under way; keeps what is sent to whom, and what is refused."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Struct]] = []
        self.refused: Counter[str] = Counter()
        self._visitors = Visitors(
            lambda name, message: self.sent.append((name, message)),
            lambda *_: None,
            lambda reason: self.refused.update([reason]),
        )

    def wish(self, message: EndRun | StopNow | DisarmNow | AskStatus) -> Struct | None:
        return self._visitors.take("visitor", message, PREPARE, ending=False)


def test_a_flood_of_questions_keeps_out_neither_a_disarm_nor_an_end_nor_a_stop():
    hall = Hall()
    for _ in range(2 * BURST):
        hall.wish(AskStatus())
    assert hall.refused["too_fast"] >= 0.9 * BURST, "the flood is held back"
    hall.sent.clear()
    refused = hall.refused.total()
    hall.wish(DisarmNow("the operator"))
    assert hall.sent == [("sort", DisarmNow("the operator", asked_by="visitor"))]
    assert hall.wish(EndRun("the operator")) == EndRun("the operator")
    assert hall.wish(StopNow("the operator")) == StopNow("the operator")
    assert hall.sent[1:] == [
        ("visitor", Answer("visitor", True, "ending")),
        ("visitor", Answer("visitor", True, "stopping")),
    ]
    assert hall.refused.total() == refused


def test_a_flood_of_disarms_does_not_fill_the_queue_to_sort_and_keeps_no_question_out():
    hall = Hall()
    for _ in range(2 * BURST):
        hall.wish(DisarmNow("the operator"))
    assert BURST <= len(hall.sent) < 1.1 * BURST and hall.refused["too_fast"] >= 0.9 * BURST
    hall.wish(AskStatus())
    assert hall.sent[-1] == ("sort", AskStatus(asked_by="visitor"))
    assert hall.wish(StopNow("the operator")) == StopNow("the operator")
