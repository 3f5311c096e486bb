"""Small recordings of both kinds: ours, written by the writer, and RT-DC files as other programs write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

from hspc_live.core.chamber import ChamberFacts, FieldObjects, Phase, Picture, Settled, Visit
from hspc_live.core.values import OBJECT_DTYPE, CameraInfo, Frame, FrameResult, Modality, StageInfo, StageTarget
from hspc_live.recording.chamber_writer import ChamberWriter
from hspc_live.recording.writer import RecordingWriter

CAMERA = CameraInfo(64, 128, "uint8", 0.25, 100.0, Modality.DIC, 45.0, 50.0, "twin")
WINDOW = (32, 32)
CLASSES = ("LT-HSC", "ST-HSC", "MPP")


def _picture(index: int, shape: tuple[int, int] = (64, 128), dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(index).integers(90, 160, shape).astype(dtype)


def _result(index: int, rejects: Iterable[int], dtype: str = "uint8") -> FrameResult:
    """A frame with one object per entry of `rejects`, side by side, each a disc of 4 px radius."""
    codes = list(rejects)
    objects = np.zeros(len(codes), OBJECT_DTYPE)
    masks = np.zeros((len(codes), *WINDOW), np.uint8)
    yy, xx = np.mgrid[: WINDOW[0], : WINDOW[1]]
    for i, code in enumerate(codes):
        x, y = 16 + 8 * i, 30
        objects[i] = (x * 0.25, y * 0.25, 3.0, 2.0, 0.01, 120.0 + i, 5.0, 0.4, x - 4, y - 4, x + 5, y + 5, code)
        masks[i] = (xx - 16) ** 2 + (yy - 16) ** 2 <= 16
    windows = np.full((len(codes), *WINDOW), index % 251, dtype)
    crops = np.zeros((codes.count(0), 64, 64), dtype)
    return FrameResult(index, 1_000_000_000 + index * 10_000_000, objects, crops, windows, masks, 0)


@pytest.fixture
def camera() -> CameraInfo:
    return CAMERA


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    return _picture


@pytest.fixture
def result() -> Callable[..., FrameResult]:
    return _result


@pytest.fixture
def create() -> Callable[..., RecordingWriter]:
    """Make a writer; keywords override what is passed to `RecordingWriter.create`."""

    def make(path: Path, **changes: Any) -> RecordingWriter:
        told = {
            "run_id": "run-1",
            "settings_json": json.dumps({"name": "run"}),
            "camera": CAMERA,
            "classes": CLASSES,
            "card_yaml": "name: twin-lsm\n",
            "pipeline_id": "abc",
            "versions": {"hspc-live": "0.1.0"},
            "window": WINDOW,
            "record_frames": True,
        }
        return RecordingWriter.create(path, **(told | changes))

    return make


@pytest.fixture
def recorded(create: Callable[..., RecordingWriter], tmp_path: Path) -> Callable[..., Path]:
    """Write and close a recording of `frames` frames; frame i has one view if i is odd."""

    def make(frames: int = 6, name: str = "run.rtdc", flush_every: int = 1000, **changes: Any) -> Path:
        path = tmp_path / name
        writer = create(path, **changes)
        writer.write_background(0, _picture(999), 2.5)
        for i in range(frames):
            writer.write_frame(i, 1_000_000_000 + i * 10_000_000, _picture(i), 0)
            writer.write_result(_result(i, [0] if i % 2 else []))
            if (i + 1) % flush_every == 0:
                writer.flush()
        writer.close({"balanced": True}, {"cells": 0})
        return path

    return make


@pytest.fixture
def rtdc(tmp_path: Path) -> Callable[..., Path]:
    """Write an RT-DC file. Keywords replace columns of `/events` (None leaves one out) or, with a colon, attributes."""

    def make(name: str = "other.rtdc", changes: dict[str, Any] | None = None, chunk: int = 4) -> Path:
        frame = np.array([11, 12, 12, 15, 16, 16, 16, 20])
        images = np.stack([_picture(int(i), (40, 96)) for i in frame])
        masks = np.zeros(images.shape, np.uint8)
        masks[:, 10:20, 30:40] = 255
        content: dict[str, Any] = {
            "image": images,
            "image_bg": np.full_like(images, 128),
            "mask": masks,
            "frame": frame,
            "time": frame / 500.0,
            "pos_x": np.arange(8.0),
            "pos_y": np.arange(8.0),
            "imaging:pixel size": 0.26,
            "imaging:frame rate": 500.0,
            "experiment:sample": "blood",
        } | (changes or {})
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            for key, value in content.items():
                if value is None:
                    continue
                if ":" in key:
                    file.attrs[key] = value
                else:
                    chunks = (min(chunk, len(value)), *value.shape[1:]) if len(value) else True
                    extra = {} if len(value) == 0 else {"fletcher32": True, **hdf5plugin.Zstd(clevel=3)}
                    maxshape = (None, *value.shape[1:])
                    file.create_dataset(f"events/{key}", data=value, chunks=chunks, maxshape=maxshape, **extra)
        return path

    return make


# ---- chamber ---------------------------------------------------------------------------------------------------------

CHANNELS = ("transmitted", "CD48")
CROP_PX = 16
FIELD = CameraInfo(48, 64, "uint16", 0.325, 10.0, Modality.DIC, 45.0, 5000.0, "twin")


def _facts(fields: int = 6) -> ChamberFacts:
    return ChamberFacts(
        FIELD,
        StageInfo((-500.0, 500.0), (-400.0, 400.0), 0.1, "simulated stage"),
        CHANNELS,
        np.array([[0.325, 0.001, -10.0], [-0.001, 0.325, -8.0]]),
        np.diag(np.arange(6.0)),
        tuple(StageTarget(i, 20.0 * i, -3.0 * i) for i in range(fields)),
    )


def _field(number: int, phase: Phase = Phase.SCAN) -> tuple[Visit, FieldObjects]:
    """A visit with two objects, the first accepted; every pixel and number follows from `number`."""
    rng = np.random.default_rng(number)
    shape = (FIELD.height_px, FIELD.width_px)
    at_ns = 5_000_000_000 + number * 200_000_000
    pictures = tuple(
        Picture(name, Frame(2 * number + i, at_ns + i, at_ns + 9, rng.integers(0, 60_000, shape).astype("u2")))
        for i, name in enumerate(CHANNELS)
    )
    target = StageTarget(number, 20.0 * number, -3.0 * number, None if phase is Phase.SCAN else 7)
    visit = Visit(number, phase, target, 20.0 * number + 0.3, -3.0 * number, Settled("", 3, 90_000, 0.1), pictures)
    objects = np.zeros(2, OBJECT_DTYPE)
    objects["x_um"], objects["diameter_um"], objects["reject"] = (3.0, 9.0), (7.0 + number, 2.0), (0, 2)
    crops = rng.integers(0, 60_000, (1, CROP_PX, CROP_PX)).astype("u2")
    labels = np.zeros(shape, np.uint16)
    labels[5:9, 5:9] = 1
    none = np.empty((0, 0, 0), "u2")
    result = FrameResult(2 * number, at_ns, objects, crops, none, none.astype("u1"), 0, 0, (), 1234)
    glow = {"CD48": np.array([float(number), np.nan])}
    return visit, FieldObjects(result, np.array([True, False]), ("", "debris"), labels, glow)


@pytest.fixture
def chamber_facts() -> Callable[..., ChamberFacts]:
    return _facts


@pytest.fixture
def chamber_field() -> Callable[..., tuple[Visit, FieldObjects]]:
    return _field


@pytest.fixture
def create_chamber() -> Callable[..., ChamberWriter]:
    """Make a writer; keywords override what is passed to `ChamberWriter.create`."""

    def make(path: Path, **changes: Any) -> ChamberWriter:
        told = {
            "run_id": "run-1",
            "settings_json": json.dumps({"mode": "chamber"}),
            "facts": _facts(),
            "classes": CLASSES,
            "card_yaml": "name: twin-lsm\n",
            "pipeline_id": "abc",
            "versions": {"hspc-live": "0.1.0"},
            "crop_px": CROP_PX,
        }
        return ChamberWriter.create(path, **(told | changes))

    return make


@pytest.fixture
def chamber_recorded(create_chamber: Callable[..., ChamberWriter], tmp_path: Path) -> Callable[..., Path]:
    """Write and close a chamber recording of `fields` fields."""

    def make(fields: int = 6, name: str = "chamber.h5", **changes: Any) -> Path:
        path = tmp_path / name
        writer = create_chamber(path, facts=_facts(fields), **changes)
        for number in range(fields):
            visit, found = _field(number)
            writer.field(visit, found)
            writer.scores(number, np.array([0]), np.array([[0.2, 0.3, 0.5]], "f4"))
        writer.close({"balanced": True}, {"cells": 0})
        return path

    return make
