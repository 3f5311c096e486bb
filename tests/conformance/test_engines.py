"""What every engine must do, whatever it runs on: one suite, each engine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from hspc_live.core.errors import ModelError
from hspc_live.core.protocols import Engine
from hspc_live.core.values import Modality
from hspc_live.settings.schema import NullEngine, TorchEager
from hspc_models.card import Card, NetworkShape, Training, Weights, load_network, write_card
from hspc_models.engines.cuda_graph import CudaGraphEngine
from hspc_models.engines.openvino_cpu import OpenVinoEngine, build_openvino
from hspc_models.engines.tensorrt import TensorRtEngine, build_tensorrt
from hspc_models.engines.torch_eager import TorchEagerEngine
from hspc_models.network import CellNet
from hspc_models.open_engine import open_engine
from hspc_models.parity import LIMITS

CLASSES = ("LT-HSC", "ST-HSC", "MPP")
BUCKETS = (1, 2, 4, 8)
ON_GPU = ("torch/cuda", "cuda-graph/fp16", "tensorrt/fp16")
ENGINES = ["null", "torch/cpu", "openvino/fp32", "openvino/int8"]
ENGINES += [pytest.param(name, marks=pytest.mark.gpu) for name in ON_GPU]
NETWORKS = ENGINES[1:]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real ResNet-50 with random weights; deep layers count, and the classes do not come out even."""
    torch.manual_seed(5)
    network = CellNet(3, head=(32,))
    for name, parameter in network.named_parameters():
        if name.endswith("bn3.weight"):
            torch.nn.init.uniform_(parameter, 0.1, 0.5)
    folder = tmp_path_factory.mktemp("engine")
    state = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    data = safetensors.torch.save(state)
    (folder / "model.safetensors").write_bytes(data)
    card = Card(
        name="random",
        version="0",
        classes=CLASSES,
        modality=Modality.DIC,
        um_per_px=0.25,
        network=NetworkShape(head=(32,)),
        weights=Weights(sha256=hashlib.sha256(data).hexdigest()),
        temperature=0.7,
        training=Training(data="none", seed=5, crops=0, epochs=0, command="none"),
    )
    write_card(folder, card)
    return folder


@pytest.fixture(scope="module")
def on_cpu(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, bytes]]:
    """The files of an OpenVINO engine in the given precision; each is built once, which takes a minute."""

    @cache
    def files(precision: str) -> dict[str, bytes]:
        scratch = tmp_path_factory.mktemp("openvino")
        return dict(build_openvino(*load_network(model), precision, BUCKETS, cells(8), scratch))

    return files


@pytest.fixture(scope="module")
def opened(model: Path, on_cpu: Callable[[str], dict[str, bytes]]) -> Iterator[Callable[[str], Engine]]:
    """Engines by name; each is opened once for all tests, whatever order these come in."""

    @cache
    def open_one(name: str) -> Engine:
        kind, _, variant = name.partition("/")
        card, network = load_network(model)
        match kind:
            case "null":
                return open_engine(NullEngine(kind="null"))
            case "torch":
                return open_engine(TorchEager(model=str(model), device=variant, buckets=BUCKETS, threads=1))
            case "openvino":
                return OpenVinoEngine(card, on_cpu(variant), variant, "0" * 64, threads=1, buckets=BUCKETS)
            case "tensorrt":
                files = build_tensorrt(card, network, variant, BUCKETS)
                return TensorRtEngine(card, files, variant, "0" * 64, BUCKETS)
            case _:
                return CudaGraphEngine(card, network, BUCKETS)

    names: set[str] = set()

    def noted(name: str) -> Engine:
        engine = open_one(name)
        names.add(name)
        return engine

    yield noted
    for name in names:
        open_one(name).close()


@pytest.fixture
def engine(request: pytest.FixtureRequest, opened: Callable[[str], Engine]) -> Engine:
    if request.param in ON_GPU and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return opened(request.param)


def within(engine: Engine, fp32: float) -> float:
    """How far a row may differ from itself elsewhere: `fp32`, or what coarser numbers round by."""
    return fp32 if engine.precision == "fp32" else LIMITS[engine.precision].arrangement


