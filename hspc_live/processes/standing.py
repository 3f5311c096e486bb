"""How a run stands, put together for those who look on."""

from __future__ import annotations

import json

from hspc_live.processes.operator import Operator
from hspc_live.processes.self_test import Findings
from hspc_live.processes.tally import Tally
from hspc_live.stages.sort_core import SortCore
from hspc_live.wire.telemetry import OutletCount, Standing

NEWEST = 5  # reasons of disarming that are shown


def standing(
    core: SortCore,
    operator: Operator,
    tally: Tally,
    found: Findings,
    sorted_: list[OutletCount],
    engine_drift: str | None,
    **counts: int,
) -> Standing:
    """`engine_drift` says what the canary has shown, if anything.

    `counts` are the fields of `Standing` that none of the others knows.
    """
    ledger = core.ledger
    return Standing(
        armed=core.armed,
        waits_to_arm=operator.waits_to_arm,
        alarms=core.alarms if engine_drift is None else {**core.alarms, "engine_drift": engine_drift},
        told_alarms=dict(tally.alarms),
        disarmed=tally.disarmed[-NEWEST:],
        lasting=list(found.lasting),
        passing=list(found.passing),
        gate_revision=core.gate_revision,
        outlets=operator.outlets,
        ledger=json.dumps(ledger.to_json()),
        open_cells=ledger.cells.open,
        classes=core.classes,
        sorted=sorted_,
        met=ledger.gated,
        missed=ledger.late,
        ended=operator.is_ending,
        **counts,
    )
