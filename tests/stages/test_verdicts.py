"""The fingerprints of a run."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from hspc_live.core.values import CellOutcome, CellRecord, Classification
from hspc_live.stages.verdicts import VerdictHash


def record(number: int) -> CellRecord:
    return CellRecord(
        cell=number,
        first_frame=number * 3,
        last_frame=number * 3 + 4,
        views=((number * 3, 0), (number * 3 + 1, 1)),
        outcome=CellOutcome.SORTED if number % 2 else CellOutcome.PASSED,
        reason="" if number % 2 else "no_gate",
        outlet="left" if number % 2 else None,
        classification=Classification(number, (0.7, 0.2, 0.1), "LT-HSC", 2),
        velocity_um_s=4000.0,
        velocity_sd_um_s=10.0,
        arrival_ns=123 + number,
        arrival_sd_ns=7,
        y_um=30.0,
        last_capture_ns=5,
        decided_ns=9,
        latency_ns=4,
        command=number // 2 if number % 2 else None,
        features={"area_um2": 50.0},
    )


def digests(records: list[CellRecord]) -> tuple[str, str]:
    verdicts = VerdictHash()
    for one in records:
        verdicts.add(one)
    return verdicts.decisions_sha256, verdicts.outcomes_sha256


RECORDS = [record(number) for number in range(20)]


def test_the_order_in_which_cells_close_does_not_matter() -> None:
    mixed = RECORDS.copy()
    random.Random(1).shuffle(mixed)
    assert digests(mixed) == digests(RECORDS)


def test_an_empty_run_has_a_fingerprint_too() -> None:
    assert digests([]) == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    )


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": CellOutcome.ABORTED},
        {"reason": "late"},
        {"outlet": "right"},
        {"first_frame": 99},
        {"views": ((10, 0),)},
        {"classification": Classification(3, (0.7, 0.2, 0.1), "MPP", 2)},
        {"classification": None},
    ],
)
def test_every_part_of_a_verdict_counts(change: dict[str, object]) -> None:
    changed = [replace(one, **change) if one.cell == 3 else one for one in RECORDS]
    assert digests(changed)[0] != digests(RECORDS)[0]


@pytest.mark.parametrize(
    "change",
    [
        {"decided_ns": 10},
        {"latency_ns": 5},
        {"velocity_um_s": 4000.0000001},
        {"y_um": 31.0},
        {"last_frame": 50},
        {"features": {}},
        {"command": 17},
        {"classification": Classification(3, (0.6999999, 0.2000001, 0.1), "LT-HSC", 2)},
    ],
)
def test_no_clock_and_no_rounding_counts(change: dict[str, object]) -> None:
    changed = [replace(one, **change) if one.cell == 3 else one for one in RECORDS]
    assert digests(changed) == digests(RECORDS)


def test_the_time_of_a_command_counts_for_the_outcomes_only() -> None:
    later = [replace(one, arrival_ns=999) if one.cell == 3 else one for one in RECORDS]
    assert digests(later)[0] == digests(RECORDS)[0]
    assert digests(later)[1] != digests(RECORDS)[1]
    unsorted = [replace(one, arrival_ns=999) if one.cell == 2 else one for one in RECORDS]
    assert digests(unsorted) == digests(RECORDS)


def test_a_fingerprint_may_be_read_while_cells_are_missing() -> None:
    verdicts = VerdictHash()
    verdicts.add(RECORDS[1])
    early = verdicts.decisions_sha256
    verdicts.add(RECORDS[0])
    assert verdicts.decisions_sha256 != early
    assert verdicts.decisions_sha256 == digests(RECORDS[:2])[0]


def test_a_cell_counts_once() -> None:
    verdicts = VerdictHash()
    verdicts.add(RECORDS[0])
    with pytest.raises(ValueError, match="cell 0"):
        verdicts.add(RECORDS[0])


def test_names_cannot_run_into_each_other() -> None:
    one = [replace(RECORDS[0], reason="ab", outlet="c")]
    other = [replace(RECORDS[0], reason="a", outlet="bc")]
    assert digests(one)[0] != digests(other)[0]
