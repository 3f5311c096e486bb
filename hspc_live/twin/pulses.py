"""The simulated sorter's diary: what its actuator physically did, for the scorer that comes after the run.

One JSON object a line, flushed as it is written, so a killed run leaves a readable diary. Times are host time converted
with the simulation's *true* clock parameters, which the pipeline never learns: the diary is truth, not telemetry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hspc_live.core.errors import RecordingError


class Pulse(msgspec.Struct, frozen=True, tag="pulse"):
    """One opening of the actuator.

    `delay_error_ns` is how much later than assumed an object reaches the point of deflection, so the pulse takes what
    crosses the junction in [opened - delay_error, closed - delay_error]. `deflects` is False for a pulse that failed
    physically although the device reported it as fired.
    """

    command: int
    outlet: str
    opened_ns: int
    closed_ns: int
    device_opened_ns: int
    device_closed_ns: int
    deflects: bool = True
    delay_error_ns: int = 0

    @property
    def takes_ns(self) -> tuple[int, int]:
        """First and last junction time (host ns) of an object that this pulse deflects."""
        return self.opened_ns - self.delay_error_ns, self.closed_ns - self.delay_error_ns


class Armed(msgspec.Struct, frozen=True, tag="armed"):
    """The device began (`on`) or ceased to accept commands; `reason` says why it ceased."""

    at_ns: int
    on: bool
    reason: str = ""


DiaryEntry = Pulse | Armed


@dataclass(frozen=True, slots=True)
class Diary:
    """All entries of one run, in the order in which they happened."""

    entries: tuple[DiaryEntry, ...]

    @property
    def pulses(self) -> tuple[Pulse, ...]:
        """The openings alone."""
        return tuple(entry for entry in self.entries if isinstance(entry, Pulse))

    def armed_spans(self, end_ns: int) -> list[tuple[int, int]]:
        """[from, to] in host ns during which commands were accepted; a span still open ends at `end_ns`."""
        spans: list[tuple[int, int]] = []
        since: int | None = None
        for entry in self.entries:
            if isinstance(entry, Armed):
                if entry.on and since is None:
                    since = entry.at_ns
                elif not entry.on and since is not None:
                    spans.append((since, entry.at_ns))
                    since = None
        if since is not None:
            spans.append((since, max(since, end_ns)))
        return spans


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Pulse | Armed)


def to_line(entry: DiaryEntry) -> bytes:
    """One entry as a line of JSON, newline included."""
    return _ENCODER.encode(entry) + b"\n"


def read_diary(path: Path) -> Diary:
    """Read a diary; a last line cut short by a crash is left out. Raises RecordingError for anything else."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RecordingError(f"{path}: the sorter's pulse log cannot be read ({error.strerror})") from error
    return Diary(tuple(_decode_lines(lines[:-1], path)))


def _decode_lines(lines: Sequence[bytes], path: Path) -> list[DiaryEntry]:
    entries: list[DiaryEntry] = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(_DECODER.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RecordingError(f"{path}, line {number}: not an entry of a sorter's pulse log ({error})") from error
    return entries
