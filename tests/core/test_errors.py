"""Exit codes: a script tells one failure from another by them, so they are a promise."""

from __future__ import annotations

from hspc_live.core import errors


def test_exit_codes_keep_their_meaning() -> None:
    codes = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.HspcError)
    }
    assert codes == {
        "HspcError": 1,
        "SettingsError": 2,
        "RecordingError": 3,
        "OutputError": 4,
        "ModelError": 5,
        "DeviceError": 6,
        "WireError": 7,
        "ArmingError": 8,
        "LedgerError": 9,
        "DataLoss": 10,
        "StoppedError": 130,
    }
