"""What must be known at a glance: real or simulated, live or replayed, armed or not, alarms, connection. The rules.

No Qt in the rules: `banners` makes of what is known a list of signs, worst first; the strip at the top shows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from hspc_live.view.connection import Bond
from hspc_live.view.model import Model

ALARM_WORDS = {
    "velocity_drift": "DRIFT",
    "clog": "CLOG",
    "blur": "OUT OF FOCUS",
    "canary": "CANARY",
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
    signs: list[Sign] = []
    about, shown = model.about, model.shown
    if bond is not Bond.ATTACHED:
        lost = about is not None
        text = "CONNECTION LOST" if lost else "NOT CONNECTED"
        weight = Weight.ALARM if lost else Weight.WARNING
        signs.append(Sign(text, f"{words}. What is shown is the past.", weight))
    elif silent_s > 2.0:
        meaning = "The sort process says nothing any more. STOP works all the same: it kills that process."
        signs.append(Sign(f"NO WORD FOR {silent_s:.0f} s", meaning, Weight.ALARM))
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
