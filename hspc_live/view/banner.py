"""What must be known at a glance: real or simulated, live or replayed, armed or not, alarms, connection. The rules.

No Qt in the rules: `banners` makes of what is known a list of signs, worst first; the strip at the top shows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from hspc_live.view.chamber_model import NO_STAGE, ChamberModel
from hspc_live.view.connection import Bond
from hspc_live.view.model import Model

ALARM_WORDS = {
    "velocity_drift": "DRIFT",
    "clog": "CLOG",
    "blur": "OUT OF FOCUS",
    "engine_drift": "ENGINE DRIFT",
}


class Weight(IntEnum):
    """How urgent a sign is; the strip sorts by it."""

    ALARM = 0
    WARNING = 1
    STATE = 2
    NATURE = 3


@dataclass(frozen=True, slots=True)
class Sign:
    """One word in the strip, and what it means in plain words; `reason` says why it holds, where that is known."""

    text: str
    meaning: str
    weight: Weight
    reason: str = ""


def banners(model: Model, bond: Bond, words: str, silent_s: float) -> list[Sign]:
    """The signs that hold now. `words` says how the connection stands, `silent_s` how long nothing was heard."""
    about, shown = model.about, model.shown
    meaning = "The sort process says nothing any more. STOP works all the same: it kills that process."
    signs = _bond_signs(bond, words, silent_s, meaning, known=about is not None)
    if about is None:
        return signs
    if shown is not None:
        standing = shown.told.standing
        for name, detail in standing.alarms.items():
            signs.append(Sign(ALARM_WORDS.get(name, name.upper().replace("_", " ")), detail, Weight.ALARM))
        if model.stale and bond is Bond.ATTACHED:
            signs.append(Sign("STALE PICTURE", "The newest frame is too old to act upon.", Weight.ALARM))
        if standing.ended:
            signs.append(Sign("ENDING", "The run comes to its end; nothing is armed any more.", Weight.WARNING))
        if standing.armed:
            signs.append(Sign("ARMED", "Wanted cells are deflected.", Weight.STATE))
        elif standing.waits_to_arm:
            signs.append(Sign("WAITS TO ARM", "The self-test has not passed yet.", Weight.STATE))
        else:
            meaning = "Nothing is deflected; cells are recognised all the same."
            why = f"disarmed: {standing.disarmed[-1]}" if standing.disarmed else ""
            signs.append(Sign("DISARMED", meaning, Weight.STATE, why))
    if model.held:
        signs.append(Sign("HELD", "The replay stands still until you let it go on, or step.", Weight.STATE))
    if not about.live:
        signs.append(Sign("REPLAY", "A recording is shown; nothing real is sorted.", Weight.NATURE))
    if about.simulated:
        signs.append(Sign("SIMULATION", "Cells or sorter are simulated.", Weight.NATURE))
    if about.on_cpu:
        meaning = "The model runs on the processor, not on a GPU."
        signs.append(Sign("CPU ENGINE", meaning, Weight.NATURE))
    return sorted(signs, key=lambda sign: sign.weight)


def chamber_banners(model: ChamberModel, bond: Bond, words: str, silent_s: float) -> list[Sign]:
    """The same for a chamber."""
    about, shown = model.about, model.shown
    meaning = "The run says nothing any more: it computes, or hangs. STOP is heard once it can hear anything."
    signs = _bond_signs(bond, words, silent_s, meaning, known=about is not None)
    if about is None:
        return signs
    if shown is not None:
        standing = shown.told.standing
        for name, count in standing.alarms.items():
            text = ALARM_WORDS.get(name, name.upper().replace("_", " "))
            signs.append(Sign(text, f"{count} times: look at the pictures before trusting the list.", Weight.WARNING))
        if standing.ending:
            signs.append(Sign("ENDING", f"The run comes to its end, by {standing.ending}.", Weight.STATE))
    if bond is Bond.FINISHED:
        signs.append(Sign("FINISHED", NO_STAGE[0].upper() + NO_STAGE[1:] + ".", Weight.STATE, NO_STAGE))
    if about.head.simulated:
        signs.append(Sign("SIMULATION", "Chamber, cells and stage are simulated.", Weight.NATURE))
    if about.on_cpu:
        signs.append(Sign("CPU ENGINE", "The model runs on the processor, not on a GPU.", Weight.NATURE))
    return sorted(signs, key=lambda sign: sign.weight)


def _bond_signs(bond: Bond, words: str, silent_s: float, meaning: str, *, known: bool) -> list[Sign]:
    """What must be said of the connection; `meaning` explains a run that is silent."""
    match bond:
        case Bond.FINISHED:
            return []
        case Bond.ATTACHED if silent_s > 2.0:
            return [Sign(f"NO WORD FOR {silent_s:.0f} s", meaning, Weight.ALARM)]
        case Bond.ATTACHED:
            return []
        case _ if known:
            return [Sign("CONNECTION LOST", f"{words}. What is shown is the past.", Weight.ALARM)]
        case _:
            return [Sign("NOT CONNECTED", f"{words}. What is shown is the past.", Weight.WARNING)]
