"""Which engine a run gets: what was built here and passes; else another, and it is said which and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hspc_live.core.errors import ModelError
from hspc_live.settings.schema import AutoEngine, CudaGraph, NullEngine, OpenVino, TorchEager
from hspc_models import engine_build
from hspc_models import open_engine as engines_of_a_run
from hspc_models.engine_build import Built, build_engine
from hspc_models.engine_cache import CACHE_VARIABLE, Entry, entries
from hspc_models.open_engine import open_engine, open_proven, ready_engine
from hspc_models.parity import measure

BUCKETS = (1, 4)


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Path:
    return model_folder


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("crops") / "crops.npz"
    images = np.random.default_rng(2).integers(0, 256, (160, 64, 64), dtype=np.uint8)
    np.savez(file, image=images, um_per_px=0.25)
    return file


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("cache") / "engines"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(folder))
        yield folder


@pytest.fixture(scope="module")
def built(model: Path, crops: Path, cache: Path) -> Built:
    """Built once for this module: single precision on the CPU."""
    return build_engine(openvino(model), crops, judge=64)


def openvino(model: Path, **more: str) -> OpenVino:
    return OpenVino(kind="openvino", model=str(model), buckets=BUCKETS, threads=1, **more)


def timed(entry: Entry, times: float) -> None:
    """Write down another speed, as if this machine were so much faster with it."""
    file = entry.folder / "entry.json"
    about = f'"cells_per_s": {entry.about["cells_per_s"]}'
    text = file.read_text()
    assert about in text
    file.write_text(text.replace(about, f'"cells_per_s": {times * entry.about["eager_cells_per_s"]}'))


def test_what_is_built_is_judged_against_plain_torch_and_kept(built, model):
    assert built.entry is not None and built.parity.passed and built.parity.crops == 64
    assert built.parity.worst_dp < 1e-3 and set(built.parity.max_dp) == set(BUCKETS)
    opened = open_proven(openvino(model))
    assert opened.proof is not None
    parity, reason = opened.proof.check(opened.engine)
    assert reason is None and parity.passed
    reference = open_engine(TorchEager(model=str(model), device="cpu", buckets=BUCKETS, threads=1))
    np.testing.assert_allclose(reference.infer(opened.proof.crops), opened.proof.reference, atol=1e-6)
    opened.engine.close()
    reference.close()


def test_auto_takes_the_fastest_that_was_built_and_says_so(built, model):
    before = (built.entry.folder / "entry.json").read_text()
    said: list[str] = []
    timed(built.entry, 3.0)
    chosen = ready_engine(AutoEngine(kind="auto", model=str(model), buckets=BUCKETS, threads=1), said.append)
    assert isinstance(chosen, OpenVino) and chosen.build == built.entry.build
    assert "openvino in fp32, 3.0 times plain torch" in said[-1]
    (built.entry.folder / "entry.json").write_text(before)
    timed(built.entry, 0.9)
    chosen = ready_engine(AutoEngine(kind="auto", model=str(model), buckets=BUCKETS, threads=1), said.append)
    (built.entry.folder / "entry.json").write_text(before)
    assert isinstance(chosen, TorchEager) and "slower than plain torch" in said[-1]


def test_auto_without_anything_built_is_plain_torch_and_says_how_to_build(model, cache):
    said: list[str] = []
    other = AutoEngine(kind="auto", model=str(model), buckets=(1, 2, 16), threads=1)
    assert isinstance(ready_engine(other, said.append), TorchEager)
    assert "plain torch" in said[-1] and "hspc-live engine build" in said[-1]


def test_auto_builds_one_if_it_may_and_says_why_it_could_not(model, cache, crops, monkeypatch):
    settings = AutoEngine(kind="auto", model=str(model), buckets=(2,), threads=1, build=True)
    said: list[str] = []
    assert isinstance(ready_engine(settings, said.append), TorchEager)  # this model's crops are known to nobody
    assert "is built now, once" in said[0] and "--calibrate FILE" in said[-1]

    def with_crops(wanted, say):
        return build_engine(wanted, crops, say, judge=64)

    single = openvino(model).model_copy(update={"buckets": (2,)})  # INT8 takes longer, and random weights may fail it
    monkeypatch.setattr(engine_build, "build_engine", with_crops)
    monkeypatch.setattr(engines_of_a_run, "_worth_building", lambda settings: [single])
    chosen = ready_engine(settings, said.append)
    (entry,) = (entry for entry in entries() if entry.key.buckets == (2,))
    if entry.about["cells_per_s"] > entry.about["eager_cells_per_s"]:
        assert isinstance(chosen, OpenVino) and chosen.build == entry.build
    else:
        assert "slower than plain torch" in said[-1]


def test_one_that_no_longer_scores_as_it_did_is_not_used(built, model, monkeypatch):
    from hspc_models.engines.openvino_cpu import OpenVinoEngine

    right = OpenVinoEngine._run
    monkeypatch.setattr(OpenVinoEngine, "_run", lambda self, crops: right(self, crops)[:, ::-1].copy())
    said: list[str] = []
    chosen = ready_engine(openvino(model), said.append)
    assert isinstance(chosen, TorchEager) and chosen.buckets == BUCKETS
    assert "cannot be used, plain torch takes its place" in said[-1] and "|Δp|" in said[-1]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("no kernel image\nat line 7 of the runtime")])
def test_one_that_has_no_memory_or_breaks_now_is_replaced_by_plain_torch(built, model, monkeypatch, error):
    from hspc_models.engines.openvino_cpu import OpenVinoEngine

    def breaks(*_: object, **__: object) -> None:
        raise error

    said: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(OpenVinoEngine, "_run", breaks)
        assert isinstance(ready_engine(openvino(model), said.append), TorchEager)
    with monkeypatch.context() as patch:
        patch.setattr(engines_of_a_run, "_open_built", breaks)
        assert isinstance(ready_engine(openvino(model), said.append), TorchEager)
        auto = AutoEngine(kind="auto", model=str(model), buckets=BUCKETS, threads=1)
        before = (built.entry.folder / "entry.json").read_text()
        timed(built.entry, 3.0)
        assert isinstance(ready_engine(auto, said.append), TorchEager)
        (built.entry.folder / "entry.json").write_text(before)
    assert len(said) == 3 and all(type(error).__name__ in text and "at line 7" not in text for text in said)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("no kernel image")])
def test_one_that_cannot_be_built_is_replaced_by_plain_torch(model, cache, monkeypatch, error):
    def breaks(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(engine_build, "build_engine", breaks)
    said: list[str] = []
    other = openvino(model).model_copy(update={"buckets": (3,)})
    assert isinstance(ready_engine(other, said.append), TorchEager) and type(error).__name__ in said[-1]
    auto = AutoEngine(kind="auto", model=str(model), buckets=(3,), threads=1, build=True)
    assert isinstance(ready_engine(auto, said.append), TorchEager) and type(error).__name__ in said[-1]


def test_one_whose_files_were_changed_is_built_again_or_replaced_and_that_is_said(built, model):
    file = built.entry.folder / "model.bin"
    content = file.read_bytes()
    file.write_bytes(content[:-4] + b"\0\0\0\1")
    with pytest.raises(ModelError, match="another SHA-256"):
        open_engine(openvino(model))
    said: list[str] = []
    chosen = ready_engine(openvino(model), said.append)  # this model's crops are known to nobody: it cannot be rebuilt
    file.write_bytes(content)
    assert isinstance(chosen, TorchEager)
    assert "is built now, once" in said[1] and "--calibrate FILE" in said[-1]


def test_a_recording_of_another_build_is_told_apart(built, model):
    said: list[str] = []
    chosen = ready_engine(openvino(model, build="0" * 64), said.append)
    assert isinstance(chosen, OpenVino) and chosen.build == built.entry.build
    assert any("is not the 00000000 of these settings" in text for text in said)
    said.clear()
    assert ready_engine(chosen, said.append) == chosen
    assert len(said) == 1


def test_one_that_fails_parity_is_not_kept(model, crops, cache, monkeypatch):
    def strict(engine, judged, reference, **more):
        return measure(engine, judged, reference[:, ::-1].copy())

    monkeypatch.setattr(engine_build, "measure", strict)
    before = len(entries())
    refused = build_engine(openvino(model).model_copy(update={"buckets": (1, 2)}), crops, judge=64)
    assert refused.entry is None and "top-1" in "; ".join(refused.parity.failures)
    assert len(entries()) == before


@pytest.mark.parametrize("settings", [NullEngine(kind="null"), TorchEager(threads=1)])
def test_engines_that_nothing_is_built_for_stay_as_they_are(settings):
    said: list[str] = []
    assert ready_engine(settings, said.append) == settings and said == []


def test_an_engine_without_its_device_falls_back_and_says_so(model, cache):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    said: list[str] = []
    assert isinstance(ready_engine(CudaGraph(kind="cuda-graph", model=str(model)), said.append), TorchEager)
    assert "no CUDA device" in said[-1] and "plain torch takes its place" in said[-1]
