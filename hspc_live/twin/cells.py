"""What flows past: cells, debris, doublets, clusters, dead cells and beads, as phase objects.

An object is one or more globes; a globe is a nearly spherical body with a nucleus and blobs (granules, nucleoli,
membrane ruffles), each with a refractive-index contrast (`twin.phase`). `draw` makes one from a random generator.

The three classes share one body plan and differ in `HABITS`, by distributions that overlap: how large the nucleus is
and how far off centre, how many granules there are and how large, and how they lie: as a cap at the pole away from the
nucleus, around the nucleus, or all through the cytoplasm. `texture` scales these differences about their common mean;
at 0 the classes differ by diameter only. Nuclei are optically thinner than cytoplasm (Schürmann et al. 2016,
J. Biophotonics 9:1068).

Diameters are those of the paper (means 8.05, 8.05, 8.44 µm); their spread is ours, that of real blood stem cells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hspc_live.twin.phase import Globe, PhaseObject, Vector

KINDS = ("LT-HSC", "ST-HSC", "MPP", "debris", "doublet", "cluster", "dead", "bead")
CLASSES = KINDS[:3]
MEAN_DIAMETER_UM = {"LT-HSC": 8.05, "ST-HSC": 8.05, "MPP": 8.44}
DIAMETER_SD_UM = 0.75
BEAD_DIAMETER_UM = 8.0


@dataclass(frozen=True, slots=True)
class Habit:
    """How cells of a class tend to look. `arrangement`: chances of polar cap, perinuclear shell, scattered."""

    nucleus_ratio: float
    nucleus_offset: float
    granules: float
    granule_radius_um: float
    arrangement: tuple[float, float, float]
    indentation: float


HABITS = {
    "LT-HSC": Habit(0.66, 0.75, 16, 0.36, (0.96, 0.02, 0.02), 0.25),
    "ST-HSC": Habit(0.62, 0.45, 20, 0.31, (0.02, 0.96, 0.02), 0.35),
    "MPP": Habit(0.58, 0.35, 26, 0.26, (0.02, 0.02, 0.96), 0.50),
}
POLAR, PERINUCLEAR, SCATTERED = range(3)


def habit_of(kind: str, texture: float) -> Habit:
    """The habit of a class with its distance from the classes' common mean scaled by `texture`."""
    mine, all_ = HABITS[kind], tuple(HABITS.values())

    def blend(own: float, everybody: list[float]) -> float:
        mean = sum(everybody) / len(everybody)
        return mean + texture * (own - mean)

    chances = [max(0.0, blend(mine.arrangement[i], [h.arrangement[i] for h in all_])) for i in range(3)]
    total = sum(chances)
    return Habit(
        min(0.85, blend(mine.nucleus_ratio, [h.nucleus_ratio for h in all_])),
        float(np.clip(blend(mine.nucleus_offset, [h.nucleus_offset for h in all_]), 0.0, 1.0)),
        max(2.0, blend(mine.granules, [h.granules for h in all_])),
        max(0.1, blend(mine.granule_radius_um, [h.granule_radius_um for h in all_])),
        (chances[0] / total, chances[1] / total, chances[2] / total),
        float(np.clip(blend(mine.indentation, [h.indentation for h in all_]), 0.0, 1.0)),
    )


def draw(kind: str, rng: np.random.Generator, texture: float, mix: tuple[float, float, float]) -> PhaseObject:
    """Make one object of `kind`. `mix`: shares of the three classes, of which doublets and clusters are made."""
    match kind:
        case "LT-HSC" | "ST-HSC" | "MPP":
            cell = _cell(kind, rng, texture)
            return PhaseObject(kind, (cell,), 2 * cell.radius_um, _count([kind]))
        case "debris":
            return _debris(rng)
        case "doublet":
            return _aggregate(kind, 2, rng, texture, mix)
        case "cluster":
            return _aggregate(kind, int(rng.integers(3, 7)), rng, texture, mix)
        case "dead":
            dead = _dead(rng)
            return PhaseObject(kind, (dead,), 2 * dead.radius_um, (0, 0, 0))
        case "bead":
            radius = BEAD_DIAMETER_UM / 2 * (1 + 0.01 * float(rng.standard_normal()))
            bead = Globe(np.zeros(3), radius, 0.04, np.zeros((2, 4)), np.zeros(3), None, 0.0, np.zeros((0, 5)))
            return PhaseObject(kind, (bead,), 2 * radius, (0, 0, 0))
    raise ValueError(f"no such kind of object: {kind!r}; the twin knows {', '.join(KINDS)}")


