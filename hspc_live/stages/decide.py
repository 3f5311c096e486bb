"""From a closed cell to its outcome: gates, commit, company at the junction, limits, and what is too late.

A cell is judged by what capture time fixes. At its *commit* (the first frame captured less than `commit_lead` before
its arrival) its arrival, its pulse and its company are frozen; then it waits until its own scores, and the verdicts on
its company that matter, are in. `now` only ever says that it is too late.

The rule of the sort modes is `clash`: in *purity* a cell is sorted only with company bound for the same outlet, in
*single* only alone, in *recovery* whatever comes along (the three classic modes of droplet sorters; Shapiro, *Practical
Flow Cytometry*, 4th ed., 2003, ch. 6).
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import assert_never

from hspc_live.core.events import Action, Closed, Command, Gated
from hspc_live.core.values import CellRecord, Classification, Detection, GateDecision, SortCommand
from hspc_live.settings.sort import Outlet, SortMode, SortSettings
from hspc_live.stages.cell import OUTCOMES, Cell, State, Step
from hspc_live.stages.gate import FEATURES, GateSet, combine, doubt
from hspc_live.stages.junction import Crossings, Pulses, overlaps
from hspc_live.stages.ledger import Ledger
from hspc_live.stages.timing import JunctionTiming, Pulse
from hspc_live.stages.track import Track

_REMEMBER_NS = 100_000_000  # how long after its window an object at the junction is still remembered, in capture time


class Clash(Enum):
    """What the company at the junction means for a cell."""

    CLEAR = "clear"
    WAIT = "wait"  # a neighbour's verdict is still to come, and matters
    ABORT = "abort"


def clash(mode: SortMode, outlet: str, company: Iterable[Cell | None]) -> Clash:
    """Judge the company of a cell that is wanted for `outlet`. None stands for an object that is no cell."""
    if mode == "recovery":
        return Clash.CLEAR
    if mode == "single":
        return Clash.ABORT if any(True for _ in company) else Clash.CLEAR
    if mode == "purity":
        verdict = Clash.CLEAR
        for cell in company:
            if cell is not None and cell.outlet == outlet:
                continue
            if cell is None or cell.state not in (State.OPEN, State.SCORING):
                return Clash.ABORT
            verdict = Clash.WAIT
        return verdict
    assert_never(mode)


def _means(looks: Sequence[Detection]) -> dict[str, float]:
    """The mean of every feature over one or more looks."""
    if len(looks) == 1:
        return dict(zip(FEATURES, map(float, looks[0]), strict=False))
    return {name: sum(column) / len(looks) for name, column in zip(FEATURES, zip(*looks, strict=True), strict=False)}


class Decider:
    """All cells whose outcome is open, and everything that their outcomes depend on. Writes the ledger."""

    def __init__(
        self, settings: SortSettings, classes: tuple[str, ...], timing: JunctionTiming, ledger: Ledger
    ) -> None:
        self.armed = False
        self.cells: dict[int, Cell] = {}
        self.in_view: list[Cell] = []  # those whose object is still in view, as of the last frame
        self.commands: set[int] = set()  # sent, without a receipt
        self.tally: dict[str, int] = dict.fromkeys(classes, 0)
        self._ledger = ledger
        self._timing = timing
        self._names = classes
        self._abstain = settings.abstain
        self._total_limit = settings.total_limit
        self.gates = GateSet(settings.outlets, classes)  # in force for the cells that close from now on
        self._crossings = Crossings()
        self._pulses = Pulses(timing.refractory_ns)
        self._unseen: list[Pulse] = []  # when something that no frame shows may be at the junction
        self._captured_ns: int | None = None
        self._ready: list[Cell] = []  # closed and answered
        self._queue: deque[Cell] = deque()  # closed under gates that remember, in that order
        self._frozen: list[Cell] = []  # committed, in that order; waiting for scores or company
        self._commits: list[tuple[int, int, Cell]] = []  # heap of (commit time, number) of cells out of view
        self._latest: list[tuple[int, int, Cell]] = []  # heap of (too late from, number) of cells out of view
        self._sent_into: Counter[str] = Counter()

    # ---- what the frames say -------------------------------------------------------------------------------------

    def close(self, cell: Cell) -> None:
        """No view is added to `cell` any more."""
        cell.go(Step.CLOSE)
        cell.features = _means(cell.looks)
        cell.looks.clear()
        cell.gates = self.gates
        if self.gates.remembers:
            self._queue.append(cell)
        elif cell.awaited == 0:
            self._ready.append(cell)

    def answered(self, cell: Cell) -> None:
        """One of the cell's requested views has its scores, or will have none."""
        cell.awaited -= 1
        if cell.awaited == 0 and cell.state is State.SCORING and not self._gates_of(cell).remembers:
            self._ready.append(cell)

    def depart(self, track: Track) -> None:
        """The object is out of view: its motion is final."""
        arrival = track.arrival or self._timing.prior_arrival(track.at_ns, track.x_um)
        self._crossings.add(track, self._timing.window(arrival))
        cell = track.cell
        if cell is None or cell.ended:
            return
        if cell.state is State.OPEN:
            self.close(cell)
        if cell.arrival is None:
            self._freeze(cell, ())
        elif not cell.frozen:
            heapq.heappush(self._commits, (self._timing.commit_ns(cell.arrival), cell.number, cell))
        if cell.latest_ns is not None:
            heapq.heappush(self._latest, (cell.latest_ns, cell.number, cell))

    def blind(self, window: Pulse) -> None:
        """Frames were missing for so long that something unseen may be at the junction in `window`."""
        if self._unseen and self._unseen[-1].start_ns == window.start_ns:
            self._unseen.pop()  # the same gap, grown
        self._unseen.append(window)

    def advance(self, captured_ns: int, live: Sequence[Track]) -> None:
        """Capture has got to `captured_ns`: commit the cells whose time has come, earliest arrival first."""
        if self._captured_ns is not None and captured_ns <= self._captured_ns:
            return
        self._captured_ns = captured_ns
        due = [cell for cell in self.in_view if self._commit_of(cell, captured_ns) <= captured_ns]
        while self._commits and self._commits[0][0] <= captured_ns:
            due.append(heapq.heappop(self._commits)[2])
        if due:
            self._commit(due, live)
        self._crossings.forget(captured_ns - _REMEMBER_NS)
        self._pulses.forget(captured_ns - _REMEMBER_NS)
        if self._unseen:
            self._unseen = [window for window in self._unseen if window.end_ns >= captured_ns - _REMEMBER_NS]

    def end(self) -> None:
        """Every object has departed and every frame is known: commit all that is still to come."""
        self.in_view = []
        self._commits.clear()
        self._commit(self.cells.values(), ())

    def _commit_of(self, cell: Cell, captured_ns: int) -> int:
        """Commit time of a cell in view; after `captured_ns` for one that has none (yet)."""
        if cell.arrival is None or cell.frozen or cell.ended or cell.state is State.OPEN:
            return captured_ns + 1
        return self._timing.commit_ns(cell.arrival)

    def _commit(self, due: Iterable[Cell], live: Sequence[Track]) -> None:
        for cell in sorted(due, key=lambda cell: (cell.arrival or (0, 0), cell.number)):
            self._freeze(cell, live)

    def _freeze(self, cell: Cell, live: Sequence[Track]) -> None:
        """Fix what `cell` is judged by: its arrival, its pulse, and who else may be at the junction then."""
        if cell.frozen or cell.ended:
            return
        cell.frozen = True
        self._frozen.append(cell)
        pulse = cell.pulse = None if cell.arrival is None else self._timing.pulse(cell.arrival)
        if pulse is None:
            return
        if cell.state is State.WANTED and self._outlet(cell).mode == "recovery":
            return  # whoever comes along is welcome: no need to look
        cell.unseen = any(overlaps(window, pulse) for window in self._unseen)
        company = self._crossings.during(pulse)
        for track in live:
            arrival = track.arrival or self._timing.prior_arrival(track.at_ns, track.x_um)
            if overlaps(self._timing.window(arrival), pulse):
                company.append(track)
        # a neighbour that is itself in doubt is no cell to take along, whatever it is wanted for
        cell.company = [None if track.doubtful else track.cell for track in company if track.cell is not cell]

    # ---- times ---------------------------------------------------------------------------------------------------

    def next_latest_ns(self) -> int | None:
        """Host time at which the next cell becomes too late; None if none can."""
        times = [cell.latest_ns for cell in self.in_view if cell.latest_ns is not None and not cell.ended]
        while self._latest and self._latest[0][2].ended:
            heapq.heappop(self._latest)
        if self._latest:
            times.append(self._latest[0][0])
        return min(times, default=None)

    def next_commit_ns(self) -> int | None:
        """Capture time at which the next cell commits; None if none waits for it."""
        times = [
            self._timing.commit_ns(cell.arrival)
            for cell in self.in_view
            if cell.arrival is not None and cell.state is not State.OPEN and not (cell.frozen or cell.ended)
        ]
        while self._commits and self._commits[0][2].ended:
            heapq.heappop(self._commits)
        if self._commits:
            times.append(self._commits[0][0])
        return min(times, default=None)

    # ---- verdicts ------------------------------------------------------------------------------------------------

    def settle(self, now: int, out: list[Action]) -> None:
        """Take every step that has become possible."""
        self.sweep(now, out)
        while self._gate_closed(now, out) or self._judge_frozen(now, out):
            pass

    def sweep(self, now: int, out: list[Action]) -> None:
        """Abort what nothing can be done about any more."""
        late = [
            cell for cell in self.in_view if cell.latest_ns is not None and cell.latest_ns <= now and not cell.ended
        ]
        while self._latest and self._latest[0][0] <= now:
            late.append(heapq.heappop(self._latest)[2])
        for cell in late:
            if not cell.ended:
                # a wanted cell whose company's verdict never came was not found safe: that is the reason, not the clock
                waits = cell.state is State.WANTED and self._clash(cell) is Clash.WAIT
                self._resolve(cell, Step.ABORT, "coincidence" if waits else "late", now, out)

    def _gate_closed(self, now: int, out: list[Action]) -> bool:
        """Gate what is closed and answered; in the order of closing where a gate remembers. True if any was."""
        ready, self._ready = self._ready, []
        while self._queue and (self._queue[0].ended or self._queue[0].awaited == 0):
            ready.append(self._queue.popleft())
        for cell in ready:
            if not cell.ended:
                self._gate(cell, now, out)
        return bool(ready)

    def _gate(self, cell: Cell, now: int, out: list[Action]) -> None:
        """Judge a closed cell whose answers are all in."""
        rows = [row for row in cell.scores if row is not None]
        if not rows:  # without an unusable one, every view was skipped as too late
            self._resolve(cell, Step.ABORT, "nan_scores" if cell.unusable else "late", now, out)
            return
        gates = self._gates_of(cell)
        scores = combine(rows)
        best = max(scores)
        predicted = self._names[scores.index(best)]
        cell.classification = Classification(cell.number, scores, predicted, len(rows))
        cell.decided_ns = now
        self._ledger.gated += 1
        unsure = doubt(best, len(rows), self._abstain)
        if unsure is not None:
            step, reason = Step.ABSTAIN, unsure
        else:
            self.tally[predicted] += 1
            cell.outlet = gates.decide(scores, cell.features)
            step, reason = (Step.PASS, "no_gate") if cell.outlet is None else (Step.WANT, "gate")
        out.append(Gated(GateDecision(cell.number, cell.outlet, reason, gates.revision, cell.last_capture_ns, now)))
        if step is Step.WANT:
            cell.go(step)
        else:
            self._resolve(cell, step, reason, now, out)

    def _judge_frozen(self, now: int, out: list[Action]) -> bool:
        """Judge the committed cells, in that order. True if any came to its end."""
        if not self._frozen:
            return False
        undecided: list[Cell] = []
        for cell in self._frozen:
            if cell.ended:
                continue
            reason = self._obstacle(cell, undecided, now) if cell.state is State.WANTED else None
            if reason is None:
                undecided.append(cell)
            elif reason:
                self._resolve(cell, Step.ABORT, reason, now, out)
            else:
                self._command(cell, now, out)
        progress = len(undecided) < len(self._frozen)
        self._frozen = undecided
        return progress

    def _gates_of(self, cell: Cell) -> GateSet:
        return cell.gates if cell.gates is not None else self.gates

    def _outlet(self, cell: Cell) -> Outlet:
        return self._gates_of(cell).outlets[cell.outlet or ""]

    def _clash(self, cell: Cell) -> Clash:
        """What the company of a wanted cell means for it; CLEAR before it has committed."""
        outlet = self._outlet(cell)
        return clash(outlet.mode, outlet.name, cell.company)

    def _obstacle(self, cell: Cell, earlier: list[Cell], now: int) -> str | None:
        """Why a wanted, committed cell must not be sorted; "" if nothing speaks against it, None if it must wait.

        `earlier` are the cells that committed before and are undecided: where one of them could take this cell's place
        (its pulse too close, or the last place before a limit), the order of commits decides, so this one waits.
        """
        pulse, outlet = cell.pulse, self._outlet(cell)
        if pulse is None:
            return "arrival_uncertain"
        if cell.doubtful:
            return "doubtful"
        if cell.crowded and outlet.mode != "recovery":
            return "crowded"
        if cell.unseen and outlet.mode != "recovery":
            return "unseen"
        company = self._clash(cell)
        if company is not Clash.CLEAR:
            return "coincidence" if company is Clash.ABORT else None
        left = self._places_left(outlet)
        if left is not None:
            if left <= 0:
                return "limit"
            if left <= len(earlier):
                return None
        if self._pulses.conflict(pulse):
            return "refractory"
        if any(rival.pulse is not None and self._pulses.too_close(pulse, rival.pulse) for rival in earlier):
            return None
        if not self.armed:
            return "disarmed"
        # the sweep has seen to this; said again, because here is the one place from which a command can come
        return "" if cell.latest_ns is not None and now < cell.latest_ns else "late"

    def _places_left(self, outlet: Outlet) -> int | None:
        """How many more cells the limits allow into `outlet`; None if there is no limit."""
        left = None if outlet.limit is None else outlet.limit - self._sent_into[outlet.name]
        if self._total_limit is not None:
            rest = self._total_limit - self._sent_into.total()
            left = rest if left is None else min(left, rest)
        return left

    def _command(self, cell: Cell, now: int, out: list[Action]) -> None:
        """Send `cell`'s command."""
        pulse, arrival, outlet = cell.pulse, cell.arrival, cell.outlet
        assert pulse is not None and arrival is not None and outlet is not None, "only a judged cell is commanded"
        number = self._ledger.commands.sent
        deadline = self._timing.deadline_ns(pulse)
        self._ledger.commands.sent += 1
        self.commands.add(number)
        self._pulses.add(pulse)
        self._sent_into[outlet] += 1
        out.append(Command(SortCommand(number, cell.number, outlet, arrival.at_ns, pulse.width_ns, deadline, now)))
        self._resolve(cell, Step.COMMAND, "", now, out, number)

    def finish(self, now: int, out: list[Action]) -> None:
        """Nothing more will come: close what is open."""
        for cell in list(self.cells.values()):
            step = Step.ABORT if cell.state is State.WANTED else Step.GIVE_UP
            self._resolve(cell, step, "run_ended", now, out)
        self._ledger.commands.unacknowledged += len(self.commands)
        self.commands.clear()

    def _resolve(
        self, cell: Cell, step: Step, reason: str, now: int, out: list[Action], command: int | None = None
    ) -> None:
        """Take the last step of a cell, book it and hand out its record."""
        cell.go(step)
        outcome = OUTCOMES[cell.state]
        del self.cells[cell.number]
        self._ledger.close_cell(outcome, reason)
        if reason == "late":
            self._ledger.late += 1
            self._ledger.gated -= cell.decided_ns is not None  # judged in time, commanded too late: not met
        cell.company = []
        record = CellRecord(
            cell=cell.number,
            first_frame=cell.first_frame,
            last_frame=cell.last_frame,
            views=tuple(cell.views),
            outcome=outcome,
            reason=reason,
            outlet=cell.outlet,
            classification=cell.classification,
            velocity_um_s=cell.velocity_um_s,
            velocity_sd_um_s=cell.velocity_sd_um_s,
            arrival_ns=None if cell.arrival is None else cell.arrival.at_ns,
            arrival_sd_ns=None if cell.arrival is None else cell.arrival.sd_ns,
            y_um=cell.y_um,
            last_capture_ns=cell.last_capture_ns,
            decided_ns=now if cell.decided_ns is None else cell.decided_ns,
            latency_ns=None if cell.decided_ns is None else cell.decided_ns - cell.last_capture_ns,
            command=command,
            features=cell.features,
            gate_revision=self._gates_of(cell).revision,
        )
        out.append(Closed(record))
