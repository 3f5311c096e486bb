"""The CPU engine: OpenVINO, in single precision or INT8. One compiled graph serves all buckets.

INT8 quantises the convolutions only, but for the first: per-channel
weights, ranges of the activations from training crops (Nagel et al. 2021, arXiv:2106.08295). What is left, the sums of
the residual blocks, the head, a ring reader and the softmax, stays in single precision: bfloat16 is never used, as
OpenVINO would take the crops' mean in it as well, and lose what cameras of more than 8 bits see.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import ModelError
from hspc_live.core.values import Pixels
from hspc_models.card import Card
from hspc_models.engines.bucketed import BucketedEngine, closed
from hspc_models.network import CellNet

Precision = Literal["fp32", "int8"]
FILES = ("model.xml", "model.bin")
"""What a build consists of."""

INSTALL = "pip install 'hspc-live[cpu]'"


class OpenVinoEngine(BucketedEngine):
    """A built graph behind `core.protocols.Engine`. `build` is the SHA-256 of what was built.

    Raises ModelError: OpenVINO is not installed, or the files are no graph of it.
    """

    def __init__(
        self,
        card: Card,
        files: dict[str, bytes],
        precision: Precision,
        build: str,
        threads: int = 2,
        buckets: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64),
    ) -> None:
        super().__init__(card, buckets)
        ov = import_openvino()
        core = ov.Core()
        self._precision = precision
        self._build = build
        try:
            model = core.read_model(files[FILES[0]], files[FILES[1]])
            model.reshape([ov.Dimension(1, max(2, self._buckets[-1])), card.crop_px, card.crop_px])
            compiled = core.compile_model(
                model,
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": "f32",
                    "INFERENCE_NUM_THREADS": threads,
                    "NUM_STREAMS": 1,
                    "PERFORMANCE_HINT": "LATENCY",
                    "ENABLE_CPU_PINNING": False,  # other processes of a run share the cores
                },
            )
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot compile the built graph: {error}") from error
        self._request: Any | None = compiled.create_infer_request()

    @property
    def name(self) -> str:
        """Engine and device; the build's hash tells two calibrations apart."""
        return f"openvino/cpu@{self._build[:8]}"

    @property
    def precision(self) -> str:
        """Arithmetic of the convolutions."""
        return self._precision

    def close(self) -> None:
        """Let go of the graph; afterwards `infer` raises ModelError."""
        self._request = None

    def _run(self, crops: Pixels) -> NDArray[np.float32]:
        if self._request is None:
            raise closed()
        self._request.infer([crops.astype(np.float32)])
        return np.array(self._request.get_output_tensor(0).data, np.float32)


def import_openvino() -> Any:
    """The package, without its telemetry: importing it would tell a server of its maker's. Raises ModelError."""
    if importlib.util.find_spec("openvino") is None:
        raise ModelError(f"OpenVINO is not installed: {INSTALL}")
    _no_telemetry()
    import openvino

    return openvino


def _no_telemetry() -> None:
    """OpenVINO and NNCF report what is done to their maker, and do without where this package cannot be imported."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # how Python marks what must not be found


def build_openvino(
    card: Card, network: CellNet, precision: Precision, buckets: tuple[int, ...], crops: Pixels | None, folder: Path
) -> dict[str, bytes]:
    """Convert, and for INT8 calibrate on training `crops` (n, S, S); the files of the build by name.

    `folder` is a scratch folder. Raises ModelError: not installed, or INT8 without crops.
    """
    ov = import_openvino()
    from hspc_models.engines.exported import exported, quiet_export, scoring_net

    program = exported(scoring_net(card, network), card.crop_px, buckets[-1])
    with quiet_export():
        model = ov.convert_model(program)
    if precision == "int8":
        if crops is None or not len(crops):
            raise ModelError("INT8 needs training crops to calibrate on: engine build --calibrate FILE")
        model = _quantised(model, crops)
    ov.save_model(model, folder / FILES[0], compress_to_fp16=False)
    return {name: (folder / name).read_bytes() for name in FILES}


def _quantised(model: Any, crops: Pixels) -> Any:
    """`model` with its convolutions in INT8, but for the first one."""
    if importlib.util.find_spec("nncf") is None:
        raise ModelError(f"NNCF is not installed, which quantises for OpenVINO: {INSTALL}")
    _no_telemetry()
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):  # stdout is for the result
        warnings.simplefilter("ignore")
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        nncf.set_log_level(logging.ERROR)
        operations = model.get_ordered_ops()
        first = next(op.get_friendly_name() for op in operations if op.get_type_name() == "Convolution")
        others = {op.get_type_name() for op in operations} - {"Convolution", "Constant", "Parameter", "Result"}
        return nncf.quantize(
            model,
            nncf.Dataset([crop[np.newaxis].astype(np.float32) for crop in crops]),
            subset_size=len(crops),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=[first], types=sorted(others), validate=False),
            advanced_parameters=AdvancedQuantizationParameters(
                # a mean over batches of one crop would clip the brightest details of every other cell
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
            ),
        )
