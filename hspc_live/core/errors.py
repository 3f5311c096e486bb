"""The errors of HSPC Live, told apart by whose fault they are and what a person can do about them.

Every message names the thing (file, key, device) and the mend. The command line maps each class to an exit code, so a
script can tell a typing mistake from a broken recording without reading prose.
"""

from __future__ import annotations

from typing import Any


class HspcError(Exception):
    """Base of every error raised on purpose; `exit_code` is what the command line ends with."""

    exit_code = 1
    known: dict[str, Any] | None = None
    """What a run that ended without a summary has to tell all the same, for its JSON."""


class SettingsError(HspcError):
    """A setting is missing, unknown, of the wrong type or contradicts another. Names file and key path."""

    exit_code = 2


class RecordingError(HspcError):
    """A recording cannot be read or written: missing, empty, not HDF5, or not one of ours or RT-DC's."""

    exit_code = 3


class OutputError(HspcError):
    """An output exists already or cannot be written. Raised before any device is started."""

    exit_code = 4


class ModelError(HspcError):
    """Weights, card and settings do not fit together (hash, classes, geometry), or an engine cannot be built."""

    exit_code = 5


class DeviceError(HspcError):
    """A camera, sorter or stage failed to open, or stopped answering."""

    exit_code = 6


class WireError(HspcError):
    """A message is malformed, too large, of another version, or its sizes contradict its header."""

    exit_code = 7


class ArmingError(HspcError):
    """Arming was refused; the message lists every item of the self-test that failed."""

    exit_code = 8


class LedgerError(HspcError):
    """A ledger does not balance at the end of a run: something was lost without being counted."""

    exit_code = 9


class StoppedError(HspcError):
    """The run was stopped in mid-run by a person; nothing was deflected from then on."""

    exit_code = 130


class DataLoss(HspcError):
    """The run went to its end, but part of its input was unreadable; what was lost has been stated."""

    exit_code = 10
