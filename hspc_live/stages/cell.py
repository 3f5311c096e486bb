"""The life of one cell: a literal table of its states, and what is known about it.

A cell is an object with at least one accepted view. `TRANSITIONS` is the whole state machine; a step that is not in it
is a fault of this program, never of its input, and raises.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from hspc_live.core.values import CellOutcome, Classification, Detection
from hspc_live.stages.timing import Arrival, Pulse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hspc_live.stages.gate import GateSet


class State(Enum):
    """Where a cell stands."""

    __hash__ = object.__hash__  # members are single objects; Enum's own hash of the name costs a call at every step

    OPEN = "open"  # in view, still gathering views
    SCORING = "scoring"  # closed: no view is added any more, scores are awaited
    WANTED = "wanted"  # a gate wants it; waits for its commit
    SORTED = "sorted"
    PASSED = "passed"
    ABSTAINED = "abstained"
    ABORTED = "aborted"
    UNRESOLVED = "unresolved"


class Step(Enum):
    """What can happen to a cell."""

    __hash__ = object.__hash__

    CLOSE = "close"  # enough views, past the decision line, lost from view, or the run ended
    WANT = "want"
    PASS = "pass"
    ABSTAIN = "abstain"
    COMMAND = "command"
    ABORT = "abort"
    GIVE_UP = "give up"  # the run is over and its scores never came


TRANSITIONS: Mapping[State, Mapping[Step, State]] = {
    State.OPEN: {
        Step.CLOSE: State.SCORING,
        Step.ABORT: State.ABORTED,  # too late, even before it was closed
    },
    State.SCORING: {
        Step.WANT: State.WANTED,
        Step.PASS: State.PASSED,
        Step.ABSTAIN: State.ABSTAINED,
        Step.ABORT: State.ABORTED,  # no usable score, or too late
        Step.GIVE_UP: State.UNRESOLVED,
    },
    State.WANTED: {
        Step.COMMAND: State.SORTED,
        Step.ABORT: State.ABORTED,  # not safely sortable
    },
    State.SORTED: {},
    State.PASSED: {},
    State.ABSTAINED: {},
    State.ABORTED: {},
    State.UNRESOLVED: {},
}

OUTCOMES: Mapping[State, CellOutcome] = {
    State.SORTED: CellOutcome.SORTED,
    State.PASSED: CellOutcome.PASSED,
    State.ABSTAINED: CellOutcome.ABSTAINED,
    State.ABORTED: CellOutcome.ABORTED,
    State.UNRESOLVED: CellOutcome.UNRESOLVED,
}


class IllegalStepError(RuntimeError):
    """A cell was asked to take a step that its state does not allow."""


@dataclass(slots=True, eq=False)
class Cell:
    """One cell. `views[i]` is its i-th requested view, `scores[i]` its scores once they came, None if unusable."""

    number: int
    first_frame: int
    last_frame: int
    state: State = State.OPEN
    ended: bool = False  # its outcome is known
    views: list[tuple[int, int]] = field(default_factory=list)
    scores: list[tuple[float, ...] | None] = field(default_factory=list)
    awaited: int = 0  # requested views without an answer
    unusable: int = 0  # views answered with NaN
    last_capture_ns: int = 0  # of the last requested view
    looks: list[Detection] = field(default_factory=list)  # the requested views as measured; emptied at closing
    features: dict[str, float] = field(default_factory=dict)  # means over the requested views, set at closing
    y_um: float = 0.0
    velocity_um_s: float | None = None
    velocity_sd_um_s: float | None = None
    arrival: Arrival | None = None
    latest_ns: int | None = None  # nothing can be done about it from here on; None while its arrival is unknown
    crowded: bool = False
    unseen: bool = False  # something that no frame shows may be at the junction with it
    doubtful: bool = False  # most of its object's looks were found to be no single cell
    gates: GateSet | None = None  # those in force when it was closed
    outlet: str | None = None
    classification: Classification | None = None
    decided_ns: int | None = None
    frozen: bool = False  # its commit has come: arrival, pulse and neighbours are final
    pulse: Pulse | None = None
    company: list[Cell | None] = field(default_factory=list)  # who else is at the junction then; None: no cell

    def go(self, step: Step) -> None:
        """Take one step of the table. Raises IllegalStepError for one that is not in it."""
        after = TRANSITIONS[self.state].get(step)
        if after is None:
            raise IllegalStepError(f"cell {self.number} cannot {step.value} while {self.state.value}")
        self.state = after
        self.ended = after in OUTCOMES
