"""A camera that fails in mid-run: begun anew if that is asked for, and never armed again by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hspc_live.cli import again
from hspc_live.cli.again import execute_again, waits_s
from hspc_live.cli.execute import Order, Outcome
from hspc_live.core.errors import DataLoss, DeviceError, OutputError, StoppedError
from hspc_live.processes.run_report import RunReport
from hspc_live.recording.inspect import summarise
from hspc_live.settings.faults import FaultPlan
from hspc_live.settings.schema import RetrySettings, RunSettings

UNPLUGGED = FaultPlan.model_validate({"seed": 1, "faults": [{"kind": "disconnect", "at_frame": 120}]})
Kept = list[tuple[Outcome, Path | None]]


def ordered(tiny: Callable[..., RunSettings], out: Path, *overrides: str, for_s: float | None = None) -> Order:
    settings = tiny("camera.frames=200", "camera.twin.events_per_s=20", "retry.first_s=0.1", *overrides)
    return Order(settings, live=True, arm_by="test", for_s=for_s, out=out, faults=UNPLUGGED)


def test_a_new_run_begins_disarmed_and_both_recordings_are_whole(tiny, watch, tmp_path):
    kept: Kept = []
    order = ordered(tiny, tmp_path / "out", "retry.times=3")
    last, folder = execute_again(order, watch, lambda outcome, into: kept.append((outcome, into)))
    [(first, where)] = kept
    assert where == tmp_path / "out" and folder == tmp_path / "out/again_1"
    assert isinstance(first.error, DeviceError) and "does not answer any more" in str(first.error)
    assert first.summary["frames"]["captured"] < 200 == last.summary["frames"]["captured"]
    for outcome in (first, last):
        assert outcome.recording is not None and outcome.summary["ledger"]["balanced"]
        found = summarise(outcome.recording)
        assert found["closed"] and found["loss"] is None
    kinds = watch.kinds()
    assert "armed" in kinds[: kinds.index("retry")] and "armed" not in kinds[kinds.index("retry") :]
    assert first.summary["commands"]["sent"] > 0 == last.summary["commands"]["sent"]
    assert isinstance(last.error, DataLoss) and "failed 1 times" in str(last.error), "an hour with a hole is no hour"
    assert [told["run"] for told in last.summary["tries"]] == [first.summary["run"], last.summary["run"]]
    assert [told["error"] is None for told in last.summary["tries"]] == [False, True]


def test_unasked_or_without_time_left_nothing_is_begun(tiny, watch, tmp_path):
    """Two seconds, of which more than one is gone when the camera fails and has been waited for."""
    outcome, folder = execute_again(ordered(tiny, tmp_path / "a"), watch, lambda *_: None)
    assert isinstance(outcome.error, DeviceError) and "tries" not in outcome.summary and folder == tmp_path / "a"
    order = ordered(tiny, tmp_path / "b", "retry.times=3", for_s=2.0)
    outcome, _ = execute_again(order, watch, lambda *_: None)
    assert isinstance(outcome.error, DeviceError) and "tries" not in outcome.summary
    assert "retry" not in watch.kinds() and not list(tmp_path.glob("*/again_*"))


def test_the_waits_grow_to_the_longest():
    assert [*waits_s(RetrySettings(times=4, first_s=1, factor=3, longest_s=10))] == [1, 3, 9, 10]
    assert [*waits_s(RetrySettings())] == []


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (StoppedError("stopped by test"), "stopped by test"),
        (OutputError("no room"), "no room"),
    ],
)
def test_a_further_run_that_ends_without_a_result_leaves_the_first_one_s(
    tiny, watch, tmp_path, monkeypatch, raised, said
):
    summary = {"run": "first", "stream_error": "unplugged", "interrupted": False}
    lost = DeviceError("the stream ended early: unplugged")
    first = Outcome(summary, None, None, None, RunReport(), lost)
    answers = iter([first, DeviceError("no camera"), raised])

    def execute(*_: object) -> Outcome:
        answer = next(answers)  # a third further run would end the iteration
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(again, "execute", execute)
    order = ordered(tiny, tmp_path / "out", "retry.times=5", "retry.longest_s=0.1")
    outcome, folder = execute_again(order, watch, lambda *_: None)
    assert outcome is first and outcome.error is lost and folder == tmp_path / "out"
    assert [told["error"] for told in outcome.summary["tries"]] == [str(lost), "no camera", said]
