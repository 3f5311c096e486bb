"""The cells that promises rest on come back as they were kept, combined as in a run, and nobody swaps them."""

from __future__ import annotations

import numpy as np
import pytest

from hspc_live.core.errors import ModelError, SettingsError
from hspc_live.stages.gate import combine
from hspc_models.calibration_cells import (
    CalibrationCells,
    calibration_cells,
    cell_scores,
    fit_stranger_limits,
    keep_cells,
    load_cells,
)
from hspc_models.card import load_card
from hspc_models.metrics import softmax


def test_looks_are_gathered_by_cell_and_combined_as_a_run_combines_them():
    logits = np.array([[4, 0, 0], [0, 3, 0], [1, 0, 2], [0, 0, 5], [0, 1, 0]], np.float32)
    cells = calibration_cells(
        logits, [7, 3, 7, 7, 3], np.array([0, 2, 0, 0, 2]), ("MPP", "x", "dead"), ("LT-HSC", "MPP"), [1, 1, 1, 1, 1]
    )
    assert cells.kinds == ("LT-HSC", "MPP", "x", "dead") and cells.views == 3
    assert cells.kind.tolist() == [3, 1]  # cell 3 is dead, cell 7 an MPP
    two, looks = cell_scores(cells, 2.0, 2)
    rows = [tuple(row) for row in softmax(logits, 2.0).astype(np.float32).tolist()]
    assert two.tolist() == [list(combine([rows[1], rows[4]])), list(combine([rows[0], rows[2]]))]
    assert looks.tolist() == [2, 2]
    one, looks = cell_scores(cells, 2.0, 1)
    assert one.tolist() == [list(combine([rows[1]])), list(combine([rows[0]]))] and looks.tolist() == [1, 1]


def test_cells_come_back_as_they_were_kept(tmp_path, gauss):
    cells = gauss.draw(np.random.default_rng(1), 50)
    grouped = CalibrationCells(cells.logits, cells.cell, cells.kind, cells.kinds, np.arange(50) % 3)
    card = gauss.save(tmp_path, grouped)
    assert card.calibration.groups == 3 and card.calibration.cells == 50
    back = load_cells(tmp_path, load_card(tmp_path))
    for name in ("logits", "cell", "kind", "group"):
        assert np.array_equal(getattr(back, name), getattr(grouped, name)), name
    assert back.kinds == gauss.KINDS


def test_cells_that_are_not_the_card_s_are_refused(tmp_path, gauss):
    rng = np.random.default_rng(2)
    gauss.save(tmp_path / "m", gauss.draw(rng, 40))
    path = tmp_path / "m" / "calibration.safetensors"
    kept = path.read_bytes()
    path.write_bytes(kept[:-1] + b"!")
    with pytest.raises(ModelError, match=r"calibration\.safetensors: SHA-256 is .*, the card expects"):
        load_cells(tmp_path / "m", load_card(tmp_path / "m"))
    path.unlink()
    with pytest.raises(ModelError, match="cannot read the calibration cells"):
        load_cells(tmp_path / "m", load_card(tmp_path / "m"))
    none = gauss.save(tmp_path / "n", None)
    with pytest.raises(SettingsError, match=r"gauss has no calibration cells.*--calibrate"):
        load_cells(tmp_path / "n", none)
    card = gauss.save(tmp_path / "o", gauss.draw(rng, 40))
    other = card.model_copy(update={"calibration": card.calibration.model_copy(update={"scored_by": "0" * 64})})
    with pytest.raises(SettingsError, match="scored by other weights"):
        load_cells(tmp_path / "o", other)
    aside = card.model_copy(update={"calibration": card.calibration.model_copy(update={"file": "../x.safetensors"})})
    with pytest.raises(ModelError, match="must lie beside the card"):
        load_cells(tmp_path / "o", aside)
    fewer = card.calibration.model_copy(update={"counts": (1, 2, 3, 4)})
    with pytest.raises(ModelError, match="does not hold the cells that the card describes"):
        load_cells(tmp_path / "o", card.model_copy(update={"calibration": fewer}))


def test_a_pickle_is_not_opened(tmp_path, gauss):
    """Whatever its hash says: the file is read as safetensors or not at all."""
    import hashlib
    import pickle

    card = gauss.save(tmp_path, gauss.draw(np.random.default_rng(3), 20))
    content = pickle.dumps({"logits": 1})
    (tmp_path / "calibration.safetensors").write_bytes(content)
    about = card.calibration.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    with pytest.raises(ModelError, match="not a file of calibration cells"):
        load_cells(tmp_path, card.model_copy(update={"calibration": about}))


def test_known_cells_are_seldom_called_strangers_and_strangers_often(tmp_path, gauss):
    limits = fit_stranger_limits(gauss.draw(np.random.default_rng(4), 4000), 1.0)
    assert len(limits.limits) == 2 and None not in limits.limits and limits.calibrated_on > 3700
    new = gauss.draw(np.random.default_rng(5), 20_000)
    for views, limit in enumerate(limits.limits, 1):
        strange = 1 - cell_scores(new, 1.0, views)[0].max(axis=1) > limit
        assert 0.03 < strange[new.kind < 3].mean() < 0.07  # 5 %, give or take both draws
        assert strange[new.kind == 3].mean() > 3 * strange[new.kind < 3].mean()
    assert limits.found["dead"].rate == pytest.approx(strange[new.kind == 3].mean(), abs=0.12)
    few = fit_stranger_limits(gauss.draw(np.random.default_rng(6), 15), 1.0)
    assert few.limits == (None, None)  # too few for one in twenty


def test_a_folder_that_cannot_be_written_is_said(tmp_path, gauss):
    from hspc_live.core.errors import OutputError

    cells = gauss.draw(np.random.default_rng(7), 10)
    card = gauss.save(tmp_path / "m", cells)
    with pytest.raises(OutputError, match="cannot be written"):
        keep_cells(tmp_path / "absent", card, cells, "flow", "x")