def _cell(kind: str, rng: np.random.Generator, texture: float) -> Globe:
    habit = habit_of(kind, texture)
    mean = MEAN_DIAMETER_UM[kind]
    radius = float(np.clip(rng.normal(mean, DIAMETER_SD_UM), mean - 2.3, mean + 2.3)) / 2
    ratio = float(np.clip(rng.normal(habit.nucleus_ratio, 0.04), 0.4, 0.85))
    offset = float(np.clip(rng.normal(habit.nucleus_offset, 0.15), 0.0, 0.95))
    axes = radius * ratio * np.array([1.0, rng.uniform(0.86, 1.0), rng.uniform(0.86, 1.0)])
    turn = _rotation(rng)
    away = _directions(rng, 1)[0]
    nucleus = away * offset * (radius - axes[0])
    blobs = [
        _granules(habit, rng, radius, nucleus, axes.mean(), away),
        _ruffles(rng, radius),
        _nucleoli(rng, nucleus, axes.mean()),
    ]
    if rng.random() < habit.indentation:  # a notch in the nucleus, filled with cytoplasm
        notch = nucleus + _directions(rng, 1)[0] * axes.mean() * 0.75
        blobs.append(np.array([[*notch, 0.025, 0.5]]))
    return Globe(
        np.zeros(3),
        radius,
        float(rng.normal(0.032, 0.0025)),
        _outline(rng, 0.012 if rng.random() < 0.95 else 0.05),
        nucleus,
        turn @ np.diag(axes**-2.0) @ turn.T,
        float(rng.normal(-0.008, 0.0015)),
        np.concatenate(blobs),
    )


def _granules(
    habit: Habit, rng: np.random.Generator, radius: float, nucleus: Vector, nucleus_radius: float, away: Vector
) -> Vector:
    """Granules in the cytoplasm, (n, 5) blobs, lying as one of the three arrangements."""
    count = max(3, int(rng.poisson(habit.granules)))
    sizes = habit.granule_radius_um * np.exp(0.2 * rng.standard_normal(count))
    way = int(rng.choice(3, p=habit.arrangement))
    if way == POLAR:
        rays = _unit(-away + 0.42 * rng.standard_normal((count, 3)))
        start, depth = -0.2, rng.uniform(0.45, 1.0, count)
    elif way == PERINUCLEAR:
        rays = _directions(rng, count)
        start, depth = 0.0, rng.uniform(0.0, 0.18, count)
    else:
        rays = _directions(rng, count)
        start, depth = 0.0, rng.uniform(0.3, 1.0, count)
    # from the nucleus outwards: `start` and the membrane are the ends of the way, `depth` the share of it
    along = rays @ nucleus
    to_wall = -along + np.sqrt(np.maximum(along**2 - nucleus @ nucleus + (0.93 * radius) ** 2, 0.0))
    inner = nucleus_radius * (1 + start)
    reach = inner + depth * np.maximum(to_wall - inner, 0.05)
    return _blobs(nucleus + rays * reach[:, None], sizes, rng.normal(0.105, 0.015, count))


def _ruffles(rng: np.random.Generator, radius: float) -> Vector:
    """Faint folds of the membrane, the same in every class."""
    count = int(rng.integers(12, 30))
    return _blobs(
        _directions(rng, count) * radius * rng.uniform(0.93, 1.0, (count, 1)),
        rng.uniform(0.25, 0.5, count),
        rng.normal(0.012, 0.004, count),
    )


def _nucleoli(rng: np.random.Generator, nucleus: Vector, nucleus_radius: float) -> Vector:
    count = int(rng.integers(1, 4))
    where = nucleus + _directions(rng, count) * nucleus_radius * rng.uniform(0.1, 0.6, (count, 1))
    return _blobs(where, rng.uniform(0.4, 0.7, count), rng.normal(0.03, 0.006, count))


