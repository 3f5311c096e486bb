"""Files that somebody prepared: each does nothing and says why. No code of theirs runs, no file outside is opened.

Code would make a folder (the sentinel). A file outside is a pipe, at whose other end somebody watches for readers.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import pickle
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml

from hspc_live.cli.runs import _as_replay
from hspc_live.core.errors import HspcError
from hspc_live.settings.devices import NoSorter, ReplayCamera, SimulatedSorter
from hspc_live.settings.load import load_text
from hspc_live.settings.shipped import shipped_config
from hspc_live.twin.chamber_truth import ChamberTruth
from hspc_live.twin.truth import FlowTruth
from hspc_models.calibration_cells import load_cells
from hspc_models.card import find_model, load_card, load_network
from hspc_models.dataset import FORMAT
from hspc_models.network import CellNet, load_backbone
from hspc_models.proof import read_proof

posix = pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX's")


class Bomb:
    """What runs while it is unpickled: it makes a folder."""

    def __init__(self, sentinel: Path) -> None:
        self._sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._sentinel),)


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[Path]:
    """Is never made; that the bomb would make it is tried first."""
    path = tmp_path / "sentinel"
    pickle.loads(pickle.dumps(Bomb(path)))
    assert path.is_dir()
    path.rmdir()
    yield path
    assert not path.exists(), "code from a file has run"


@pytest.fixture
def bomb(sentinel: Path) -> bytes:
    return pickle.dumps(Bomb(sentinel), protocol=2)  # as torch writes them


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return out.getvalue()


def as_npy(bomb: bytes) -> bytes:
    """An array of Python objects, as numpy writes one."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    return out.getvalue() + bomb


# ---- pickles in place of everything ----------------------------------------------------------------------------------


def model_with(folder: Path, content: bytes, name: str = "model.safetensors") -> Path:
    """The shipped model with another file of weights, whose hash the card knows: whoever can write one can hash it."""
    shutil.copytree(find_model("twin-lsm"), folder)
    (folder / name).write_bytes(content)
    card = yaml.safe_load((folder / "card.yaml").read_text(encoding="utf-8"))
    digest = hashlib.sha256(content).hexdigest()
    section = card["weights"] if name == "model.safetensors" else card["calibration"]
    section |= {"file": name, "sha256": digest}
    (folder / "card.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    return folder


def as_torch(sentinel: Path) -> bytes:
    out = io.BytesIO()
    torch.save({"conv1.weight": Bomb(sentinel)}, out)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["pickle", "torch archive"])
def test_a_pickle_in_place_of_a_models_weights(tmp_path: Path, sentinel: Path, bomb: bytes, kind: str) -> None:
    content = bomb if kind == "pickle" else as_torch(sentinel)
    with pytest.raises(HspcError, match=r"not a safetensors file.*nothing else is opened"):
        load_network(model_with(tmp_path / "model", content))
    (tmp_path / "backbone.pth").write_bytes(content)
    with pytest.raises(HspcError, match=r"backbone\.pth: refused"):
        load_backbone(CellNet(3), tmp_path / "backbone.pth")


def test_a_pickle_in_place_of_calibration_cells_and_of_an_engines_proof(tmp_path: Path, bomb: bytes) -> None:
    folder = model_with(tmp_path / "model", bomb, "calibration.safetensors")
    with pytest.raises(HspcError, match="calibration"):
        load_cells(folder, load_card(folder))
    with pytest.raises(HspcError, match="build the engine again"):
        read_proof(bomb)


def test_a_pickle_in_place_of_an_engine(bomb: bytes) -> None:
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")  # and not importorskip: the engine imports it without its telemetry
    from hspc_models.engines.openvino_cpu import FILES, OpenVinoEngine

    card = load_card(find_model("twin-lsm"))
    with pytest.raises(HspcError, match="cannot compile the built graph"):
        OpenVinoEngine(card, dict.fromkeys(FILES, bomb), "fp32", "0" * 64)


