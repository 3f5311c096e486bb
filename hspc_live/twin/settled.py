"""Who lies where in the chamber, and where they creep.

Objects settle at random, at least as far apart as two spheres on a plate are when they touch (2·sqrt(r₁·r₂) between
their middles); a share of them settles on purpose against, or near, an earlier one. Each cell then creeps (Brownian, in
steps of `STEP_S`, straight between), and a few come loose once, drift for one step and settle elsewhere. Where an
object is at a time depends on the settings and that time only. Cells do not push each other while they creep.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hspc_live.settings.chamber_twin import TwinChamberSettings
from hspc_live.twin.cells import CLASSES, KINDS, MEAN_DIAMETER_UM, draw
from hspc_live.twin.field import CREEP, OBJECT, SETTLED, SPECK, generator
from hspc_live.twin.flow import class_shares
from hspc_live.twin.phase import Globe, PhaseObject

STEP_S = 10.0
_STEPS = 360  # creep is drawn an hour at a time
_MEAN_RADIUS_UM = float(np.mean([MEAN_DIAMETER_UM[name] for name in CLASSES])) / 2
_TRIES = 40
_STILL = ("debris", "dead", "bead")
DEBRIS = KINDS.index("debris")

SETTLED_DTYPE = np.dtype(
    [
        ("kind", "<i4"),  # index into `twin.cells.KINDS`
        ("x_um", "<f8"),  # where it settled, chamber coordinates
        ("y_um", "<f8"),
        ("diameter_um", "<f8"),
        ("depth_um", "<f8"),  # its middle over the plane of focus, with the glass level
        ("speck", "?"),
        ("floating", "?"),
        ("company", "?"),  # put against or near an earlier one
        ("loose_s", "<f8"),  # when it comes loose; infinite for most
        ("away_x_um", "<f8"),  # how far it drifts then
        ("away_y_um", "<f8"),
        ("members", "<i4", (3,)),  # LT-HSC, ST-HSC, MPP in it
    ]
)
Places = NDArray[np.float64]


class Settled:
    """All objects of a seed. Object n, its path and its looks depend on the settings and on n only."""

    def __init__(self, settings: TwinChamberSettings) -> None:
        self._settings = settings
        self._step_um = settings.creep_um_per_sqrt_min * np.sqrt(STEP_S / 60)
        self.rows = self._settle()
        self.thing = lru_cache(512)(self._draw_thing)
        self._path = lru_cache(1024)(self._walk)
        self._home = np.column_stack((self.rows["x_um"], self.rows["y_um"]))
        self._away = np.column_stack((self.rows["away_x_um"], self.rows["away_y_um"]))

    def at(self, numbers: NDArray[np.intp], seconds: float) -> Places:
        """Where objects `numbers` are at `seconds` (≥ 0) after they settled, (n, 2) µm."""
        if not len(numbers):
            return np.zeros((0, 2))
        whole, part = divmod(max(0.0, seconds) / STEP_S, 1.0)
        step = int(whole)
        hours = step // _STEPS + 1
        paths = [self._path(number, hours)[step : step + 2] for number in numbers.tolist()]
        creep = np.array([(1 - part) * path[0] + part * path[1] for path in paths])
        gone = np.clip((seconds - self.rows["loose_s"][numbers]) / STEP_S, 0.0, 1.0)
        return np.asarray(self._home[numbers] + creep + gone[:, None] * self._away[numbers])

    def paths(self, numbers: NDArray[np.intp], until_s: float) -> Places:
        """Places of objects `numbers` at every whole step from 0 to beyond `until_s`, (n, steps, 2) µm."""
        steps = int(np.ceil(max(0.0, until_s) / STEP_S)) + 1
        hours = (steps - 1) // _STEPS + 1
        paths = np.array([self._path(number, hours)[:steps] for number in numbers.tolist()]).reshape(-1, steps, 2)
        gone = np.clip((np.arange(steps) * STEP_S - self.rows["loose_s"][numbers, None]) / STEP_S, 0.0, 1.0)
        return np.asarray(paths + self._home[numbers, None] + gone[..., None] * self._away[numbers, None])

    def near(self, place_um: Places, reach_um: float, seconds: float) -> tuple[NDArray[np.intp], Places]:
        """Numbers and places of what is within `reach_um` of `place_um` (per axis) at `seconds`."""
        strayed = 6 * self._settings.creep_um_per_sqrt_min * np.sqrt(seconds / 60 + 1)
        gone = np.clip((seconds - self.rows["loose_s"]) / STEP_S, 0.0, 1.0)
        rough = self._home + gone[:, None] * self._away
        numbers = np.flatnonzero((np.abs(rough - place_um) < reach_um + strayed).all(axis=1))
        places = self.at(numbers, seconds)
        here = (np.abs(places - place_um) < reach_um).all(axis=1)
        return numbers[here], places[here]

    def _walk(self, number: int, hours: int) -> NDArray[np.float64]:
        """Creep of one object from its home, (360·hours + 1, 2) µm at whole steps."""
        path = np.zeros((_STEPS * hours + 1, 2))
        if KINDS[int(self.rows["kind"][number])] not in _STILL and self._step_um:
            steps = generator(self._settings.seed, CREEP, number).standard_normal((_STEPS * hours, 2))
            np.cumsum(steps * self._step_um, axis=0, out=path[1:])
        return path

    def _draw_thing(self, number: int) -> PhaseObject:
        s = self._settings
        if self.rows["speck"][number]:
            return _speck(generator(s.seed, SPECK, number))
        kind = KINDS[int(self.rows["kind"][number])]
        return draw(kind, generator(s.seed, OBJECT, number), s.texture, class_shares(s))

    def _settle(self) -> NDArray[np.void]:
        s = self._settings
        rng = generator(s.seed, SETTLED, 0)
        area = s.width_mm * s.height_mm
        objects, specks = int(rng.poisson(s.density_per_mm2 * area)), int(rng.poisson(s.specks_per_mm2 * area))
        count = objects + specks
        rows = np.zeros(count, SETTLED_DTYPE)
        rows["speck"][objects:] = True
        rows["kind"] = DEBRIS
        shares = np.asarray(s.mix.shares())
        rows["kind"][:objects] = rng.choice(len(KINDS), size=objects, p=shares / shares.sum())
        self.rows = rows  # `_draw_thing` reads the kinds
        for number in range(count):
            thing = self._draw_thing(number)
            rows["diameter_um"][number], rows["members"][number] = thing.diameter_um, thing.members
        self._lay(rows, rng)
        self._lift(rows, rng)
        movable = ~np.isin(rows["kind"], [KINDS.index(kind) for kind in _STILL])
        rate = -np.log1p(-min(s.detach_per_h, 1 - 1e-9)) / 3600
        waits = rng.exponential(size=count)
        # whole steps, so that a path is straight between the steps' ends whatever happens
        loose = np.ceil(waits / rate / STEP_S) * STEP_S if rate else np.full(count, np.inf)
        rows["loose_s"] = np.where(movable, loose, np.inf)
        angle, far = rng.uniform(0, 2 * np.pi, count), s.detach_um * np.exp(0.5 * rng.standard_normal(count))
        rows["away_x_um"], rows["away_y_um"] = far * np.cos(angle), far * np.sin(angle)
        return rows

    def _lay(self, rows: NDArray[np.void], rng: np.random.Generator) -> None:
        """Give every object its place, one after the other."""
        s = self._settings
        half = np.array([s.width_mm, s.height_mm]) * 500
        company = rng.random(len(rows))
        grid: dict[tuple[int, int], list[int]] = {}
        places = np.zeros((len(rows), 2))
        radii = rows["diameter_um"] / 2
        square = max(20.0, 2 * float(radii.max(initial=0.0)))  # so large that only adjoining squares can touch
        for number, radius in enumerate(radii.tolist()):
            touching = company[number] < s.touching_share
            near = not touching and company[number] < s.touching_share + s.neighbour_share
            rows["company"][number] = number > 0 and not rows["speck"][number] and (touching or near)
            for _ in range(_TRIES):
                place = rng.uniform(-half, half)
                if rows["company"][number]:
                    host = int(rng.integers(number))
                    gap = 0.0 if touching else rng.uniform(0.5, s.neighbour_um)
                    angle = rng.uniform(0, 2 * np.pi)
                    away = 2 * np.sqrt(radius * radii[host]) + gap
                    place = places[host] + away * np.array([np.cos(angle), np.sin(angle)])
                column, row = (int(i) for i in np.floor(place / square))
                others = [n for i in (-1, 0, 1) for j in (-1, 0, 1) for n in grid.get((column + i, row + j), ())]
                clear = 2 * np.sqrt(radius * radii[others]) - 1e-9
                if (np.hypot(*(places[others] - place).T) >= clear).all() and (np.abs(place) <= half).all():
                    break
            places[number] = place  # in a chamber without room left, on top of another
            grid.setdefault((column, row), []).append(number)
        rows["x_um"], rows["y_um"] = places.T

    def _lift(self, rows: NDArray[np.void], rng: np.random.Generator) -> None:
        """Heights: a sphere on the glass has its middle one radius above it; what is small sticks anywhere below."""
        s = self._settings
        count = len(rows)
        spread = s.focus_sd_um * np.clip(rng.standard_normal(count), -4, 4)
        single = np.isin(rows["kind"], [KINDS.index(kind) for kind in (*CLASSES, "dead", "bead")])
        above = np.where(single, rows["diameter_um"] / 2 - _MEAN_RADIUS_UM, 0.0)
        low = rng.uniform(-1.5, 0.8, count)
        high = rng.uniform(6.0, 10.0, count)
        rows["floating"] = rng.random(count) < s.floating_share
        rows["depth_um"] = np.where(rows["kind"] == DEBRIS, low, above + spread)
        rows["depth_um"] = np.where(rows["floating"], high, rows["depth_um"])


def _speck(rng: np.random.Generator) -> PhaseObject:
    """A grain too small to be resolved well."""
    radius = float(rng.uniform(0.15, 0.5))
    none = np.zeros((0, 5))
    body = Globe(np.zeros(3), radius, float(rng.uniform(0.03, 0.12)), np.zeros((2, 4)), np.zeros(3), None, 0.0, none)
    return PhaseObject("debris", (body,), 2 * radius, (0, 0, 0))
