"""What really lay in the chamber, and what every exposure showed: for the scorer after the run, never the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.clock import NS_PER_S
from hspc_live.core.errors import OutputError, RecordingError
from hspc_live.twin.cells import KINDS
from hspc_live.twin.chamber import VISIBLE_DTYPE, ChamberTwin
from hspc_live.twin.glow import shine
from hspc_live.twin.settled import STEP_S

BODY_DTYPE = np.dtype(
    [
        ("object", "<i8"),  # bodies of one doublet or cluster share it
        ("kind", "<i4"),  # of the object: index into `ChamberTruth.kinds`
        ("diameter_um", "<f8"),
        ("dx_um", "<f8"),  # from the object's middle, chamber coordinates
        ("dy_um", "<f8"),
        ("glow_e", "<f8"),  # electrons a pixel at its middle, nominal exposure
        ("marked", "?"),  # expresses the marker
        ("floating", "?"),
        ("company", "?"),  # settled against or near another
    ]
)
EXPOSURE_DTYPE = np.dtype(
    [
        ("number", "<i8"),
        ("channel", "<i4"),  # index into `ChamberTruth.channels`
        ("captured_ns", "<i8"),  # mid-exposure, host time
        ("exposure_ms", "<f8"),
        ("x_um", "<f8"),  # where the table truly was, mid-exposure
        ("y_um", "<f8"),
        ("z_um", "<f8"),  # where the focus drive was
        ("reported_x_um", "<f8"),  # what the encoder said then
        ("reported_y_um", "<f8"),
        ("swept_um", "<f8"),  # how far the table moved while the shutter was open
    ]
)
SEEN_DTYPE = np.dtype([("exposure", "<i8"), *((name, VISIBLE_DTYPE[name]) for name in VISIBLE_DTYPE.names or ())])


@dataclass(frozen=True, slots=True, eq=False)
class ChamberTruth:
    """Everything in the chamber. `bodies` (n,) of `BODY_DTYPE`, ordered by object; `exposures` (m,) of
    `EXPOSURE_DTYPE`; `seen` (k,) of `SEEN_DTYPE`, ordered by exposure: whose middle lay in the frame. `paths` is
    (objects, steps, 2): where each object was at `start_ns` + step · `step_ns`, moving straight between, chamber µm.
    """

    kinds: tuple[str, ...]
    channels: tuple[str, ...]
    start_ns: int
    step_ns: int
    bodies: NDArray[np.void]
    exposures: NDArray[np.void]
    seen: NDArray[np.void]
    paths: NDArray[np.float64]

    def places_um(self, at_ns: int) -> NDArray[np.float64]:
        """Where every body was at host time `at_ns`, (n, 2) chamber µm. Raises ValueError outside the truth's time."""
        step = (at_ns - self.start_ns) / self.step_ns
        if not 0 <= step <= self.paths.shape[1] - 1:
            raise ValueError(f"the truth covers {self.paths.shape[1] - 1} steps from its start, not step {step:.2f}")
        low = min(int(step), max(0, self.paths.shape[1] - 2))
        high = min(low + 1, self.paths.shape[1] - 1)
        part = step - low
        objects = (1 - part) * self.paths[:, low] + part * self.paths[:, high]
        own = np.column_stack((self.bodies["dx_um"], self.bodies["dy_um"]))
        return np.asarray(objects[self.bodies["object"]] + own)

    def stage_error_um(self, at_ns: int) -> NDArray[np.float64]:
        """True minus reported place of the table, (2,), at the exposure nearest to `at_ns`; zero without exposures."""
        if not len(self.exposures):
            return np.zeros(2)
        row = self.exposures[int(np.abs(self.exposures["captured_ns"] - at_ns).argmin())]
        return np.array([row["x_um"] - row["reported_x_um"], row["y_um"] - row["reported_y_um"]], np.float64)

    def kind_names(self) -> NDArray[np.str_]:
        """The kind of every body, by name, (n,)."""
        return np.asarray(np.asarray(self.kinds)[self.bodies["kind"]])

    def save(self, path: Path) -> None:
        """Write as .npz, without pickle. Raises OutputError if `path` exists or cannot be written."""
        try:
            with path.open("xb") as file:
                np.savez_compressed(
                    file,
                    kinds=np.asarray(self.kinds),
                    channels=np.asarray(self.channels),
                    times_ns=np.asarray([self.start_ns, self.step_ns], np.int64),
                    bodies=self.bodies,
                    exposures=self.exposures,
                    seen=self.seen,
                    paths=self.paths,
                )
        except OSError as error:
            raise OutputError(f"cannot write the truth to {path}: {error.strerror}") from error

    @classmethod
    def load(cls, path: Path) -> ChamberTruth:
        """Read what `save` wrote. Raises RecordingError for anything else."""
        try:
            with np.load(path, allow_pickle=False) as file:
                bodies, exposures, seen = (file[name] for name in ("bodies", "exposures", "seen"))
                kinds, channels = (tuple(str(name) for name in file[key]) for key in ("kinds", "channels"))
                start_ns, step_ns = (int(value) for value in file["times_ns"])
                paths = file["paths"]
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise RecordingError(f"{path} is not a truth file of the twin's chamber: {error}") from error
        if (bodies.dtype, exposures.dtype, seen.dtype) != (BODY_DTYPE, EXPOSURE_DTYPE, SEEN_DTYPE):
            raise RecordingError(f"{path} is a truth file of another version; film the run again")
        return cls(kinds, channels, start_ns, step_ns, bodies, exposures, seen, paths)


def tell(twin: ChamberTwin, start_ns: int, end_ns: int, exposures: NDArray[np.void]) -> ChamberTruth:
    """The whole truth about `exposures` ((m,) of `EXPOSURE_DTYPE`), with paths from `start_ns` to beyond `end_ns`."""
    seen = [np.zeros(0, SEEN_DTYPE)]
    for row in exposures:
        seconds = (int(row["captured_ns"]) - start_ns) / NS_PER_S
        here = twin.visible(float(row["x_um"]), float(row["y_um"]), seconds, float(row["z_um"]))
        rows = np.zeros(len(here), SEEN_DTYPE)
        rows["exposure"] = row["number"]
        for name in VISIBLE_DTYPE.names or ():
            rows[name] = here[name]
        seen.append(rows)
    paths = twin.settled.paths(np.arange(len(twin.settled.rows)), (end_ns - start_ns) / NS_PER_S)
    step_ns = round(STEP_S * NS_PER_S)
    return ChamberTruth(KINDS, twin.channels, start_ns, step_ns, _bodies(twin), exposures, np.concatenate(seen), paths)


def _bodies(twin: ChamberTwin) -> NDArray[np.void]:
    """One row a globe; the pictures' axes are the camera's, so their offsets are turned onto the glass."""
    to_glass = twin.view.um_per_px / twin.view.mean_um_per_px
    rows: list[tuple[object, ...]] = []
    for number, row in enumerate(twin.settled.rows):
        thing = twin.settled.thing(number)
        for globe, glow in zip(thing.globes, shine(twin.settings, number, thing), strict=True):
            dx, dy = to_glass @ globe.centre_um[:2]
            own = (number, row["kind"], 2 * globe.radius_um, dx, dy, *glow, row["floating"], row["company"])
            rows.append(own)
    return np.array(rows, BODY_DTYPE) if rows else np.zeros(0, BODY_DTYPE)
