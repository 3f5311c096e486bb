"""Engine parity and speed on a bare GPU machine, in one command from a clone:

    pip install torch numpy scipy opencv-python-headless pydantic pyyaml safetensors    # the wheels that are needed
    pip install torch-tensorrt                                                          # for the TensorRT engine
    python tools/gpu_bench.py --out FOLDER

It measures what `hspc-live bench engine` measures, with the same code taken from the clone by path: neither HSPC Live
nor ZeroMQ, HDF5, Qt or matplotlib need be installed. FOLDER gets `engine.json`, which `hspc-live bench compare` reads.
Every engine's scores are held against plain eager float32 on the same cells, in every batch size. The exit code is 1
where one differs by more than `--max-dp`, gives another first class to more than one cell in a hundred, or gives NaN.
An engine that cannot be built is listed with its reason. Without CUDA it runs on the CPU and says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

CLONE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CLONE), str(CLONE / "models")]

import torch  # noqa: E402

from hspc_live.bench.engine import EngineOrder, measure_engines  # noqa: E402
from hspc_live.bench.engine_choice import Asked  # noqa: E402
from hspc_live.core.errors import HspcError, ModelError  # noqa: E402
from hspc_live.core.protocols import Engine  # noqa: E402
from hspc_live.settings.schema import NullEngine, TorchEager  # noqa: E402
from hspc_models.open_engine import open_engine  # noqa: E402

BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LEAST_AGREEMENT = 0.99


def built(settings: Any) -> Engine:
    """The engine that `settings` names, built now if it is not there. Raises ModelError where it cannot be had."""
    try:
        return open_engine(settings)
    except ModelError:
        if isinstance(settings, (TorchEager, NullEngine)):
            raise
    from hspc_models.engine_build import build_engine

    made = build_engine(settings, say=tell)
    if not made.parity.passed:
        raise ModelError(f"it was built, and differs too much from plain torch: {made.parity.to_json()}")
    return open_engine(settings)


def tell(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr)


def parity(row: dict[str, Any], max_dp: float) -> str | None:
    """What is wrong with an engine's scores in one batch size; None if nothing is."""
    if row["nan"]:
        return f"{row['nan']} cells have NaN scores"
    if row["top1_agreement"] is None:
        return None  # other classes than the model's: nothing to be held against
    if row["top1_agreement"] < LEAST_AGREEMENT:
        return f"the first class differs for {1 - row['top1_agreement']:.2%} of the cells"
    return f"scores differ by up to {row['max_dp']:.2g}" if row["max_dp"] > max_dp else None


def show(found: dict[str, Any], wrong: list[str]) -> None:
    """Lines for a person."""
    gpu = found["machine"]["gpu"]
    print("NO CUDA DEVICE HERE: these are figures of the CPU" if gpu is None else f"GPU: {gpu}")
    for limit in found["limits"]:
        print(
            f"limit {limit['device']} {limit['precision']}: {limit['gflop_per_s'] / 1e3:,.2f} TFLOP/s "
            f"= {limit['cells_per_s']:,.0f} cells/s"
        )
    print(f"{'engine':24} batch    cells/s   p50 ms   p99 ms  x eager of limit   max dp")
    for row in found["engines"]:
        dp = "-" if row["max_dp"] is None else f"{row['max_dp']:.1e}"
        print(
            f"{row['choice'] + ' ' + row['precision']:24} {row['bucket']:5} {row['cells_per_s']:10,.1f} "
            f"{row['p50_ms']:8.3f} {row['p99_ms']:8.3f} {row['of_eager']:8.2f} {row['of_limit']:8.3f} {dp:>8}"
        )
    for one in found["not_measured"]:
        print(f"not measured: {one['engine']}: {one['reason']}")
    for sentence in wrong:
        print(f"PARITY FAILED: {sentence}")


def main() -> int:
    """Measure, keep, show; 1 where an engine's scores are not plain eager's, 2 where nothing could be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="new folder for engine.json")
    parser.add_argument("--engines", help="names, with commas; default: all that can be built here")
    parser.add_argument("--buckets", default=",".join(map(str, BUCKETS)))
    parser.add_argument("--model", default="twin-lsm")
    parser.add_argument("--threads", type=int, help="of a CPU engine")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="a batch size is run so long in each repeat")
    parser.add_argument("--crops", type=int, default=1024)
    parser.add_argument("--max-dp", type=float, default=0.02, help="largest difference of a score that passes")
    given = parser.parse_args()
    if given.out is not None:
        given.out.mkdir(parents=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        asked = Asked(given.model, device, given.threads, tuple(int(size) for size in given.buckets.split(",")))
        names = None if given.engines is None else tuple(given.engines.split(","))
        order = EngineOrder(asked, names, given.repeats, given.crops, given.seconds)
        found = measure_engines(order, tell, built)
    except (HspcError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    complaints = [(row, parity(row, given.max_dp)) for row in found["engines"]]
    wrong = [f"{row['choice']}, batch {row['bucket']}: {said}" for row, said in complaints if said is not None]
    found["parity"] = {"max_dp": given.max_dp, "least_top1_agreement": LEAST_AGREEMENT, "failed": wrong}
    show(found, wrong)
    if given.out is not None:
        (given.out / "engine.json").write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
