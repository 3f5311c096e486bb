"""The GPU engines where there is no GPU: what they would be given, what they ask for, and what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hspc_live.core.errors import ModelError
from hspc_live.core.values import Modality
from hspc_models.card import Card, NetworkShape, Training, Weights
from hspc_models.engines import tensorrt
from hspc_models.engines.cuda_graph import CudaGraphEngine, fold_batch_norms, overlapped
from hspc_models.engines.exported import exported, scoring_net
from hspc_models.network import CellNet, ScoringNet

BUCKETS = (1, 2, 4, 8)
SIGNATURES = json.loads((Path(__file__).parent / "data" / "torch_tensorrt.json").read_text())
"""Of the wheel that it names, by tools/tensorrt_signatures.py."""


def card_of(rings: bool) -> Card:
    return Card(
        name="random",
        version="0",
        classes=("a", "b", "c"),
        modality=Modality.DIC,
        um_per_px=0.25,
        network=NetworkShape(head=(16,), rings=rings),
        weights=Weights(sha256="0" * 64),
        temperature=0.8,
        symmetries=1,
        training=Training(data="none", seed=5, crops=0, epochs=0, command="none"),
    )


def network_of(rings: bool) -> CellNet:
    torch.manual_seed(3)
    network = CellNet(3, head=(16,), rings_px=64 if rings else None)
    for name, tensor in network.state_dict().items():
        if name.endswith("bn3.weight"):
            torch.nn.init.uniform_(tensor, 0.1, 0.5)
        if name.endswith("running_mean"):
            torch.nn.init.normal_(tensor, 0, 0.1)
        if name.endswith("running_var"):
            torch.nn.init.uniform_(tensor, 0.5, 2.0)
    return network.eval()


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    return torch.rand((8, 64, 64), generator=torch.Generator().manual_seed(1)) * 255


@pytest.mark.parametrize("rings", [False, True])
def test_the_exported_program_agrees_with_eager_at_every_batch(rings, crops):
    module = scoring_net(card_of(rings), network_of(rings))
    program = exported(module, 64, BUCKETS[-1]).module()
    with torch.inference_mode():
        for n in (1, 3, 8):
            torch.testing.assert_close(program(crops[:n]), module(crops[:n]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("rings", [False, True])
def test_half_precision_leaves_the_reader_and_the_scores_in_single(rings, crops):
    with torch.inference_mode():
        single = scoring_net(card_of(rings), network_of(rings))(crops[:2])
    module = scoring_net(card_of(rings), network_of(rings), "fp16")
    dtypes = {name: p.dtype for name, p in module.network.named_parameters()}
    assert dtypes["conv1.weight"] == torch.float16
    assert all(dtype == torch.float32 for name, dtype in dtypes.items() if name.startswith("reader."))
    program = exported(module, 64, BUCKETS[-1]).module()
    with torch.inference_mode():
        scores = program(crops[:2])
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, single, atol=2e-2, rtol=0)


def test_every_keyword_is_one_that_torch_tensorrt_knows():
    def known(name: str) -> set[str]:
        return {*SIGNATURES[name].get("positional", ()), *SIGNATURES[name]["keyword_only"]}

    asked = {"arg_inputs", *tensorrt.compile_options(torch.device("cpu"))}
    assert asked <= known("convert_exported_program_to_serialized_trt_engine")
    assert {*tensorrt.profile(64, BUCKETS), "dtype", "name"} <= known("Input")
    assert set(tensorrt.MODULE_KEYWORDS) <= known("TorchTensorRTModule")
    assert "enabled_precisions" not in asked


def test_one_profile_covers_every_bucket():
    shapes = tensorrt.profile(64, (1, 2, 4, 8, 16, 32, 64))
    assert shapes == {"min_shape": (1, 64, 64), "opt_shape": (32, 64, 64), "max_shape": (64, 64, 64)}


def test_without_its_libraries_tensorrt_says_what_to_install():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ModelError, match=r"^TensorRT is not installed: pip install"):
        tensorrt.build_tensorrt(card_of(False), network_of(False), "fp16", BUCKETS)


@pytest.mark.parametrize("error", [ImportError("no libnvinfer"), Exception("import error when try to import")])
def test_whatever_its_import_raises_is_said(error, monkeypatch):
    def refuse(name: str) -> None:
        raise error

    monkeypatch.setattr(tensorrt.importlib, "import_module", refuse)
    with pytest.raises(ModelError, match=f"TensorRT is not installed: .*{error}"):
        tensorrt.import_tensorrt()


def test_cuda_graph_says_where_there_is_no_gpu():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ModelError, match="no CUDA device"):
        CudaGraphEngine(card_of(False), network_of(False))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_crops_travel_while_those_before_are_worked_on_and_no_lane_is_begun_twice(count):
    """As on the device, what a lane holds is overwritten when it is begun."""
    lanes: list[int | None] = [None, None]
    order: list[str] = []

    def begin(lane, turn):
        assert lanes[lane] is None, "its scores have not been fetched"
        lanes[lane] = turn
        order.append(f"begin {turn}")

    def finish(lane):
        turn, lanes[lane] = lanes[lane], None
        order.append(f"finish {turn}")
        return turn

    assert list(overlapped(range(count), begin, finish)) == list(range(count))
    assert lanes == [None, None]
    for turn in range(count - 1):
        assert order.index(f"begin {turn + 1}") < order.index(f"finish {turn}"), "nothing overlaps"


def test_folding_the_batch_norms_changes_no_score(crops):
    plain = ScoringNet(network_of(True), 1.0).eval()
    folded = ScoringNet(fold_batch_norms(network_of(True)), 1.0).eval()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    with torch.inference_mode():
        torch.testing.assert_close(folded(crops[:2]), plain(crops[:2]), atol=1e-5, rtol=0)