def _blobs(where: Vector, radii: Vector, contrast: Vector) -> Vector:
    """Small spheres as Gaussian blobs of the same peak and the same volume: width = radius/sqrt(3)."""
    return np.column_stack((where, 2 * radii * contrast, radii / np.sqrt(3.0)))


def _dead(rng: np.random.Generator) -> Globe:
    if rng.random() < 0.6:  # shrunken: dense, full of coarse granules
        radius, contrast, count = rng.uniform(2.6, 3.6), rng.uniform(0.036, 0.05), int(rng.integers(18, 34))
        sizes, strength = rng.uniform(0.4, 0.8, count), rng.normal(0.06, 0.015, count)
    else:  # swollen: a ghost that has lost its matter
        radius, contrast, count = rng.uniform(4.6, 6.0), rng.uniform(0.006, 0.011), int(rng.integers(2, 8))
        sizes, strength = rng.uniform(0.3, 0.6, count), rng.normal(0.03, 0.01, count)
    inside = _directions(rng, count) * radius * rng.uniform(0.2, 1.0, (count, 1)) ** (1 / 3)
    return Globe(
        np.zeros(3),
        float(radius),
        float(contrast),
        _outline(rng, 0.025),
        np.zeros(3),
        None,
        0.0,
        _blobs(inside, sizes, strength),
    )


def _debris(rng: np.random.Generator) -> PhaseObject:
    radius = float(np.exp(rng.uniform(np.log(0.5), np.log(1.9))))
    body = Globe(
        np.zeros(3),
        radius,
        float(rng.uniform(0.02, 0.05)),
        _outline(rng, 0.1),
        np.zeros(3),
        None,
        0.0,
        np.zeros((0, 5)),
    )
    return PhaseObject("debris", (body,), 2 * radius, (0, 0, 0))


def _aggregate(
    kind: str, count: int, rng: np.random.Generator, texture: float, mix: tuple[float, float, float]
) -> PhaseObject:
    """Cells that touch: each new one sits against an earlier one, nearly in the plane of focus, clear of the others."""
    names = [CLASSES[int(i)] for i in rng.choice(3, size=count, p=np.asarray(mix) / sum(mix))]
    globes: list[Globe] = []
    for name in names:
        cell = _cell(name, rng, texture)
        centre = np.zeros(3)
        for _ in range(40 if globes else 0):
            host = globes[int(rng.integers(len(globes)))]
            angle, tilt = rng.uniform(0, 2 * np.pi), rng.normal(0.0, 0.2)
            step = np.array([np.cos(angle) * np.cos(tilt), np.sin(angle) * np.cos(tilt), np.sin(tilt)])
            centre = host.centre_um + step * (host.radius_um + cell.radius_um) * rng.uniform(0.93, 1.0)
            gaps = [np.linalg.norm(centre - g.centre_um) / (g.radius_um + cell.radius_um) for g in globes]
            if min(gaps) > 0.9:
                break
        globes.append(replace(cell, centre_um=centre))
    middle = np.mean([g.centre_um for g in globes], axis=0)
    globes = [replace(g, centre_um=g.centre_um - middle) for g in globes]
    reach = max(float(np.hypot(*g.centre_um[:2])) + g.radius_um for g in globes)
    return PhaseObject(kind, tuple(globes), 2 * reach, _count(names))


def _count(names: list[str]) -> tuple[int, int, int]:
    return (names.count(CLASSES[0]), names.count(CLASSES[1]), names.count(CLASSES[2]))


def _outline(rng: np.random.Generator, strength: float) -> Vector:
    """Fourier coefficients of the outline's departure from a circle, orders 2-5, falling with the order."""
    coefficients: Vector = rng.standard_normal((2, 4)) * strength / np.array([1.0, 1.5, 2.0, 2.5])
    return coefficients


def _unit(vectors: Vector) -> Vector:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _directions(rng: np.random.Generator, count: int) -> Vector:
    """`count` directions, uniform on the sphere."""
    return _unit(rng.standard_normal((count, 3)))


def _rotation(rng: np.random.Generator) -> Vector:
    """A rotation matrix, uniform over all orientations (QR of a Gaussian matrix)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    rotation: Vector = q * np.sign(np.diag(r))
    return rotation
