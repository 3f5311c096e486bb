"""Made still fields of cells, by wave optics, with their true outlines: a judge of segmentation nothing was tuned on.

    python tools/field_films.py DIR [--seed 1] [--fields 1] [--recipe NAME]

writes each as `<recipe>-<seed>.png` and `<recipe>-<seed>_cells.png` (labels; 65535: a ghost, which counts neither way).

The objects and the optics are those of `phase_objects.py`, not the twin's. Truth is the projected outline of the body;
of touching bodies each pixel belongs to one. Every object, or group of touching ones, is imaged by itself and the
intensities multiply, so light scattered from one onto another is left out; dust and lamp are drawn, not propagated.
The ranges were chosen from optics and by eye, so that fields look like DIC pictures of cells; real microscopes differ.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from phase_objects import Floats, Look, Optics, Patch, Range, cells, debris, fibre, imaged

SHAPE = (768, 1024)
GHOST = 65535


ROUND = Look()


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a kind of field is made of; each field draws its own values from the ranges."""

    name: str
    look: Look = ROUND
    um_per_px: Range = (0.22, 0.28)
    cells: int = 14  # alone or in groups
    groups: Range = (0.0, 0.15)  # share of them in touching groups
    floating: float = 0.03  # share of them (or of groups) 2.5 to 4.5 µm above the others
    debris: int = 6
    fibres: int = 0
    ghosts: int = 0
    dust: int = 6
    dic: bool = True
    bias_deg: Range = (22.0, 60.0)
    defocus_um: Range = (-0.7, 0.7)
    shading: float = 0.06
    top: int = 255  # of the camera
    level: float = 0.38  # of the empty field, in that
    grain: Range = (0.01, 0.018)  # noise, in the empty field's level


RECIPES = (
    Recipe("round granular cells"),
    Recipe("smooth lymphocytes", Look((7.0, 10.0), rough=(0.02, 0.06), crenated=0.0), (0.15, 0.2), cells=16),
    Recipe("lobed nuclei, lively granules", Look((9.0, 14.0), rough=(0.25, 0.4), lobes=True), (0.18, 0.24)),
    Recipe("irregular, half spread", Look((12.0, 20.0), harmonics=(0.06, 0.16), flat=(0.25, 0.5), crenated=0.4)),
    Recipe("bright and faint mixed", Look(index=(0.009, 0.036), rough=(0.05, 0.2))),
    Recipe("touching pairs and rows", groups=(0.75, 0.9), cells=20),
    Recipe("large vacuolated cells", Look((18.0, 25.0), vacuoles=7, flat=(0.4, 0.7)), (0.28, 0.35)),
    Recipe("small in the picture", Look((8.0, 13.0)), (0.36, 0.42), cells=30, debris=10),
    Recipe("30 to 80 px in one field", Look((7.5, 20.0)), (0.24, 0.26), cells=16),
    Recipe("crowded", Look((9.0, 14.0)), (0.25, 0.3), cells=60, groups=(0.3, 0.5)),
    Recipe("debris, fibres, ghosts", debris=28, fibres=5, ghosts=3, dust=14),
    Recipe("dim, noisy camera", Look(index=(0.014, 0.024)), level=0.25, grain=(0.035, 0.06), bias_deg=(50, 90)),
    Recipe("16 bit, uneven lamp", shading=0.3, top=4095, level=0.4, grain=(0.008, 0.015)),
    Recipe("some floating above focus", floating=0.3),
    Recipe("2 to 3.5 µm out of focus", defocus_um=(2.0, 3.5)),
    Recipe("dark field, glaring edges", Look(index=(0.02, 0.035)), bias_deg=(18, 28), level=0.22),
    Recipe("brightfield, near focus", dic=False, defocus_um=(1.0, 3.0), level=0.6),
    Recipe("brightfield, dirty, touching", dic=False, defocus_um=(-3.0, 3.0), level=0.6, debris=18, fibres=2,
           groups=(0.4, 0.6)),
    Recipe("brightfield, faint, black dust", Look(index=(0.006, 0.016), rough=(0.03, 0.1)), dic=False,
           defocus_um=(0.6, 3.0), level=0.6, debris=14, cells=12),
)  # fmt: skip


@dataclass(slots=True, eq=False)
class Made:
    """A field: pixels (768, 1024) uint8 or uint16, labels of the same size (uint16, 0 = background), scale, optics."""

    pixels: NDArray[Any]
    labels: NDArray[np.uint16]
    um_per_px: float
    dic: bool