def cells(n: int, seed: int = 0, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (n, 64, 64)).astype(dtype)


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
@pytest.mark.parametrize("n", [1, 3, 8, 21])
def test_a_row_of_scores_for_every_crop(engine, n):
    scores = engine.infer(cells(n))
    assert scores.shape == (n, 3) and scores.dtype == np.float32
    assert np.all(scores >= 0)
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_an_engine_says_what_it_is(engine):
    assert engine.name and engine.precision
    assert engine.classes == CLASSES
    assert list(engine.buckets) == sorted(engine.buckets) and engine.buckets[0] >= 1


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_warm_up_measures_every_bucket(engine):
    p99_ms = engine.warm_up()
    assert set(p99_ms) == set(engine.buckets)
    assert all(ms >= 0 for ms in p99_ms.values())


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_the_same_batch_gives_the_same_bits(engine):
    batch = cells(5)
    assert engine.infer(batch).tobytes() == engine.infer(batch.copy()).tobytes()


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_camera_depths(engine, dtype):
    assert np.isfinite(engine.infer(cells(2, dtype=dtype))).all()


@pytest.mark.parametrize("engine", NETWORKS, indirect=True)
def test_depth_and_gain_do_not_change_the_verdict(engine):
    batch = cells(3)
    np.testing.assert_allclose(
        engine.infer(batch), engine.infer(batch.astype(np.uint16) * 16 + 500), atol=within(engine, 1e-3)
    )


@pytest.mark.parametrize("engine", NETWORKS, indirect=True)
def test_padding_and_neighbours_do_not_matter(engine):
    batch = cells(8)
    whole = engine.infer(batch)
    for n in (1, 3, 5):  # padded to 1, 4 and 8
        np.testing.assert_allclose(engine.infer(batch[:n]), whole[:n], atol=within(engine, 2e-5))
    np.testing.assert_allclose(engine.infer(batch[::-1].copy()), whole[::-1], atol=within(engine, 2e-5))
    assert np.ptp(whole, axis=0).max() > 1e-3  # the crops do make a difference


@pytest.mark.parametrize("engine", NETWORKS, indirect=True)
def test_more_than_the_largest_bucket_is_taken_in_turns(engine):
    batch = cells(19)
    parts = [engine.infer(batch[i : i + 8]) for i in range(0, 19, 8)]
    assert engine.infer(batch).tobytes() == np.concatenate(parts).tobytes()


@pytest.mark.parametrize("engine", NETWORKS, indirect=True)
def test_nan_stays_in_its_row(engine):
    batch = cells(4).astype(np.float32)
    clean = engine.infer(batch)
    batch[2, 10, 10] = np.nan
    scores = engine.infer(batch)
    assert np.isnan(scores[2]).all()
    np.testing.assert_allclose(np.delete(scores, 2, 0), np.delete(clean, 2, 0), atol=within(engine, 2e-5))


@pytest.mark.parametrize("engine", NETWORKS, indirect=True)
def test_flat_crops_are_judged_without_a_fuss(engine):
    assert np.isfinite(engine.infer(np.full((2, 64, 64), 128, np.uint8))).all()


@pytest.mark.parametrize("engine", NETWORKS, indirect=True)
def test_crops_of_another_size_are_refused(engine):
    with pytest.raises(ModelError, match=r"\(2, 32, 32\).*64"):
        engine.infer(np.zeros((2, 32, 32), np.uint8))


@pytest.mark.parametrize("engine", NETWORKS, indirect=True)
def test_every_engine_says_what_plain_torch_says(engine, model):
    reference = open_engine(TorchEager(model=str(model), device="cpu", buckets=BUCKETS, threads=1))
    batch = cells(24, seed=3)
    wanted = reference.infer(batch)
    reference.close()
    np.testing.assert_allclose(engine.infer(batch), wanted, atol=LIMITS[engine.precision].max_dp)
    assert LIMITS[engine.precision].max_dp < np.ptp(wanted, axis=0).max() or engine.precision == "int8"


def test_an_engine_that_was_closed_says_so(model, on_cpu):
    built = OpenVinoEngine(load_network(model)[0], on_cpu("fp32"), "fp32", "0" * 64, buckets=BUCKETS)
    for engine in (open_engine(TorchEager(model=str(model), device="cpu")), built):
        engine.close()
        engine.close()
        with pytest.raises(ModelError, match="closed"):
            engine.infer(cells(1))


def test_asking_for_cuda_where_there_is_none(model):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ModelError, match=r"engine\.device is cuda"):
        open_engine(TorchEager(model=str(model), device="cuda"))


def test_buckets_must_hold_something(model):
    card, network = load_network(model)
    with pytest.raises(ModelError, match="buckets"):
        TorchEagerEngine(card, network, buckets=())