@pytest.mark.parametrize("name", ["crops.npz", "crops.h5", "crops.rtdc"])
@pytest.mark.parametrize("kind", ["pickle", "archive"])
def test_a_pickle_in_place_of_crops_or_a_recording(
    hspc_live, tmp_path: Path, bomb: bytes, name: str, kind: str
) -> None:
    path = tmp_path / name
    path.write_bytes(bomb if kind == "pickle" else zipped(image__npy=as_npy(bomb), label__npy=as_npy(bomb)))
    said = hspc_live("dataset", "inspect", path)
    assert said.code == 3 and name in said.err, said.err
    for command in ("inspect", "recover", "replay"):
        said = hspc_live(command, path)
        assert said.code == 3 and name in said.err, said.err


@pytest.mark.parametrize("load", [FlowTruth.load, ChamberTruth.load])
def test_a_pickle_in_place_of_the_simulations_truth(tmp_path: Path, bomb: bytes, load: Callable[[Path], Any]) -> None:
    for content in (bomb, as_npy(bomb), zipped(objects__npy=as_npy(bomb), settings__npy=as_npy(bomb))):
        path = tmp_path / "truth.npz"
        path.write_bytes(content)
        with pytest.raises(HspcError, match=r"truth\.npz"):
            load(path)


# ---- YAML ------------------------------------------------------------------------------------------------------------

TAGS = [
    "!!python/object/apply:os.mkdir [{sentinel}]",
    "!!python/object/new:os.mkdir [{sentinel}]",
    "!!python/name:os.mkdir",
    "!!python/module:os",
    "!include {sentinel}",
    "!!python/object/apply:subprocess.call [[mkdir, {sentinel}]]",
]


@pytest.mark.parametrize("tag", TAGS)
def test_yaml_tags_do_nothing_in_settings_gates_cards_and_delays(hspc_live, tmp_path, sentinel: Path, tag: str) -> None:
    value = tag.format(sentinel=sentinel)
    file = tmp_path / "hostile.yaml"
    for text in (f"name: {value}\n", f"sort: {value}\n", value + "\n", f"outlets: {value}\n", f"? {value}\n: 1\n"):
        file.write_text(text)
        for command in (("check", file), ("run", file), ("train", file), ("replay", file, "--config", file)):
            assert hspc_live(*command).code in (2, 3)
        assert hspc_live("control", "gates", file).code in (2, 7)
    folder = tmp_path / "model"
    shutil.copytree(find_model("twin-lsm"), folder)
    (folder / "card.yaml").write_text(f"name: {value}\n")
    said = hspc_live("check", shipped_config("rigs/twin_flow"), "--set", f"engine.model={folder}")
    assert said.code == 5 and "card.yaml" in said.err
    file.write_text(f"sort: {{timing: {{sort_delay_ms: {value}}}}}\n")
    assert hspc_live("run", shipped_config("rigs/twin_flow"), "--delay", file).code == 2


