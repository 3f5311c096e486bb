"""The settings of one run, whole. `hspc-live schema` prints this as JSON schema, `hspc-live check` validates a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from hspc_live.settings.base import Section
from hspc_live.settings.devices import Camera, NoSorter, RigSettings, SimulatedCamera, Sorter
from hspc_live.settings.door import DoorSettings
from hspc_live.settings.segment import BackgroundSettings, SegmentSettings
from hspc_live.settings.sort import SortSettings


class ModelEngine(Section):
    """What all engines have in common that run a trained model."""

    model: str = Field("twin-lsm", description="name of a shipped model, or a folder with card.yaml")
    buckets: tuple[int, ...] = Field(
        (1, 2, 4, 8, 16, 32, 64), description="batch sizes that run unpadded, and whose times are measured"
    )


class TorchEager(ModelEngine):
    """The reference engine: plain torch in single precision, on CPU or CUDA. Other engines are judged by its scores."""

    kind: Literal["torch"] = "torch"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(2, ge=1)


class OpenVino(ModelEngine):
    """The CPU engine, built on this machine. `build` is the SHA-256 of what was built; a run fills it in."""

    kind: Literal["openvino"]
    precision: Literal["fp32", "int8"] = "fp32"
    threads: int = Field(2, ge=1)
    build: str = Field("", pattern="^([0-9a-f]{64})?$")


class TensorRt(ModelEngine):
    """TensorRT on an NVIDIA GPU, built on this machine. `build` is the SHA-256 of what was built."""

    kind: Literal["tensorrt"]
    precision: Literal["fp32", "fp16"] = "fp16"
    build: str = Field("", pattern="^([0-9a-f]{64})?$")


class CudaGraph(ModelEngine):
    """Torch on an NVIDIA GPU: half precision, one captured CUDA graph a bucket."""

    kind: Literal["cuda-graph"]


class AutoEngine(ModelEngine):
    """The fastest engine that has been built on this machine and passed its parity check; else plain torch."""

    kind: Literal["auto"]
    threads: int = Field(2, ge=1)
    build: bool = Field(False, description="build the one for this machine first, about a minute, where there is none")


class NullEngine(Section):
    """Answers at once with a score of 1 for the first class: measures everything but the engine."""

    kind: Literal["null"]
    classes: tuple[str, ...] = ("LT-HSC", "ST-HSC", "MPP")


Engine = Annotated[TorchEager | OpenVino | TensorRt | CudaGraph | AutoEngine | NullEngine, Field(discriminator="kind")]


class DeclaredShares(Section):
    """What the sample is believed to be, declared before the run. Promises and corrected scores rest on it."""

    prevalence: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="share of each class among the cells"
    )
    strangers: float = Field(0.0, ge=0, lt=1, description="share of accepted objects that are none of the classes")

    @model_validator(mode="after")
    def _sums(self) -> Self:
        if self.prevalence and abs(sum(self.prevalence.values()) - 1.0) > 1e-3:
            raise ValueError(f"prevalence must sum to 1, not {sum(self.prevalence.values()):g}")
        return self


class PopulationSettings(DeclaredShares):
    """What the sample in a flow is believed to be, declared before the run. Predicted purity rests on it, too."""

    events_per_s: float = Field(10.0, gt=0, description="objects of all kinds a second, at the junction")
    classified: float = Field(
        0.8, gt=0, le=1, description="share of all objects that come to a verdict (no debris, not cut off, not blurred)"
    )


class SampleSettings(Section):
    """What was measured, for the recording's header. None is "not known", and stays so in the file."""

    name: str = Field("sample", min_length=1)
    run_index: int = Field(1, ge=1, description="number of the measurement in its series")
    medium: str = Field("unknown", min_length=1, description="what the cells flow in")
    channel_width_um: float | None = Field(None, gt=0, description="None takes the height of the frame")
    flow_rate_ul_s: float | None = Field(None, gt=0, description="in the channel, sample and sheath together")
    sheath_flow_rate_ul_s: float | None = Field(None, ge=0)
    temperature_c: float | None = None
    light_source: str = Field("unknown", min_length=1)
    instrument: str = Field("unknown", min_length=1)


class RecordSettings(Section):
    """The recording. `frames` keeps every frame once, which exact replay needs."""

    path: Path | None = None
    frames: bool = True
    window_px: int = Field(80, ge=16, description="edge of the picture kept for each view, at camera scale")
    flush_s: float = Field(0.5, gt=0)
    sample: SampleSettings = SampleSettings()


class PipelineSettings(Section):
    """Processes and links. Live drops (and counts) what it cannot hold; replay blocks instead."""

    workers: int = Field(1, ge=1, le=64, description="segment worker processes")
    ring_slots: int = Field(64, ge=4, description="frames held between acquire, segment and record")
    frames_per_lease: int = Field(1, ge=1, le=64, description="frames a worker may be handed at once when they wait")
    lease_timeout_s: float = Field(2.0, gt=0, description="a silent worker's frames go out again after this")
    frame_deadline_s: float = Field(1.0, gt=0, description="live: a frame without a result is given up after this")
    silent_periods: float = Field(
        5.0, ge=2, description="live: disarm when the camera has given no frame for so many frame periods"
    )
    batch_frames: int = Field(8, ge=1, description="replay: views of so many frames form one batch, whatever the speed")


class RetrySettings(Section):
    """What happens after a camera has stalled or was unplugged in mid-run: nothing, unless `times` says so.

    A further run is disarmed, whatever the first one was, and has a recording of its own.
    """

    times: int = Field(0, ge=0, le=100, description="begin so many further runs, one after the other; 0: none")
    first_s: float = Field(2.0, ge=0, le=3600, description="wait so long before the first of them")
    factor: float = Field(2.0, ge=1, le=10, description="and so many times as long before each further one")
    longest_s: float = Field(60.0, gt=0, le=3600, description="but not longer than this")


class RunSettings(Section):
    """A whole run."""

    name: str = "run"
    rig: RigSettings = RigSettings()
    camera: Camera = SimulatedCamera()
    background: BackgroundSettings = BackgroundSettings()
    segment: SegmentSettings = SegmentSettings()
    engine: Engine = TorchEager()
    sort: SortSettings = SortSettings()
    population: PopulationSettings = PopulationSettings()
    sorter: Sorter = NoSorter()
    record: RecordSettings = RecordSettings()
    pipeline: PipelineSettings = PipelineSettings()
    door: DoorSettings | None = None
    retry: RetrySettings = RetrySettings()

    @model_validator(mode="before")
    @classmethod
    def _kinds(cls, data: Any) -> Any:
        """A section that does not say its kind is of the default kind, as one that is left out altogether."""
        if not isinstance(data, dict):
            return data
        kinds = {"camera": "simulated", "engine": "torch", "sorter": "none"}
        return {
            key: {"kind": kinds[key], **value} if key in kinds and isinstance(value, dict) else value
            for key, value in data.items()
        }
