"""The benchmark's strip of film: what is counted in it is what was put there, or cells per second would be a lie."""

from __future__ import annotations

import numpy as np
import pytest

from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import SettingsError
from hspc_live.core.values import Modality
from hspc_live.settings.load import load
from hspc_live.settings.shipped import shipped_config
from hspc_live.stages.segment import Segmenter
from hspc_live.twin.flow import FlowTwin
from hspc_live.twin.strip import film_strip


def test_every_cell_of_the_shipped_benchmark_is_found_whole_and_alone():
    settings = load(shipped_config("benchmarks/pipeline_null"), [], {})
    twin, cells = settings.camera.twin, settings.camera.cells
    strip = film_strip(twin, 12, cells)
    background = FlowTwin(twin).background()
    noise_sd = float(np.std(strip[0].astype(float) - background, where=abs(strip[0] - background.astype(float)) < 8))
    segment = Segmenter(settings.segment, twin.um_per_px, Modality.DIC, CropGeometry())
    found = [segment(i, i, pixels, background, 0, noise_sd) for i, pixels in enumerate(strip)]
    accepted = sum(int((result.objects["reject"] == 0).sum()) for result in found)
    assert accepted >= 0.95 * len(strip) * cells, [result.objects["reject"].tolist() for result in found]
    assert all(len(result.crops) <= cells for result in found)


def test_a_strip_is_the_seed_s_and_its_frames_differ():
    settings = load(shipped_config("benchmarks/pipeline_null"), [], {})
    one, two = (film_strip(settings.camera.twin, 3, 2) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[0], one[1])


def test_more_cells_than_fit_are_refused_with_the_key_to_change():
    settings = load(shipped_config("benchmarks/pipeline_null"), [], {})
    with pytest.raises(SettingsError, match=r"camera\.cells.*60 cells"):
        film_strip(settings.camera.twin, 1, 60)
