"""What a person wants of a run under way: arm, disarm, other gates, how it stands. Every wish gets an answer.

Arming is earned: with a lasting reason against it the wish is refused, for a passing one it waits a little. Whatever is
done or refused is said at the terminal and kept in the recording.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from hspc_live.core.clock import NS_PER_S, Clock
from hspc_live.core.errors import SettingsError
from hspc_live.core.events import Arm, Disarm, Event, GatesSet
from hspc_live.processes.actuator import Actuator
from hspc_live.processes.child import Child
from hspc_live.processes.plan import GateEdit
from hspc_live.processes.scribe import Scribe
from hspc_live.processes.self_test import Findings
from hspc_live.settings.consistency import contradictions
from hspc_live.settings.document import dotted
from hspc_live.settings.load import load_outlets
from hspc_live.settings.schema import RunSettings
from hspc_live.settings.sort import Outlet
from hspc_live.stages.gate import EditGates
from hspc_live.stages.gate_words import promises, stated_outlets
from hspc_live.stages.sort_core import SortCore
from hspc_live.wire.messages import Answer, ArmNow, AskStatus, DisarmNow, RecorderGone, SetGates

PATIENCE_NS = 10 * NS_PER_S  # a wish to arm waits so long for what passes by itself


class Operator:
    """Serves the wishes that the supervisor passes on. `feed` gives an event to the sort core and carries it out."""

    def __init__(
        self,
        child: Child,
        core: SortCore,
        sorter: Actuator,
        scribe: Scribe,
        feed: Callable[[Event | EditGates], object],
        findings: Callable[[], Findings],
        clock: Clock,
        resolve: Callable[[RunSettings], RunSettings],
    ) -> None:
        self._child = child
        self._core = core
        self._sorter = sorter
        self._scribe = scribe
        self._feed = feed
        self._findings = findings
        self._resolve = resolve
        self._clock = clock  # of what is noted; in replay it is virtual, patience never is
        self._ending: str | None = None  # why nothing is armed and no gate is set any more
        self._wish: tuple[ArmNow, int] | None = None  # waits for the self-test until that time
        self._refused: str | None = None  # what the command line's own wish to arm came to
        self._gates: list[dict[str, Any]] = []
        self._stated = (-1, "[]")  # revision, and its outlets as JSON: made once a revision

    @property
    def waits_to_arm(self) -> bool:
        """Whether a wish to arm waits for the self-test."""
        return self._wish is not None

    @property
    def is_ending(self) -> bool:
        """Whether nothing is armed and no gate is set any more."""
        return self._ending is not None

    @property
    def outlets(self) -> str:
        """The outlets in force, as JSON text of the settings' form."""
        if self._stated[0] != self._core.gate_revision:
            text = json.dumps([outlet.model_dump(mode="json") for outlet in self._core.outlets])
            self._stated = (self._core.gate_revision, text)
        return self._stated[1]

    def attend(self) -> None:
        """Serve what has come in, and look again at a wish that waits."""
        for message in self._child.pump():
            match message:
                case ArmNow() if self._ending is not None:
                    self._conclude(message, self._ending)
                case ArmNow():
                    self._give_up("another wish to arm has come")
                    self._wish = (message, time.perf_counter_ns() + PATIENCE_NS)
                case DisarmNow(reason, asked_by):
                    self._give_up(f"disarmed while waiting for the self-test: {reason}")
                    self._feed(Disarm(reason))
                    self._sorter.disarm()  # whatever the core believes
                    self._answer(asked_by, "disarmed")
                case SetGates(asked_by=asked_by) if self._ending is not None:
                    self._answer(asked_by, f"the gates stay as they are: {self._ending}", "SettingsError")
                case SetGates(outlets, by, asked_by):
                    self._edit_gates(outlets, by, asked_by)
                case RecorderGone():
                    self.ending("the recorder died")
                    self._scribe.recorder_gone()
                case AskStatus(asked_by):
                    self._answer(asked_by, "running", detail=self._status())
                case _:
                    pass
        if self._wish is not None:
            self._try_to_arm(*self._wish)

    def ending(self, why: str) -> None:
        """From now on nothing is armed and the gates stay as they are."""
        self._ending = self._ending or why
        if self._wish is not None:
            wish, self._wish = self._wish[0], None
            self._conclude(wish, f"{why} before the self-test had passed")

    def repeat(self, edit: GateEdit) -> None:
        """Replay: put in force what a person set during the recorded run. Raises SettingsError for another model's."""
        self._edit_gates(edit.outlets, edit.by, "")

    def gates_set(self, done: GatesSet) -> None:
        """The core has put other gates in force."""
        self._gates.append({"revision": done.revision, "first_frame": done.first_frame, "by": done.by})

    def report(self) -> dict[str, Any]:
        """For the summary."""
        return {
            "arming_refused": self._refused,
            "gates": {
                "revision": self._core.gate_revision,
                "edits": self._gates,
                "promises": promises(self._core.outlets),
            },
        }

    def _try_to_arm(self, wish: ArmNow, until_ns: int) -> None:
        found = self._findings()
        if found.passing and not found.lasting and time.perf_counter_ns() < until_ns:
            return
        self._wish = None
        refused = "; ".join((*found.lasting, *found.passing)) or self._sorter.arm()
        if refused is None:
            self._feed(Arm(wish.by))
            refused = None if self._core.armed else "an alarm stands"
        self._conclude(wish, refused)

    def _give_up(self, why: str) -> None:
        """Drop the wish that waits, if one does. That is no refusal: a person wanted otherwise."""
        if self._wish is not None:
            wish, self._wish = self._wish[0], None
            self._say("arming-given-up", why)
            self._answer(wish.asked_by, f"not armed: {why}", "ArmingError")

    def _conclude(self, wish: ArmNow, refused: str | None) -> None:
        if not wish.asked_by:
            self._refused = refused
        kind, text = ("armed", wish.by) if refused is None else ("arming-refused", refused)
        self._say(kind, text)
        self._answer(wish.asked_by, f"{kind}: {text}", "" if refused is None else "ArmingError")

    def _edit_gates(self, outlets: str, by: str, asked_by: str) -> None:
        try:
            wanted = self._checked(load_outlets(outlets, "the new gates"))
            self._feed(EditGates(wanted, by))
        except SettingsError as error:
            if not asked_by:
                raise
            self._answer(asked_by, str(error), type(error).__name__)
            return
        made = self._gates[-1]
        made["outlets"] = [outlet.model_dump(mode="json") for outlet in wanted]
        text = f"gates, revision {made['revision']}: in force from frame {made['first_frame']}, set by {by}"
        self._child.say("gates", text)
        self._scribe.note("gates", json.dumps(made), self._clock.now_ns())
        self._answer(asked_by, "; ".join((text, *stated_outlets(wanted))))

    def _checked(self, outlets: tuple[Outlet, ...]) -> tuple[Outlet, ...]:
        """`outlets`, numbers filled in, if they can stand among the run's other settings. Raises SettingsError."""
        settings = self._child.plan.settings
        edited = settings.model_copy(update={"sort": settings.sort.model_copy(update={"outlets": outlets})})
        if wrong := contradictions(edited):
            raise SettingsError("; ".join(f"{dotted(path)}: {text}" for path, text in wrong))
        return self._resolve(edited).sort.outlets

    def _status(self) -> dict[str, Any]:
        standing = {"armed": self._core.armed, "alarms": self._core.alarms, "gate_revision": self._core.gate_revision}
        standing["promises"] = promises(self._core.outlets)
        ledgers = self._core.ledger.to_json()
        return {**standing, "waits_to_arm": self.waits_to_arm, **ledgers, "classes": self._core.classes}

    def _say(self, kind: str, text: str) -> None:
        self._child.say(kind, text)
        self._scribe.note(kind, text, self._clock.now_ns())

    def _answer(self, asked_by: str, text: str, error: str = "", detail: dict[str, Any] | None = None) -> None:
        if asked_by:
            self._child.tell(Answer(asked_by, not error, text, error, json.dumps(detail or {})))
