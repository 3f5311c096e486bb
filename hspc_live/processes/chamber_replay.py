"""A chamber recording as the source of fields: the same visits in the same order, so the same decisions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from hspc_live.core.chamber import ChamberFacts, Phase, Visit
from hspc_live.core.errors import RecordingError, SettingsError
from hspc_live.core.values import StageTarget
from hspc_live.recording.chamber_reader import ChamberRecording, open_chamber


class RecordedFields:
    """A `FieldSource` that gives what was recorded; `wanted` are the further channels that the settings ask for.

    Of these a gate asks for those in `needed`: without them no verdict would be the one that is asked for.
    `warnings` say where the recording is not what was asked for, `loss` what of it could not be read; both are complete
    when the run is over. Nothing moves here, so no target is ever refused.
    """

    def __init__(self, path: Path, wanted: Sequence[str] = (), needed: Collection[str] = ()) -> None:
        self._path, self._wanted, self._needed = path, tuple(wanted), frozenset(needed)
        self._recording: ChamberRecording | None = None
        self._halted = False
        self.warnings: list[str] = []
        self.loss: str | None = None

    def open(self) -> ChamberFacts:
        """What was known before the first field.

        Raises RecordingError for a file without any picture, SettingsError where a gate needs what was not recorded.
        """
        recording = self._recording = open_chamber(self._path)
        if not recording.has_pictures:
            raise RecordingError(
                f"{self._path} keeps no fields, only what was found in them: it can be inspected, but not replayed; "
                "record with record.frames: true"
            )
        if not recording.n_pictures:
            said = recording.loss or "it holds none"
            raise RecordingError(f"{self._path} has no fields that could be replayed: {said}")
        self.warnings += recording.warnings
        missing = [name for name in self._wanted if name not in recording.facts.channels]
        if missing:
            kept = ", ".join(recording.facts.channels)
            if lacking := [name for name in missing if name in self._needed]:
                raise SettingsError(
                    f"{self._path}: a gate asks for the light in channel '{lacking[0]}', which was not recorded; the "
                    f"recording has {kept}"
                )
            self.warnings.append(
                f"fluorescence in {', '.join(missing)} was not recorded (the recording has {kept}): no cell has a value"
            )
        self.loss = recording.loss
        return recording.facts

    def scan(self) -> Iterator[Visit]:
        """The fields of the scan."""
        return self._visits(self._opened().numbers(Phase.SCAN))

    def revisit(self, targets: Sequence[StageTarget]) -> Iterator[Visit]:
        """The fields at `targets` as far as they were visited again; which were not is said.

        A target is found by its place: its number follows from how many came before it.
        """
        recording = self._opened()
        again = recording.targets(Phase.REVISIT)
        at = {(target.x_um, target.y_um): number for number, target in again.items()}
        numbers = [at[target.x_um, target.y_um] for target in targets if (target.x_um, target.y_um) in at]
        if len(numbers) < len(targets):
            self.warnings.append(
                f"{len(targets) - len(numbers)} of {len(targets)} fields of this list were not visited again when it "
                "was recorded: their cells count as not in the picture"
            )
        return self._visits(numbers)

    def look_at(self, x_um: float, y_um: float) -> Visit:
        """Raises SettingsError: a recording has no stage."""
        raise SettingsError(f"{self._path} is a recording: it has no stage that could be driven to ({x_um}, {y_um})")

    def halt(self) -> None:
        """Give no more fields."""
        self._halted = True

    def close(self) -> None:
        """Let go of the file; harmless when called twice."""
        if self._recording is not None:
            self.loss = self._recording.loss
            self._recording.close()

    def _visits(self, numbers: Sequence[int]) -> Iterator[Visit]:
        for number in numbers:
            if self._halted:
                return
            yield self._opened().visit(number)

    def _opened(self) -> ChamberRecording:
        if self._recording is None:
            raise RecordingError(f"{self._path} was not opened")
        return self._recording