def field(recipe: Recipe, seed: int) -> Made:
    """One field of `recipe`; the same for the same seed."""
    rng = np.random.default_rng([zlib.crc32(recipe.name.encode()), seed])
    angle = rng.uniform(0, 2 * np.pi)
    shear = rng.uniform(0.2, 0.45)
    um = rng.uniform(*recipe.um_per_px)
    optics = Optics(
        um, recipe.dic, rng.uniform(0.6, 0.9), rng.uniform(0.5, 0.8), rng.uniform(0.5, 0.6),
        (shear * np.cos(angle), shear * np.sin(angle)), np.deg2rad(rng.uniform(*recipe.bias_deg)),
        rng.uniform(*recipe.defocus_um),
    )  # fmt: skip
    light, labels = np.ones(SHAPE, np.float32), np.zeros(SHAPE, np.uint16)
    taken: list[tuple[float, float, float]] = []
    spread = rng.uniform(*recipe.groups)
    count = 0
    for _ in range(recipe.cells):
        if count >= recipe.cells:
            break
        size = int(rng.integers(2, 5)) if rng.random() < spread / (3 - 2 * spread) else 1
        patch = cells(rng, recipe.look, size, optics)
        height = rng.uniform(2.5, 4.5) if rng.random() < recipe.floating else rng.normal(0, 0.6)
        if _put(patch, light, labels, count, taken, rng, optics, height):
            count += size
    for _ in range(recipe.ghosts):
        faint = cells(rng, recipe.look, 1, optics)
        faint.phase *= 0.12
        _put(faint, light, labels, GHOST - 1, taken, rng, optics, 0.0)
    for i in range(recipe.debris + recipe.fibres):
        thing = fibre(rng, optics) if i < recipe.fibres else debris(rng, optics)
        _put(thing, light, labels, 0, taken, rng, optics, rng.normal(0, 2.5))
    light *= _lamp(recipe, rng) * _dust(recipe, rng, um)
    light *= recipe.level * recipe.top
    sd = rng.uniform(*recipe.grain) * recipe.level * recipe.top
    shot = np.sqrt(np.maximum(light, 0) / (recipe.level * recipe.top))
    counts = light + sd * (0.4 + 0.6 * shot) * rng.standard_normal(SHAPE)
    kind = np.uint8 if recipe.top <= 255 else np.uint16
    return Made(np.clip(np.rint(counts), 0, recipe.top).astype(kind), labels, um, recipe.dic)


def _lamp(recipe: Recipe, rng: np.random.Generator) -> Floats:
    """Slope and vignette of the illumination, about 1."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in SHAPE), indexing="ij")
    a, b, c, d = rng.uniform(-1, 1, 4) * recipe.shading
    return np.asarray(1 + a * x + b * y - abs(c) * (x * x + y * y) / 2 + d * x * y / 2, np.float32)


def _dust(recipe: Recipe, rng: np.random.Generator, um: float) -> Floats:
    """Dust on other surfaces: soft spots and rings, some darker, some brighter than the field."""
    y, x = np.indices(SHAPE, np.float32)
    seen = np.ones(SHAPE, np.float32)
    for _ in range(recipe.dust):
        distance = np.hypot(x - rng.uniform(0, SHAPE[1]), y - rng.uniform(0, SHAPE[0])) * um
        size = rng.uniform(2.5, 12)
        depth = rng.uniform(0.03, 0.12) * min(1.0, 5 / size)
        ring = np.exp(-((distance / size) ** 2)) * np.cos((distance / size * rng.uniform(1.0, 3.5)) ** 2)
        seen -= np.float32(depth) * ring
    return seen


def _put(
    patch: Patch, light: Floats, labels: NDArray[np.uint16], first: int, taken: list[tuple[float, float, float]],
    rng: np.random.Generator, optics: Optics, defocus_um: float,
) -> bool:  # fmt: skip
    """Image `patch` where there is room for it, borders included; False if none was found."""
    solid = np.hypot(patch.x, patch.y)[(patch.owner > 0) | (patch.phase != 0) | (patch.loss != 0)]
    reach = float(solid.max(initial=1.0)) / optics.um_per_px
    for _ in range(60):
        x, y = (int(rng.integers(0, n)) for n in SHAPE[::-1])
        if all(np.hypot(x - a, y - b) > reach + r + 4 for a, b, r in taken):
            break
    else:
        return False
    taken.append((x, y, reach))
    n = patch.pixels
    x0, y0 = x - n // 2, y - n // 2
    here = np.s_[max(0, y0) : min(SHAPE[0], y0 + n), max(0, x0) : min(SHAPE[1], x0 + n)]
    there = np.s_[here[0].start - y0 : here[0].stop - y0, here[1].start - x0 : here[1].stop - x0]
    light[here] *= cv2.resize(imaged(patch, optics, defocus_um), (n, n), interpolation=cv2.INTER_AREA)[there]
    for i in range(1, int(patch.owner.max()) + 1):
        mask = cv2.resize((patch.owner == i).astype(np.float32), (n, n), interpolation=cv2.INTER_AREA) > 0.5
        labels[here][mask[there]] = first + i
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    """Write fields and their labels as PNG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fields", type=int, default=1, help="of each recipe")
    parser.add_argument("--recipe", choices=[recipe.name for recipe in RECIPES])
    asked = parser.parse_args(arguments)
    asked.folder.mkdir(parents=True, exist_ok=True)
    for recipe in RECIPES:
        for seed in range(asked.seed, asked.seed + asked.fields) if asked.recipe in (None, recipe.name) else ():
            made = field(recipe, seed)
            stem = recipe.name.replace(" ", "-").replace(",", "")
            cv2.imwrite(str(asked.folder / f"{stem}-{seed}.png"), made.pixels)
            cv2.imwrite(str(asked.folder / f"{stem}-{seed}_cells.png"), made.labels)
            print(f"{stem}-{seed}.png: {made.um_per_px:.4f} µm/px, {len(np.unique(made.labels)) - 1} labels")


if __name__ == "__main__":
    main()
