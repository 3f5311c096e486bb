"""Values: the table of objects and the plain detections made of it are the same thing."""

from __future__ import annotations

import numpy as np

from hspc_live.core.values import OBJECT_DTYPE, Detection, FrameResult, Reject


def test_objects_become_detections_field_by_field() -> None:
    rows = np.zeros(2, OBJECT_DTYPE)
    for number, name in enumerate(Detection._fields):
        rows[name] = [number, number + 100]
    rows["reject"] = [Reject.ACCEPTED, Reject.BLURRED]
    empty = np.zeros((0, 4, 4), np.uint8)
    result = FrameResult(3, 5, rows, empty, empty, empty, background=0)
    first, second = result.detections()
    assert first._asdict() | {"reject": 12} == {name: number for number, name in enumerate(Detection._fields)}
    assert second.x_um == 100.0
    assert Reject(second.reject) is Reject.BLURRED
    assert isinstance(second.x0_px, int)


def test_the_table_has_no_padding_so_its_bytes_are_the_same_everywhere() -> None:
    assert OBJECT_DTYPE.names == Detection._fields
    assert OBJECT_DTYPE.itemsize == 8 * 8 + 5 * 4
    assert all(OBJECT_DTYPE[name].str[0] == "<" for name in Detection._fields)


def test_rejects_keep_their_numbers() -> None:
    """They are stored in recordings."""
    assert [reject.name for reject in Reject] == [
        "ACCEPTED", "BORDER", "DEBRIS", "CLUSTER", "NOT_UNIQUE", "SATURATED", "BLURRED", "UNCROPPABLE",
    ]  # fmt: skip
    assert [int(reject) for reject in Reject] == list(range(8))
