"""The door: what of a run can be reached from other computers, and by whose keys."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from hspc_live.settings.base import Section


class KeySettings(Section):
    """Key files (`hspc-live keygen`): named here, never copied. Needed wherever other computers can connect."""

    secret: Path = Field(description="this computer's own secret key file, which nobody else may read (mode 0600)")
    allow: tuple[Path, ...] = Field(min_length=1, description="public key files of those who may come in; no others do")


class DoorSettings(Section):
    """Lets segment workers on other computers join the run (`hspc-live worker tcp://…`), and nothing else."""

    listen: str = Field(
        pattern=r"^tcp://.+:(\*|[0-9]+)$", description="tcp://192.168.1.10:5571, or tcp://0.0.0.0:5571 for all networks"
    )
    keys: KeySettings
    workers: int = Field(8, ge=1, le=64, description="how many may work at once")
    messages_per_s: float = Field(
        2000.0, gt=0, description="from one worker; what comes faster for more than a second is refused"
    )
