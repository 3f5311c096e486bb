"""What really happened, found out after the run: the pulse diary joined with the twin's truth.

An object is collected by a pulse when it crosses the junction while that pulse deflects. Definitions, all counted in
objects, with Wilson's 95 % score intervals:

- **purity**: of everything collected into an outlet, the share that is of a wanted class. *Everything* counts: a dead
  cell, a doublet, a cluster, a piece of debris is one impure object each, whatever it contains. No object collected:
  purity is null, neither 0 nor 1.
- **recovery**: of the wanted objects that could have been sorted, the share collected into the right outlet. An object
  could have been sorted when the device was armed from its entry into the field until it passed the junction, and the
  camera ran while it crossed the field.
- **yield**: of the pulses fired, the share that collected at least one wanted object.
- **consistency rate**: of the cells that truth knows to be of a known class and that were classified, the share whose
  most probable class is the true one.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.values import CellOutcome, CellRecord
from hspc_live.settings.sort import AndGate, Gate, OrGate, Outlet, PromiseGate, ScoreGate
from hspc_live.twin.pulses import Diary, Pulse
from hspc_live.twin.truth import FlowTruth

MATCH_UM = 6.0
"""A tracked cell and an object are the same when their mean positions over the cell's frames are nearer than this."""

ABSTAIN = "abstain"


def wilson(hits: int, total: int) -> tuple[float, float] | None:
    """Wilson's 95 % score interval of a share (Wilson 1927); None of nothing."""
    if total == 0:
        return None
    z = 1.959963984540054
    share = hits / total
    centre = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def wanted_classes(gate: Gate) -> frozenset[str]:
    """The classes a gate asks for by score; a gate on features alone wants none in particular."""
    match gate:
        case ScoreGate() | PromiseGate():
            return frozenset({gate.class_name})
        case AndGate() | OrGate():
            return frozenset().union(*(wanted_classes(member) for member in gate.of))
        case _:
            return frozenset()


@dataclass(frozen=True, slots=True)
class Filmed:
    """What the camera saw: first and last mid-exposure (host ns), and the field's length along the flow."""

    first_ns: int
    last_ns: int
    field_um: float


def score_sort(diary: Diary, truth: FlowTruth, outlets: Sequence[Outlet], filmed: Filmed) -> dict[str, Any]:
    """Purity, recovery and yield of the whole sort and of each outlet, as plain JSON-ready values.

    Keys: `purity`, `purity_interval`, `recovery`, `recovery_interval`, `yield`, `pulses`, `collected`, `wanted`,
    `wanted_passed`, `collected_by_kind`, `missed_pulses`, `outlets{name: the same}`.
    """
    collected = collected_objects(diary.pulses, truth)
    sortable = _sortable(diary, truth, filmed)
    per_outlet = {
        outlet.name: _one_outlet(
            [pulse for pulse in diary.pulses if pulse.outlet == outlet.name],
            collected,
            truth,
            wanted_classes(outlet.gate),
            sortable,
        )
        for outlet in outlets
    }
    return {**_together(list(per_outlet.values())), "outlets": per_outlet}


def collected_objects(pulses: Iterable[Pulse], truth: FlowTruth) -> dict[int, list[int]]:
    """Rows of `truth.objects` that each pulse (by command) deflected; an object goes with its first pulse."""
    order = np.argsort(truth.objects["junction_ns"], kind="stable")
    times = truth.objects["junction_ns"][order]
    taken: set[int] = set()
    collected: dict[int, list[int]] = {}
    for pulse in sorted(pulses, key=lambda pulse: pulse.takes_ns):
        first_ns, last_ns = pulse.takes_ns
        rows = order[bisect.bisect_left(times, first_ns) : bisect.bisect_right(times, last_ns)].tolist()
        mine = [row for row in rows if row not in taken] if pulse.deflects else []
        taken.update(mine)
        collected[pulse.command] = mine
    return collected


def _one_outlet(
    pulses: Sequence[Pulse],
    collected: Mapping[int, list[int]],
    truth: FlowTruth,
    wanted: frozenset[str],
    sortable: NDArray[np.bool_],
) -> dict[str, Any]:
    kinds = [truth.kinds[code] for code in truth.objects["kind"].tolist()]
    by_kind: dict[str, int] = {}
    right_rows: set[int] = set()
    hits = 0
    for pulse in pulses:
        rows = collected[pulse.command]
        for row in rows:
            by_kind[kinds[row]] = by_kind.get(kinds[row], 0) + 1
        right = {row for row in rows if kinds[row] in wanted}
        right_rows |= right
        hits += bool(right)
    total = sum(by_kind.values())
    passed = {row for row in np.flatnonzero(sortable).tolist() if kinds[row] in wanted}
    recovered = len(passed & right_rows)
    return {
        "wanted_classes": sorted(wanted),
        **_rates(len(right_rows), total, recovered, len(passed), hits, len(pulses)),
        "collected_by_kind": dict(sorted(by_kind.items())),
        "missed_pulses": sum(not pulse.deflects for pulse in pulses),
    }


