"""What really flowed past: known to the scorer after the run, never to the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hspc_live.core.errors import OutputError, RecordingError

TRUTH_DTYPE = np.dtype(
    [
        ("id", "<i8"),
        ("kind", "<i4"),  # index into `FlowTruth.kinds`
        ("diameter_um", "<f8"),
        ("y_um", "<f8"),
        ("velocity_um_s", "<f8"),  # when it enters the view
        ("entry_ns", "<i8"),  # host time at which its centre passes x = 0
        ("junction_ns", "<i8"),  # host time at which its centre passes the junction
        ("depth_um", "<f8"),  # height over the plane of focus at the start of the stream
        ("blurred", "?"),
        ("stuck", "?"),  # the object that clogged the channel
        ("members", "<i4", (3,)),  # LT-HSC, ST-HSC, MPP in it: 2 in a doublet
    ]
)
SIGHTING_DTYPE = np.dtype(
    [("frame", "<i8"), ("object", "<i8"), ("x_um", "<f8"), ("y_um", "<f8"), ("defocus_um", "<f8"), ("blurred", "?")]
)


@dataclass(frozen=True, slots=True, eq=False)
class FlowTruth:
    """Every object that entered, and every frame in which its centre was inside the view (mid-exposure).

    `objects` is (n,) of `TRUTH_DTYPE` in order of entry, `sightings` (m,) of `SIGHTING_DTYPE` ordered by frame, then
    object. Frames that the camera dropped are among the sightings: the cells were there.
    """

    kinds: tuple[str, ...]
    objects: NDArray[np.void]
    sightings: NDArray[np.void]

    def save(self, path: Path) -> None:
        """Write as .npz, without pickle. Raises OutputError if `path` exists or cannot be written."""
        try:
            with path.open("xb") as file:
                np.savez_compressed(file, kinds=np.asarray(self.kinds), objects=self.objects, sightings=self.sightings)
        except OSError as error:
            raise OutputError(f"cannot write the truth to {path}: {error.strerror}") from error

    @classmethod
    def load(cls, path: Path) -> FlowTruth:
        """Read what `save` wrote. Raises RecordingError for anything else."""
        try:
            with np.load(path, allow_pickle=False) as file:
                objects, sightings = file["objects"], file["sightings"]
                kinds = tuple(str(k) for k in file["kinds"])
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise RecordingError(f"{path} is not a truth file of the twin: {error}") from error
        if objects.dtype != TRUTH_DTYPE or sightings.dtype != SIGHTING_DTYPE:
            raise RecordingError(f"{path} is a truth file of another version; film the run again")
        return cls(kinds, objects, sightings)

    def in_frame(self, frame: int) -> NDArray[np.void]:
        """The sightings of one frame."""
        low, high = np.searchsorted(self.sightings["frame"], (frame, frame + 1))
        return self.sightings[low:high]


def match(
    truth: FlowTruth, frame: int, xs_um: ArrayLike, ys_um: ArrayLike, tolerance_um: float = 3.0
) -> NDArray[np.int64]:
    """Object ids for the positions found in one frame, (n,) int64; -1 where nothing true is within `tolerance_um`.

    One to one: as many pairs as possible within the tolerance, then the least sum of distances (Hungarian method).
    """
    from scipy.optimize import linear_sum_assignment  # half a second that every process of a run would wait for

    found = np.column_stack((np.atleast_1d(np.asarray(xs_um, float)), np.atleast_1d(np.asarray(ys_um, float))))
    seen = truth.in_frame(frame)
    ids = np.full(len(found), -1, np.int64)
    if not len(found) or not len(seen):
        return ids
    true = np.column_stack((seen["x_um"], seen["y_um"]))
    distance = np.linalg.norm(found[:, None] - true[None], axis=-1)
    far = distance > tolerance_um
    # a forbidden pair costs more than all allowed ones together, so it is taken only where nothing else is left
    cost = np.where(far, tolerance_um * (len(found) + len(seen) + 1), distance)
    rows, columns = linear_sum_assignment(cost)
    good = ~far[rows, columns]
    ids[rows[good]] = seen["object"][columns[good]]
    return ids
