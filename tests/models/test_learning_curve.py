"""Trainings of a learning curve: judged on cells that none saw, kept when done, held to their budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hspc_live.core.errors import OutputError, SettingsError
from hspc_models.curve_results import figures
from hspc_models.curve_settings import CurveSettings
from hspc_models.curve_store import PREDICTIONS
from hspc_models.curve_tasks import plan
from hspc_models.dataset import write_crops
from hspc_models.learning_curve import _predicted, run
from hspc_models.network import CellNet
from hspc_models.peers import NETWORK
from hspc_models.train_settings import (
    FileSource,
    PaperRecipe,
    Phase,
    ScratchRecipe,
    TrainSettings,
    TwinSource,
)


def silent(_):
    pass


@pytest.fixture(scope="module")
def crops(stripes, tmp_path_factory) -> Path:
    from dataclasses import replace

    path = tmp_path_factory.mktemp("data") / "crops.h5"
    made = stripes(48, 1)
    write_crops(path, replace(made, groups=np.arange(48) // 8, group_names=tuple(f"m{n}" for n in range(6))))
    return path


def settings(crops: Path, by: str = "group", **curve: object) -> TrainSettings:
    told = {"fractions": (0.25, 0.5, 0.75, 1.0), "repeats": 2, "epochs": 1, "pixels": 16} | curve
    return TrainSettings(
        name="stripes",
        version="1",
        classes=("standing", "lying"),
        crop_px=32,
        source=FileSource(kind="files", data=crops, holdout=0.3, by=by),
        recipe=ScratchRecipe(kind="scratch", phases=(Phase(pixels=32, epochs=9),), batch=8),
        threads=1,
        curve=CurveSettings(**told),
    )


def test_what_judges_is_held_out_by_group_and_never_drawn(crops, tmp_path):
    curves = plan(settings(crops), tmp_path)
    judged = set(curves.judged.groups.tolist())
    assert judged and judged.isdisjoint(set(curves.learnt.groups.tolist()))
    seen = {image.tobytes() for image in curves.judged.images}
    assert all(image.tobytes() not in seen for image in curves.learnt.images)
    assert [task.fraction for task in curves.tasks] == [0.25, 0.5, 0.75, 1.0] * 2


def test_the_network_is_judged_at_the_size_it_was_trained_at(stripes):
    images, seen = stripes(6, 3).images, []

    class Watching(CellNet):
        def forward(self, x):
            seen.append(tuple(x.shape))
            return super().forward(x)

    found = _predicted(Watching(2), images, 16, 1)
    assert seen == [(6, 1, 16, 16)] and found.shape == (6,) and set(found.tolist()) <= {0, 1}


def test_steps_or_epochs_are_the_same_at_every_size(crops, tmp_path):
    steps = [task.settings.epochs for task in plan(settings(crops, same="steps"), tmp_path / "a").tasks[:4]]
    epochs = [task.settings.epochs for task in plan(settings(crops, same="epochs"), tmp_path / "b").tasks[:4]]
    assert steps == [4, 2, 1, 1] and epochs == [1, 1, 1, 1]
    paper = settings(crops, same="epochs", epochs=3).model_copy(
        update={"recipe": PaperRecipe(kind="paper", pixels=32, backbone="twin-lsm")}
    )
    parts = plan(paper, tmp_path / "c").tasks
    assert {task.settings.epochs for task in parts} == {3} and len({task.settings.seed for task in parts}) == 2


def test_peers_alone_take_seconds_and_are_not_done_twice(crops, tmp_path):
    told = settings(crops, network=False)
    curves = plan(told, tmp_path)
    said: list[str] = []
    assert run(curves, None, "test", said.append, silent) is None
    assert len(said) == 8
    found = figures(curves)
    assert list(found["classifiers"]) == ["ring profiles + small network", "HOG + logistic regression"]
    for one in found["classifiers"].values():
        assert [point["repeats"] for point in one["points"]] == [2] * 4 and one["fit"] is not None
        assert one["foreseen"] is None  # two sizes up to half of the crops foretell nothing
    hog = found["classifiers"]["HOG + logistic regression"]["points"]
    assert hog[-1]["mean"]["value"] > 0.9  # stripes are easy for it; profiles by radius cannot see how they lie
    again = plan(told, tmp_path)
    said.clear()
    assert run(again, None, "test", said.append, silent) is None and said == []
    more = plan(settings(crops, network=False, repeats=3), tmp_path)
    assert run(more, None, "test", said.append, silent) is None and len(said) == 4
    assert figures(more)["classifiers"]["HOG + logistic regression"]["whole_repeats"] == 3


@pytest.mark.timeout(900)
def test_a_budget_refuses_what_does_not_fit_and_a_larger_one_goes_on(crops, tmp_path):
    told = settings(crops, "random", fractions=(0.5, 1.0), repeats=2, peers=False)
    curves, said = plan(told, tmp_path), []
    with pytest.raises(SettingsError, match=r"one training at each fraction takes about .* give --budget \d+ \(what"):
        run(curves, 0.01, "test", said.append, silent)
    (kept,) = tmp_path.rglob(PREDICTIONS)
    assert not list(tmp_path.rglob("*.safetensors"))  # no weights, no checkpoints
    before = kept.read_bytes()
    shown: list[int] = []
    assert run(curves, None, "test", said.append, shown.append) is None
    assert kept.read_bytes() == before and len(said) == 5  # one before the refusal, three after it, one on the time
    assert shown == sorted(shown) and shown[-1] == sum(task.shown for task in curves.tasks)
    points = figures(curves)["classifiers"][NETWORK]["points"]
    assert [point["repeats"] for point in points] == [2, 2]
    # three repeats do not fit in what is left of a second: the curve of two stays, and why is said
    longer = plan(settings(crops, "random", fractions=(0.5, 1.0), repeats=3, peers=False), tmp_path)
    stopped = run(longer, 0.5, "test", said.append, silent)
    assert stopped is not None and "2 of 3 repeats" in stopped
    assert figures(longer)["trainings"] == {"planned": 6, "done": 4}


def test_a_folder_of_other_crops_or_settings_is_refused(crops, stripes, tmp_path):
    plan(settings(crops, network=False), tmp_path / "out")
    with pytest.raises(OutputError, match="other settings or other data"):
        plan(settings(crops, network=False, epochs=2), tmp_path / "out")
    write_crops(tmp_path / "others.h5", stripes(48, 2))
    with pytest.raises(OutputError, match="other settings or other data"):
        plan(settings(tmp_path / "others.h5", "random", network=False), tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        plan(settings(crops), tmp_path / "full")


def test_the_twins_cells_have_a_curve_too(tmp_path):
    twin = TrainSettings(
        name="twin",
        version="1",
        classes=("LT-HSC", "MPP"),
        source=TwinSource(crops=24, validation=12),
        recipe=ScratchRecipe(kind="scratch", phases=(Phase(pixels=32, epochs=1),)),
        curve=CurveSettings(network=False, fractions=(0.5, 1.0), repeats=1),
    )
    curves = plan(twin, tmp_path)
    assert run(curves, None, "test", silent, silent) is None
    found = figures(curves)
    assert (found["n_train"], found["n_judged"]) == (24, 12)
    why = found["classifiers"]["HOG + logistic regression"]["why_no_fit"]
    assert "2 sizes cannot settle a law" in why


def test_nothing_to_train_is_refused(crops, tmp_path):
    with pytest.raises(SettingsError, match="nothing would be trained"):
        plan(settings(crops, network=False, peers=False), tmp_path)
