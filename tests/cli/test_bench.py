"""`hspc-live bench …` as a user types it, small: what it reports, what it leaves, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hspc_live.bench.figures import Began, Figure, result

PIPELINE = ("--repeats", "1", "--set", "camera.distinct=32", "--frames", "400")
ENGINE = ("engine", "--threads", "1", "--device", "cpu", "--repeats", "2", "--crops", "4", "--seconds", "0.001")


def plain(said) -> dict:
    """The one JSON object on stdout, with what every bench has in it."""
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["machine"].keys() >= {"cpu", "cores", "versions", "load_average", "gpu", "system", "python"}
    assert found["format"] == 1 and found["took_s"] > 0 and found["asked"]["repeats"] >= 1
    for figure in found["figures"].values():
        assert figure["min"] <= figure["median"] <= figure["max"] and figure["better"] in ("higher", "lower")
    return found


def has_report(folder: Path, name: str, found: dict) -> None:
    """A page that holds everything, the figure in both kinds, and the JSON that was printed."""
    assert {path.name for path in folder.iterdir()} >= {"report.html", "metrics.json", f"{name}.png", f"{name}.svg"}
    page = (folder / "report.html").read_text()
    assert "data:image/svg+xml" in page and "http" not in page.partition("<section>")[0]
    assert found["machine"]["cpu"] in page
    assert json.loads((folder / "metrics.json").read_text())["figures"] == found["figures"]


def test_bench_engine_stands_beside_eager_and_the_limit(hspc_live, tmp_path):
    out = tmp_path / "engine"
    found = plain(hspc_live("bench", *ENGINE, "--buckets", "1,2", "--engines", "torch,null", "--out", out, "--json"))
    assert [(row["choice"], row["bucket"]) for row in found["engines"]] == [
        ("torch", 1), ("torch", 2), ("null", 1), ("null", 2),
    ]  # fmt: skip
    for row in found["engines"]:
        assert row.keys() >= {"engine", "precision", "bucket", "cells_per_s", "p50_ms", "p99_ms"}
        assert row["cells_per_s_range"][0] <= row["cells_per_s"] <= row["cells_per_s_range"][1]
        assert 0 < row["p50_ms"] <= row["p99_ms"] and row["nan"] == 0
    eager, null = found["engines"][0], found["engines"][-1]
    assert eager["top1_agreement"] == 1 and eager["max_dp"] < 1e-4 and eager["of_eager"] == 1
    assert null["max_dp"] > 0.1 and null["of_eager"] > 10, "an engine that does not look is told by its scores"
    assert found["limit_cells_per_s"] == found["limits"][0]["cells_per_s"] > 1
    has_report(out, "engine", found)


def test_bench_engine_says_which_engines_cannot_be_built_here(hspc_live):
    said = hspc_live("bench", "engine", "--engines", "torch", "--device", "cuda", "--buckets", "1", "--json")
    if said.code == 0:
        pytest.skip("there is a CUDA device here")
    assert said.code == 5 and "CUDA" in json.loads(said.out)["error"]


@pytest.mark.parametrize(
    ("typed", "code", "words"),
    [
        (("engine", "--engines", "onyx"), 2, "there is no engine 'onyx'; known are"),
        (("engine", "--engines", "torch/int3"), 2, "torch has no precision 'int3'"),
        (("engine", "--buckets", "0"), 2, "batch sizes are at least 1"),
        (("engine", "--buckets", "1,-3"), 2, "batch sizes are at least 1"),
        (("engine", "--buckets", "one"), 2, "is no list of batch sizes"),
        (("engine", "--model", "no-such-model"), 5, "no-such-model"),
        (("engine", "--repeats", "0"), 2, "--repeats"),
        (("pipeline", "--engine", "onyx"), 2, "there is no engine 'onyx'"),
        (("pipeline", "--loads", "0"), 2, "must lie above 0"),
        (("pipeline", "--loads", "much"), 2, "is no list of shares"),
        (("pipeline", "--for", "soon"), 2, "is no duration"),
        (("pipeline", "--set", "camera.kind=simulated"), 2, "camera.kind: looped"),
        (("record", "--quick", "--folder", "/no/such/folder"), 4, "cannot be written"),
        (("segment", "/no/such/picture.png"), 3, "cannot be read"),
        (("compare", "/no/a.json", "/no/b.json"), 2, "cannot be read"),
    ],
)
def test_what_is_typed_wrong_is_refused_by_name(hspc_live, typed, code, words):
    said = hspc_live("bench", *typed)
    assert said.code == code and words in said.err.replace("\n", " "), said.err


@pytest.mark.parametrize("name", ["engine", "segment", "link", "record", "pipeline"])
def test_nothing_is_overwritten_and_nothing_is_measured_before_that_is_known(hspc_live, tmp_path, name):
    (tmp_path / "mine.txt").write_text("mine")
    said = hspc_live("bench", name, "--out", tmp_path)
    assert said.code == 4 and "is not empty" in said.err and [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_bench_segment_stands_beside_scikit_image_and_a_memory_pass(hspc_live, tmp_path):
    out = tmp_path / "segment"
    found = plain(hspc_live("bench", "segment", "--quick", "--repeats", "1", "--out", out, "--json"))
    flow = [row for row in found["segment"] if row["case"].startswith("flow")]
    assert {(tuple(row["frame"]), row["objects"]) for row in flow} >= {((80, 320), 5.0), ((80, 320), 0.0)}
    for row in found["segment"]:
        assert 0 < row["ms"] <= row["p99_ms"] and row["memory_pass_ms"] < row["p99_ms"]
        assert row["case"].startswith("background") or row["peer_ms"] > 0
    has_report(out, "segment", found)


def test_bench_link_moves_pixels_and_messages(hspc_live, tmp_path):
    out = tmp_path / "link"
    found = plain(hspc_live("bench", "link", "--quick", "--repeats", "1", "--out", out, "--json"))
    assert found["messages"].keys() == {"ipc", "tcp"}
    for row in found["pixels"]:
        assert row["MB_per_s"].keys() == {"memcpy", "ring_write", "ring", "ring_read", "ipc", "tcp"}
        assert all(rate > 0 for rate in row["MB_per_s"].values()) and row["of_memcpy"]["memcpy"] == 1
    has_report(out, "link", found)


def test_bench_record_leaves_no_file_where_it_wrote(hspc_live, tmp_path):
    disk, out = tmp_path / "disk", tmp_path / "out"
    disk.mkdir()
    found = plain(hspc_live("bench", "record", "--quick", "--repeats", "1", "--folder", disk, "--out", out, "--json"))
    assert list(disk.iterdir()) == []
    for row in found["record"]:
        assert row["MB_per_s"].keys() == {"record", "plain", "filter", "compress"}
        assert row["of_filter"] > 0 and row["of_compress_cpu"] > 0
        assert 0.2 < row["stored_of_raw"] < 1.5, "noise hardly shrinks, and a short file has a head"
    has_report(out, "record", found)


def test_bench_pipeline_sweeps_the_load_and_watches_the_memory(hspc_live, tmp_path):
    out = tmp_path / "pipeline"
    small = ("--loads", "3,0.2", "--seconds", "0.5", "--for", "3s")
    said = hspc_live("bench", "pipeline", *PIPELINE, *small, "--out", out, "--json")
    found = plain(said)
    assert found["frames"] == 400 and found["repeats"] == 1 and "run 1 of 1" in said.err
    assert found["cells_per_s"] > 0 and found["engine_cells_per_s"] > found["cells_per_s"]
    low, high = found["frames_per_s_range"]
    assert low <= found["frames_per_s"] <= high and 0 <= found["overhead_fraction"] <= 1
    stages = found["us_per_cell"]
    assert stages.keys() == {"acquire", "segment", "receive", "sort_core", "engine"}
    beyond = sum(us for stage, us in stages.items() if stage != "engine")
    assert found["us_per_cell_beyond_engine"] == pytest.approx(beyond, rel=1e-3)
    light, heavy = found["load"]
    assert (light["share"], heavy["share"]) == (0.2, 3.0) and heavy["offered_cells_per_s"] > light[
        "offered_cells_per_s"
    ]
    assert light["latency_ms"].keys() == light["beyond_engine_ms"].keys() == {"p50", "p99", "p999"}
    assert (0 <= heavy["dropped_fraction"] <= 1 and found["knee"] is None) or found["knee"]["share"] in (0.2, 3.0)
    memory = found["memory"]
    assert memory["rss_last_mib"] > 50 and memory["by_process"].keys() >= {"sort", "acquire", "segment-0"}
    has_report(out, "pipeline", found)


def test_bench_pipeline_without_a_sweep_says_it_in_a_table(hspc_live):
    said = hspc_live("bench", "pipeline", *PIPELINE, "--loads", "none")
    assert said.code == 0, said.err
    assert "As fast as frames are taken" in said.out and "Machine:" in said.out and "beyond the engine" in said.out


def test_bench_compare_says_what_changed(hspc_live, tmp_path):
    for name, values in (("a", (100, 110, 120)), ("b", (200, 210, 220))):
        figures = {"x": Figure.of(values, "MB/s"), "y": Figure.of((1.0, 2.0), "ms", "lower")}
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(
            json.dumps(result("link", {"repeats": 3}, figures, {}, Began.now()))
        )
    said = hspc_live("bench", "compare", tmp_path / "a", tmp_path / "b" / "metrics.json", "--json")
    assert said.code == 0, said.err
    x, y = json.loads(said.out)["changes"]
    assert (x["verdict"], y["verdict"]) == ("better", "same") and x["ratio"] == pytest.approx(1.91, abs=0.01)
    table = hspc_live("bench", "compare", tmp_path / "a", tmp_path / "b").out
    assert "BETTER" in table and "within the spread" in table
