"""Reading back from a recording what went into it: records of cells, single frames, single rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.core.values import (
    OBJECT_DTYPE,
    CameraInfo,
    CellOutcome,
    CellRecord,
    Classification,
    Detection,
    FrameResult,
    Modality,
)
from hspc_live.recording import layout
from hspc_live.recording.reader import open_recording
from hspc_live.recording.tables import cell_records, records_of
from hspc_live.recording.writer import RecordingWriter

CLASSES = ("A", "B")
CAMERA = CameraInfo(32, 64, "uint8", 0.5, 100.0, Modality.DIC)

times = st.integers(0, 2**62)
reals = st.floats(-1e9, 1e9)


@st.composite
def records(draw: st.DrawFn) -> list[CellRecord]:
    made = []
    for number in range(draw(st.integers(0, 4))):
        share = draw(st.floats(0, 1))
        said = Classification(number, (share, 1.0 - share), draw(st.sampled_from(CLASSES)), draw(st.integers(1, 9)))
        made.append(
            CellRecord(
                cell=number,
                first_frame=draw(times),
                last_frame=draw(times),
                views=tuple(draw(st.lists(st.tuples(times, st.integers(0, 99)), max_size=4))),
                outcome=draw(st.sampled_from(list(CellOutcome))),
                reason=draw(st.sampled_from(("", "late", "gate"))),
                outlet=draw(st.none() | st.just("stem cells")),
                classification=draw(st.none() | st.just(said)),
                velocity_um_s=draw(st.none() | reals),
                velocity_sd_um_s=draw(st.none() | reals),
                arrival_ns=draw(st.none() | times),
                arrival_sd_ns=draw(st.none() | times),
                y_um=draw(reals),
                last_capture_ns=draw(times),
                decided_ns=draw(times),
                latency_ns=draw(st.none() | times),
                command=draw(st.none() | times),
                features=draw(st.dictionaries(st.sampled_from(Detection._fields), reals)),
            )
        )
    return made


@given(records())
def test_records_come_back_as_they_were(made):
    cells = layout.cell_rows(made, layout.cell_dtype(CLASSES))
    assert records_of(cells, layout.cell_view_rows(made)) == made


def test_one_frame_and_one_row_can_be_had_without_reading_the_rest(tmp_path):
    path = tmp_path / "r.rtdc"
    writer = RecordingWriter.create(
        path, run_id="r", settings_json="{}", camera=CAMERA, classes=CLASSES, card_yaml="", pipeline_id="p",
        versions={}, window=(8, 8), record_frames=True,
    )  # fmt: skip
    objects = np.zeros(1, OBJECT_DTYPE)
    objects["x_um"], objects["y_um"] = 10.0, 8.0
    for index in (3, 4, 9):
        pixels = np.full((32, 64), index, np.uint8)
        windows, masks = np.full((1, 8, 8), index, np.uint8), np.zeros((1, 8, 8), np.uint8)
        masks[0, index % 8, 2] = 1
        writer.write_frame(index, index * 1000, pixels, 0)
        writer.write_result(FrameResult(index, index * 1000, objects, windows, windows, masks, 0))
    writer.close({}, {})
    with open_recording(path) as recording:
        frame = recording.frame(9)
        assert frame is not None and (frame.index, frame.captured_ns) == (9, 6000) and (frame.pixels == 9).all()
        assert recording.frame(5) is None and recording.frame(10) is None
        kept = recording.window(1)
        assert kept is not None and (kept[0] == 4).all() and kept[1].dtype == bool
        assert np.argwhere(kept[1]).tolist() == [[4, 2]]
        assert recording.window(3) is None
        assert cell_records(recording) == []


@pytest.mark.parametrize("name", ["frames", "rows"])
def test_a_recording_of_somebody_else_has_no_cells(name, tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "other.rtdc"
    with h5py.File(path, "w") as file:
        file["events/image"] = np.zeros((2, 8, 8), "u1")
        file.attrs["imaging:pixel size"] = 0.3
        if name == "frames":
            file["events/frame"] = np.array([5, 7])
    with open_recording(path) as recording:
        assert cell_records(recording) == []
        assert recording.frame(5 if name == "frames" else 0) is not None
        assert recording.window(0) is None  # it has no masks