def _together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All outlets as one: counts add up."""
    by_kind: dict[str, int] = {}
    for part in parts:
        for kind, count in part["collected_by_kind"].items():
            by_kind[kind] = by_kind.get(kind, 0) + count
    names = ("wanted", "collected", "recovered", "wanted_passed", "right_pulses", "pulses")
    return {
        **_rates(*(sum(part[name] for part in parts) for name in names)),
        "collected_by_kind": dict(sorted(by_kind.items())),
        "missed_pulses": sum(part["missed_pulses"] for part in parts),
    }


def _rates(
    wanted: int, collected: int, recovered: int, wanted_passed: int, right_pulses: int, pulses: int
) -> dict[str, Any]:
    return {
        "purity": _share(wanted, collected),
        "purity_interval": wilson(wanted, collected),
        "recovery": _share(recovered, wanted_passed),
        "recovery_interval": wilson(recovered, wanted_passed),
        "yield": _share(right_pulses, pulses),
        "yield_interval": wilson(right_pulses, pulses),
        "wanted": wanted,
        "collected": collected,
        "recovered": recovered,
        "wanted_passed": wanted_passed,
        "right_pulses": right_pulses,
        "pulses": pulses,
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _sortable(diary: Diary, truth: FlowTruth, filmed: Filmed) -> NDArray[np.bool_]:
    """Which objects could have been sorted (see the module's text); (n,) bool."""
    enters, junction = truth.objects["entry_ns"], truth.objects["junction_ns"]
    leaves = enters + filmed.field_um / truth.objects["velocity_um_s"] * 1e9
    seen_whole = (enters >= filmed.first_ns) & (leaves <= filmed.last_ns)
    end_ns = int(truth.objects["junction_ns"].max(initial=filmed.last_ns))
    armed = np.zeros(len(junction), dtype=np.bool_)
    for since_ns, until_ns in diary.armed_spans(end_ns):
        armed |= (enters >= since_ns) & (junction <= until_ns)
    return np.asarray(seen_whole & armed)


# ---- cells against truth -------------------------------------------------------------------------------------------


def match_records(records: Sequence[CellRecord], truth: FlowTruth) -> list[int | None]:
    """The row of `truth.objects` that each record followed, or None where no object is near enough.

    A record's `features` hold the mean position over its accepted views; the object's mean position is taken over the
    same frames. An object followed twice (a broken track) is matched twice: both records tell of it.
    """
    row_of = {int(identity): row for row, identity in enumerate(truth.objects["id"].tolist())}
    by_frame: dict[int, list[tuple[int, float, float]]] = {}
    for frame, identity, x_um, y_um in zip(
        *(truth.sightings[name].tolist() for name in ("frame", "object", "x_um", "y_um")), strict=True
    ):
        by_frame.setdefault(frame, []).append((identity, x_um, y_um))
    return [_nearest(record, by_frame, row_of) for record in records]


def _nearest(
    record: CellRecord, by_frame: Mapping[int, list[tuple[int, float, float]]], row_of: Mapping[int, int]
) -> int | None:
    if not record.views or "x_um" not in record.features:
        return None
    places: dict[int, list[tuple[float, float]]] = {}
    for frame, _ in record.views:
        for identity, x_um, y_um in by_frame.get(frame, ()):
            places.setdefault(identity, []).append((x_um, y_um))
    best, best_um = None, MATCH_UM
    for identity, spots in places.items():
        if len(spots) < len(record.views):
            continue
        x_um, y_um = np.mean(spots, axis=0)
        away_um = math.hypot(x_um - record.features["x_um"], y_um - record.features["y_um"])
        if away_um < best_um:
            best, best_um = row_of.get(identity), away_um
    return best


def score_cells(records: Sequence[CellRecord], truth: FlowTruth, classes: Sequence[str]) -> dict[str, Any]:
    """The run's own cells against truth, JSON-ready.

    Keys: `consistency_rate` with `consistency_interval` and `n` (most probable class, abstentions included, of cells
    truth counts among `classes`), `confusion{kind: {class or abstain: n}}` (what was *said*: a cell abstained on stands
    under `abstain`), `per_class{name: rate}`, `unmatched`.
    """
    confusion: dict[str, dict[str, int]] = {}
    per_class: dict[str, list[int]] = {name: [0, 0] for name in classes}
    unmatched = 0
    for record, row in zip(records, match_records(records, truth), strict=True):
        if record.classification is None:
            continue
        if row is None:
            unmatched += 1
            continue
        kind = truth.kinds[int(truth.objects["kind"][row])]
        said = ABSTAIN if record.outcome is CellOutcome.ABSTAINED else record.classification.predicted
        of_kind = confusion.setdefault(kind, {})
        of_kind[said] = of_kind.get(said, 0) + 1
        if kind in per_class:
            per_class[kind][0] += record.classification.predicted == kind
            per_class[kind][1] += 1
    hits, total = (sum(pair[i] for pair in per_class.values()) for i in (0, 1))
    return {
        "consistency_rate": _share(hits, total),
        "consistency_interval": wilson(hits, total),
        "n": total,
        "per_class": {name: _share(*pair) for name, pair in per_class.items()},
        "confusion": {kind: dict(sorted(row.items())) for kind, row in sorted(confusion.items())},
        "unmatched": unmatched,
    }
