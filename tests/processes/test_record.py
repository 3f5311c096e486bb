"""The recorder's loop: whatever ends it, what it has been given is in a whole file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from hspc_live.core.errors import RecordingError, WireError
from hspc_live.core.values import CameraInfo, Modality
from hspc_live.processes.record import Recorder
from hspc_live.recording.reader import open_recording
from hspc_live.recording.writer import RecordingWriter

FRAMES = 3
SHAPE = (64, 128)


@pytest.fixture
def writer(tmp_path: Path) -> RecordingWriter:
    return RecordingWriter.create(
        tmp_path / "run.rtdc",
        run_id="run-1",
        settings_json="{}",
        camera=CameraInfo(*SHAPE, "uint8", 0.25, 100.0, Modality.DIC),
        classes=("wanted", "other"),
        card_yaml="",
        pipeline_id="abc",
        versions={},
        window=(32, 32),
        record_frames=True,
    )


def recorder(writer: RecordingWriter, error: Exception) -> Recorder:
    """One to whom frames have come, and then something that breaks it."""

    class Link:
        async def wait_readable(self, timeout_s: float) -> None:
            for index in range(FRAMES):
                writer.write_frame(index, index, np.full(SHAPE, index, np.uint8), 0)
            raise error

    plan = SimpleNamespace(
        run_id="run-1", recording=str(writer.path), settings=SimpleNamespace(record=SimpleNamespace(flush_s=1.0))
    )
    child = SimpleNamespace(plan=plan, quit=False, turn=lambda: None)
    return Recorder(*cast("tuple[Any, ...]", (child, writer, None, Link(), None)))


@pytest.mark.parametrize("error", [MemoryError(), ValueError("columns do not fit"), WireError("no message of ours")])
async def test_an_error_in_mid_run_leaves_a_whole_file_with_all_that_came(writer, error):
    with pytest.raises(type(error)) as raised:
        await recorder(writer, error).run()
    assert raised.value is error
    with open_recording(writer.path) as recording:
        assert recording.loss is None and not recording.closed
        assert [frame.index for frame in recording.frames()] == [*range(FRAMES)]


async def test_where_nothing_can_be_written_the_first_error_is_told(writer, monkeypatch):
    error = RecordingError("is the disk full?")
    monkeypatch.setattr(RecordingWriter, "close", lambda *_: (_ for _ in ()).throw(RecordingError("still full")))
    with pytest.raises(RecordingError) as raised:
        await recorder(writer, error).run()
    assert raised.value is error
    monkeypatch.undo()
    writer.close(None, None)


def test_no_memory_for_a_picture_ends_the_recording_and_what_was_acknowledged_reads_back(writer, monkeypatch):
    writer.write_frame(0, 0, np.zeros(SHAPE, np.uint8), 0)
    writer.flush()
    writer.write_frame(1, 1, np.zeros(SHAPE, np.uint8), 0)

    def no_memory(*_: object) -> int:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("hspc_live.recording.chunks.Chunks.compress", no_memory)
        with pytest.raises(RecordingError, match="no memory left"):
            writer.flush()
    writer.close(None, None)  # harmless
    with open_recording(writer.path) as recording:
        assert [frame.index for frame in recording.frames()] == [0] and "crashed" in (recording.loss or "")
