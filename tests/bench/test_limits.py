"""What figures are held against: the arithmetic of the network, the bare compression, scikit-image's cells."""

from __future__ import annotations

import h5py
import hdf5plugin
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hspc_live.bench.bare_filter import BareCompression, BareFilter
from hspc_live.bench.drawn import flow_frame, still_field
from hspc_live.bench.limit import FLOP_PER_CELL, limits
from hspc_live.bench.machine import machine, machine_words
from hspc_live.bench.memory import MemoryWatch, rss_mib
from hspc_live.bench.segment_peer import flow_peer, still_peer
from hspc_live.core.values import Modality
from hspc_models.card import find_model, load_network


def test_a_cell_costs_as_much_as_is_said():
    network = load_network(find_model("twin-lsm"))[1].float().eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        network(torch.zeros(1, 1, 64, 64))
    assert counter.get_total_flops() == pytest.approx(FLOP_PER_CELL, rel=0.05)


def test_the_reference_of_a_cpu_is_the_single_precision_rate():
    first, *_ = limits("cpu")
    assert first.reference and first.precision == "fp32" and first.flop_per_s(0.001) > 1e8
    assert limits("cuda")[0].precision == "fp16"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_bare_filter_compresses_as_recordings_do(tmp_path, dtype):
    pixels = flow_frame(80, 320, 0.34, 5, Modality.DIC, 1)[0].astype(dtype)
    with h5py.File(tmp_path / "one.h5", "x") as file:
        stored = file.create_dataset(
            "image", data=pixels[None], chunks=(1, *pixels.shape), **hdf5plugin.Bitshuffle(cname="lz4")
        )
        size = stored.id.get_chunk_info(0).size
    assert BareFilter()(pixels) == size < pixels.nbytes
    assert BareCompression()(pixels) == size - 12  # without the head


@pytest.mark.parametrize("modality", list(Modality))
@pytest.mark.parametrize(("height", "width", "um_per_px", "cells"), [(80, 320, 0.34, 5), (256, 1024, 0.25, 3)])
def test_the_peer_finds_the_cells_of_a_flow(modality, height, width, um_per_px, cells):
    labels = flow_peer(*flow_frame(height, width, um_per_px, cells, modality, 3), um_per_px)
    assert labels.max() == cells


def test_the_peer_finds_the_cells_of_a_field():
    labels = still_peer(still_field(600, 2))
    assert labels.shape == (600, 600) and labels.max() == 9


def test_the_machine_is_described():
    known = machine()
    assert known["cores"] >= 1 and known["cpu"] and known["versions"]["numpy"] == np.__version__
    assert (len(known["load_average"]) == 3 and known["gpu"] is None) or known["gpu"]["name"]
    said = machine_words(known)
    assert known["cpu"] in said and f"{known['cores']} cores" in said and "load average" in said


def test_memory_is_only_reported_where_there_was_something_to_see():
    with MemoryWatch(0.01) as watch:
        pass
    assert watch.report(1.0) is None and rss_mib(-1) is None
