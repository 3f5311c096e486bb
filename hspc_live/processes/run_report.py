"""What a run came to, as its supervisor saw it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hspc_live.core import errors
from hspc_live.core.errors import HspcError


@dataclass(slots=True)
class RunReport:
    """What the processes reported; `failures` are (role, error class, text) of those that gave up.

    `refused` counts, by reason, messages at the control socket that had no effect.
    """

    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    replaced_workers: int = 0
    injected: Counter[str] = field(default_factory=Counter)  # by a fault plan, by what it is counted under
    died: Counter[str] = field(default_factory=Counter)  # processes by role, those that were killed too
    warnings: list[str] = field(default_factory=list)  # what processes said that stays true afterwards
    refused: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False
    stopped_now: bool = False
    stopped_by: str | None = None

    def raise_failure(self, known: dict[str, Any] | None = None) -> None:
        """Raise the first failure as the error it was (all of them in its text); `known` goes into its JSON."""
        if not self.failures:
            return
        text = "\n".join(f"{role}: {text}" if len(self.failures) > 1 else text for role, _, text in self.failures)
        kind = getattr(errors, self.failures[0][1], HspcError)
        error: HspcError = kind(text)
        error.known = known
        raise error
