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

from hspc_live.core.values import OBJECT_DTYPE, CameraInfo, FrameResult, Modality
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
