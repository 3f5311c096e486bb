"""A run whose camera failed, begun anew if that is asked for (`retry`): after a growing wait, disarmed, in a new file.

What was recorded until the failure is whole and stays as it is. Nobody arms the new run but a person: what the camera
shows after a cable was pulled may be another sample, another focus, another flow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hspc_live.cli.execute import Order, Outcome, execute
from hspc_live.core.errors import DataLoss, DeviceError, HspcError
from hspc_live.processes.supervisor import Listener
from hspc_live.settings.schema import RetrySettings

LEAST_S = 1.0
"""What is left of `--for` must be longer than that for a new run."""

Keep = Callable[[Outcome, Path | None], None]


def execute_again(order: Order, listen: Listener, keep: Keep) -> tuple[Outcome, Path | None]:
    """Run it, and again after each failure of the camera, as `settings.retry` says: the last run, and its folder.

    `keep` is given every run before, with its folder; those of further runs are `again_1` … in the first one's. With
    further runs `summary.tries` has all of them in order, and the outcome's error is never None: something was missed.
    Raises what kept the first run from starting.
    """
    begun = time.monotonic()
    outcome, folder = execute(order, listen), order.out
    tries = [_told(outcome, folder)]
    for number, wait_s in enumerate(waits_s(order.settings.retry), 1):
        left_s = None if order.for_s is None else order.for_s - (time.monotonic() - begun) - wait_s
        if not _camera_failed(outcome) or (left_s is not None and left_s < LEAST_S):
            break
        listen("camera", "retry", f"{tries[-1]['error']}; a new run, disarmed, in {wait_s:g} s; Ctrl-C: none")
        try:
            time.sleep(wait_s)
        except KeyboardInterrupt:
            break
        further = _further(order, number, left_s)
        try:
            anew = execute(further, listen)
        except (HspcError, KeyboardInterrupt) as error:  # what was seen before stays the result
            tries.append({"run": None, "out": None, "error": str(error) or "interrupted"})
            if isinstance(error, DeviceError):  # it is not there yet
                continue
            break
        keep(outcome, folder)
        outcome, folder = anew, further.out
        tries.append(_told(outcome, folder))
    if len(tries) > 1:
        outcome.summary["tries"] = tries
        if outcome.error is None:
            failed = sum(told["error"] is not None for told in tries)
            outcome.error = DataLoss(f"the camera failed {failed} times; what passed until it was back was not seen")
    return outcome, folder


def waits_s(retry: RetrySettings) -> Iterator[float]:
    """How long to wait before each further run, s."""
    for number in range(retry.times):
        yield min(retry.first_s * retry.factor**number, retry.longest_s)


def _camera_failed(outcome: Outcome) -> bool:
    """Whether the stream ended by the camera's fault; a person who ended the run meant it."""
    summary = outcome.summary
    return isinstance(outcome.error, DeviceError) and bool(summary.get("stream_error")) and not summary["interrupted"]


def _further(order: Order, number: int, left_s: float | None) -> Order:
    """The same, disarmed, to a folder and file of its own, with what is left of its time; faults strike once."""
    settings = order.settings
    if (path := settings.record.path) is not None:
        record = settings.record.model_copy(update={"path": path.with_stem(f"{path.stem}_again_{number}")})
        settings = settings.model_copy(update={"record": record})
    out = None if order.out is None else order.out / f"again_{number}"
    return replace(order, settings=settings, arm_by=None, for_s=left_s, out=out, faults=None)


def _told(outcome: Outcome, folder: Path | None) -> dict[str, Any]:
    error = None if outcome.error is None else str(outcome.error)
    return {"run": outcome.summary["run"], "out": None if folder is None else str(folder), "error": error}