def test_a_cards_weights_lie_beside_it(tmp_path: Path) -> None:
    folder = model_with(tmp_path / "model", b"x")
    card = yaml.safe_load((folder / "card.yaml").read_text(encoding="utf-8"))
    for name in ("../model.safetensors", "/etc/passwd", "a/b", "..\\x", "C:x"):
        card["weights"]["file"] = name
        (folder / "card.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
        with pytest.raises(HspcError, match=r"weights\.file"):
            load_network(folder)


def test_the_settings_in_a_recording_reach_nothing_outside_it(tmp_path: Path, sentinel: Path) -> None:
    """Neither a file to write, nor devices and their libraries, nor a port, nor keys: a replay needs none of these."""
    hostile = {
        "name": "../../../sentinel",
        "camera": {"kind": "micromanager", "core": {"config": "/x.cfg", "adapters": str(sentinel)}},
        "record": {"path": str(sentinel)},
        "sorter": {"kind": "zmq", "address": "tcp://127.0.0.1:5570", "keys": {"secret": "/s", "allow": ["/p"]}},
        "door": {"listen": "tcp://0.0.0.0:5571", "keys": {"secret": "/s", "allow": ["/p"]}},
    }
    camera: dict[str, Any] = hostile["camera"]  # type: ignore[assignment]
    for kind in ("whole", "camera left out"):
        if kind != "whole":
            del hostile["camera"]
        try:
            settings = load_text(yaml.safe_dump(hostile), "a recording")
        except HspcError as error:
            assert kind == "whole" and "camera" in str(error) and camera  # not even a camera that fits
            continue
        replayed = _as_replay(settings, tmp_path / "a.rtdc", None, None, None, door=False)
        assert isinstance(replayed.camera, ReplayCamera) and isinstance(replayed.sorter, SimulatedSorter | NoSorter)
        assert replayed.record.path is None and replayed.door is None
        assert _as_replay(settings, tmp_path / "a.rtdc", None, None, None, door=True).door is not None, "when asked for"


# ---- HDF5 that leads outside -----------------------------------------------------------------------------------------


class Outside:
    """A named pipe: opening it to read lets the watcher open it to write."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.opened = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                os.close(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))
                self.opened = True
            except OSError:
                time.sleep(0.001)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    made = Outside(tmp_path / "outside.h5")
    yield made
    made.close()


def _external_link(file: h5py.File, name: str, at: Path) -> None:
    file[name] = h5py.ExternalLink(str(at), "/x")


def _soft_link_out(file: h5py.File, name: str, at: Path) -> None:
    file["hidden"] = h5py.ExternalLink(str(at), "/")
    file[name] = h5py.SoftLink("/hidden/x")


def _external_storage(file: h5py.File, name: str, at: Path) -> None:
    file.create_dataset(name, (4, 48, 48), "u1", external=[(str(at), 0, 4 * 48 * 48)])


def _virtual(file: h5py.File, name: str, at: Path) -> None:
    layout = h5py.VirtualLayout((4, 48, 48), "u1")
    layout[:] = h5py.VirtualSource(str(at), "x", (4, 48, 48))
    file.create_virtual_dataset(name, layout)


WAYS = [_external_link, _soft_link_out, _external_storage, _virtual]


@posix
def test_the_watcher_sees_a_reader(tmp_path: Path, outside: Outside) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        _external_storage(file, "image", outside.path)
    with h5py.File(tmp_path / "a.h5") as file:
        with pytest.raises(OSError, match="read"):
            file["image"][0]
    assert outside.opened


@posix
@pytest.mark.parametrize("way", WAYS)
def test_a_recording_that_leads_outside_is_refused_unread(
    hspc_live, tmp_path: Path, outside: Outside, way: Any
) -> None:
    for column in ("image", "mask", "time"):
        path = tmp_path / f"{column}.rtdc"
        with h5py.File(path, "w") as file:
            content = {
                "image": np.zeros((4, 48, 48), "u1"),
                "mask": np.zeros((4, 48, 48), "u1"),
                "time": np.arange(4.0),
            }
            for name, values in content.items():
                if name != column:
                    file[f"events/{name}"] = values
            file.require_group("events")
            way(file, f"events/{column}", outside.path)
            file.attrs["imaging:pixel size"], file.attrs["imaging:frame rate"] = 0.26, 500.0
        for command in (("inspect", path), ("replay", path), ("dataset", "inspect", path), ("segment", path)):
            said = hspc_live(*command)
            assert said.code != 0 and path.name in said.err, said
        hspc_live("recover", path)
    assert not outside.opened


@posix
@pytest.mark.parametrize("way", WAYS)
def test_crops_that_lead_outside_are_refused_unread(hspc_live, tmp_path: Path, outside: Outside, way: Any) -> None:
    path = tmp_path / "crops.h5"
    with h5py.File(path, "w") as file:
        file["label"] = file["group"] = np.zeros(4, np.int64)
        file.attrs["format"] = FORMAT
        file.attrs["label_names"] = ["a"]
        way(file, "image", outside.path)
    said = hspc_live("dataset", "inspect", path)
    assert said.code == 3 and ("leads out of the file" in said.err or "in other files" in said.err), said.err
    assert not outside.opened
