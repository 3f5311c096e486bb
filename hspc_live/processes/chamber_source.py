"""The live source of fields: stage and camera go from field to field; every target is checked before the first move."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np

from hspc_live.core.chamber import ChamberFacts, Phase, Picture, Visit
from hspc_live.core.errors import DeviceError
from hspc_live.core.protocols import SnapCamera, Stage
from hspc_live.core.values import CameraInfo, StageTarget
from hspc_live.processes.chamber_calibrate import calibrate_affine, check_calibration, looker
from hspc_live.processes.chamber_motion import Rig, open_rig
from hspc_live.settings.chamber import Area, CircleArea, RectangleArea
from hspc_live.settings.chamber_run import ChamberRunSettings, GivenAffine, MeasuredAffine
from hspc_live.stages.affine import Affine, AffineError, AffineFit, centred, nominal
from hspc_live.stages.tiling import Point, approach, check_targets, footprint, plan_tiles, reachable


class LiveFields:
    """A `FieldSource` of a stage and a camera that stands over it."""

    def __init__(self, stage: Stage, camera: SnapCamera, settings: ChamberRunSettings) -> None:
        self._stage, self._camera, self._settings = stage, camera, settings
        self._tiling = settings.chamber.tiling
        self._rig: Rig | None = None
        self._limits = settings.chamber.limits
        self._next = 0  # number of the next target
        self._visits = 0
        self._plan: tuple[tuple[StageTarget, tuple[Point, ...]], ...] = ()
        self._halted = threading.Event()
        self.calibration: AffineFit | None = None

    def open(self) -> ChamberFacts:
        """Connect, refuse what is out of reach, measure the affine if it is not given, plan the scan."""
        self._rig, camera, stage = open_rig(self._stage, self._camera, self._settings, self._halted)
        exposure = self._settings.exposure
        unknown = sorted(set(exposure.fluorescence) - set(self._camera.channels))
        if unknown:
            raise DeviceError(f"the camera has no channel {unknown[0]!r}; it has {', '.join(self._camera.channels)}")
        self._limits = reachable(self._limits, stage)
        affine = self._affine(camera)
        shows = footprint(affine, camera.width_px, camera.height_px)
        here = self._stage.position()
        tiles = plan_tiles(self._tiling, shows, self._limits, (here.x_um, here.y_um))
        self._plan = tuple((self._target(tile.x_um, tile.y_um), tile.waypoints) for tile in tiles)
        channels = (self._camera.channels[0], *exposure.fluorescence)
        targets = tuple(target for target, _ in self._plan)
        return ChamberFacts(camera, stage, channels, affine.matrix, affine.covariance, targets)

    def _affine(self, camera: CameraInfo) -> Affine:
        calibration = self._settings.calibration
        if isinstance(calibration, GivenAffine):
            matrix = np.array([(*calibration.x_per_px, 0.0), (*calibration.y_per_px, 0.0)])
            spread = matrix.ravel() * calibration.scale_sd  # a wrong scale is wrong everywhere alike
            return centred(Affine(matrix, np.outer(spread, spread)), camera.width_px, camera.height_px)
        # a plan with the nominal scale first: an area out of reach is refused before anything moves
        rough = nominal(camera.um_per_px, camera.width_px, camera.height_px)
        plan_tiles(self._tiling, footprint(rough, camera.width_px, camera.height_px), self._limits)
        places = _spread(self._tiling.area)
        check_calibration(camera, calibration, self._tiling, places, self._limits)
        self.calibration = self._measured(camera, calibration, places)
        return self.calibration.affine

    def _measured(self, camera: CameraInfo, calibration: MeasuredAffine, places: Sequence[Point]) -> AffineFit:
        """At the first of `places` that has enough to see."""
        assert self._rig is not None
        failure: AffineError | None = None
        for place in places:
            look = looker(self._rig, self._tiling, self._target)
            try:
                return calibrate_affine(look, camera, calibration, place)
            except AffineError as error:
                failure = failure or error
        assert failure is not None
        raise failure

    def scan(self) -> Iterator[Visit]:
        """The planned fields."""
        for target, waypoints in self._plan:
            yield self._visit(Phase.SCAN, target, waypoints)

    def revisit(self, targets: Sequence[StageTarget]) -> Iterator[Visit]:
        """The fields at `targets`, each come to from the same side as in the scan."""
        here = self._stage.position()
        before: Point | None = (here.x_um, here.y_um) if self._tiling.approach == "any" else None
        ways: list[tuple[Point, ...]] = []
        for target in targets:
            ways.append(approach((target.x_um, target.y_um), before, self._tiling))
            before = (target.x_um, target.y_um)
        check_targets((point for way in ways for point in way), self._limits)
        return self._revisit(targets, ways)

    def _revisit(self, targets: Sequence[StageTarget], ways: Sequence[tuple[Point, ...]]) -> Iterator[Visit]:
        for target, waypoints in zip(targets, ways, strict=True):
            yield self._visit(Phase.REVISIT, target, waypoints)

    def look_at(self, x_um: float, y_um: float) -> Visit:
        """A place that a person chose, come to from the same side as in the scan."""
        here = self._stage.position()
        before = (here.x_um, here.y_um) if self._tiling.approach == "any" else None
        way = approach((x_um, y_um), before, self._tiling)
        check_targets(way, self._limits)
        return self._visit(Phase.REVISIT, self._target(x_um, y_um), way)

    def _visit(self, phase: Phase, target: StageTarget, waypoints: tuple[Point, ...]) -> Visit:
        if self._rig is None or self._halted.is_set():
            raise DeviceError("the stage was halted")
        number, self._visits = self._visits, self._visits + 1
        receipt = self._rig.go(waypoints, target)
        settled, frame = self._rig.still(receipt)
        here = self._stage.position()
        pictures: tuple[Picture, ...] = ()
        if frame is not None:
            further = (Picture(name, self._rig.snap(name)) for name in self._settings.exposure.fluorescence)
            pictures = (Picture(self._camera.channels[0], frame), *further)
        return Visit(number, phase, target, here.x_um, here.y_um, settled, pictures)

    def halt(self) -> None:
        """Stop the stage; nothing moves from now on."""
        self._halted.set()
        self._stage.stop()

    def close(self) -> None:
        """Let go of both, of the one even if the other fails."""
        try:
            self._stage.close()
        finally:
            self._camera.close()

    def _target(self, x_um: float, y_um: float) -> StageTarget:
        number, self._next = self._next, self._next + 1
        return StageTarget(number, x_um, y_um)


def _spread(area: Area) -> tuple[Point, ...]:
    """Where to look for cells to calibrate on: the area's middle, then around it."""
    match area:
        case RectangleArea():
            x, y = area.x0_um + area.width_um / 2, area.y0_um + area.height_um / 2
            dx, dy = area.width_um / 4, area.height_um / 4
        case CircleArea():
            x, y, dx, dy = area.x_um, area.y_um, area.radius_um / 2, area.radius_um / 2
    return ((x, y), (x + dx, y + dy), (x - dx, y - dy), (x + dx, y - dy), (x - dx, y + dy))
