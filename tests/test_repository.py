"""The repository as a whole: import contracts, what the wheel carries, one version, nothing of anybody's machine."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hspc_live.settings.shipped import config_folder, shipped_configs
from hspc_models.train_settings import load_train_settings

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def run(*command: str, cwd: Path = ROOT) -> str:
    """Standard output of a command; fails with everything it said."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def kept_files() -> list[Path]:
    """Text files of the repository, committed or about to be."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git clone")
    names = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    paths = [ROOT / name for name in names if name]
    return [path for path in paths if path.is_file() and path.suffix not in {".safetensors", ".png", ".rtdc", ".npz"}]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree with the build backend that is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
        "--disable-pip-version-check", "--wheel-dir", str(folder), ".")  # fmt: skip
    (file,) = folder.glob("*.whl")
    return file


def test_imports_go_down_only() -> None:
    run(str(Path(sys.executable).parent / "lint-imports"), "--no-cache")


def test_every_training_config_loads() -> None:
    names = [name for name in shipped_configs() if name.startswith("train/")]
    assert names
    for name in names:
        load_train_settings(config_folder() / f"{name}.yaml")


def test_the_wheel_carries_what_a_user_needs_without_a_clone(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for config in shipped_configs():
        assert f"hspc_live/configs/{config}.yaml" in names
    weights = sorted((ROOT / "models/hspc_models/weights").rglob("*.*"))
    assert {file.suffix for file in weights} >= {".yaml", ".safetensors"}, "the demonstration model is missing"
    for file in weights:
        assert file.relative_to(ROOT / "models").as_posix() in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {
        "hspc_live",
        "hspc_drivers",
        "hspc_models",
        f"hspc_live-{PYPROJECT['project']['version']}.dist-info",
    }


def test_configs_are_found_from_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "from hspc_live.settings.shipped import *; from hspc_live.settings.load import load;"
        "print(load(shipped_config('rigs/twin_flow')).name, config_folder())"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["twin-flow", str(tmp_path / "site/hspc_live/configs")]


def test_one_version_everywhere() -> None:
    version = PYPROJECT["project"]["version"]
    assert importlib.metadata.version("hspc-live") == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    released = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert released is not None
    assert released[1] == version


def test_the_paper_is_the_same_everywhere() -> None:
    (paper,) = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    assert PYPROJECT["project"]["urls"]["Paper"] == f"https://doi.org/{paper['doi']}"


def test_nothing_names_a_machine_or_a_package_index() -> None:
    """A path or a host of whoever wrote it works for nobody else; `.ci/run` and make find everything themselves."""
    home = "/".join(["", "(?:home|root|Users|work|opt)", r"\w"])
    index = r"(?:pypi|pythonhosted|conda)\." + "(?:org|anaconda)|files" + r"\.pythonhosted|extra-index" + "-url"
    pattern = re.compile(rf"(?<![\w.}}]){home}|{index}")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in kept_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_nobody_pickles() -> None:
    sources = [path for path in kept_files() if path.suffix == ".py" and ROOT / "tests" not in path.parents]
    pattern = re.compile(
        r"\bpickle\.(?:loads?|dumps?|Pickler|Unpickler)\b|^\s*(?:import|from) (?:shelve|marshal|dill|joblib)\b"
        r"|allow_pickle=True|weights_only=False|\.(?:send|recv)_pyobj",
        re.MULTILINE,
    )
    assert [path.name for path in sources if pattern.search(path.read_text(encoding="utf-8"))] == []


def _calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a source file, by its dotted name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_nothing_is_opened_in_a_way_that_could_run_what_a_file_says() -> None:
    """Each reader is named with its safe way, whatever its default is or will be."""
    wanted = {"torch.load": "weights_only=True", "np.load": "allow_pickle=False", "numpy.load": "allow_pickle=False"}
    never = re.compile(
        r"(?:^|\.)(?:unsafe_load|full_load|UnsafeLoader|FullLoader|read_pickle|eval|exec|__import__|run_path|torchscript)$"
        r"|^yaml\.load(?:_all)?$|^torch\.(?:jit|export|package)\.load|^(?:os\.system|subprocess\.getoutput)$"
    )
    innocent = re.compile(r"\.(?:eval|exec)$")  # of a network, of a window: they run nothing
    wrong: list[str] = []
    seen: set[str] = set()
    for path in kept_files():
        if path.suffix != ".py" or ROOT / "tests" in path.parents:
            continue
        for name, call in _calls(path):
            keywords = {f"{word.arg}={ast.unparse(word.value)}" for word in call.keywords}
            seen |= {name} & set(wanted)
            shell = "shell=True" in keywords
            unsafe = never.search(name) and not innocent.search(name)
            if shell or unsafe or (name in wanted and wanted[name] not in keywords):
                wrong.append(f"{path.relative_to(ROOT)}:{call.lineno}: {ast.unparse(call)[:80]}")
    assert wrong == []
    assert seen == {"torch.load", "np.load"}, "the rule looks for what is there"


@pytest.mark.parametrize("target", ["demo", "test", "fuzz", "check", "bench", "demo-model", "screens", "soak"])
def test_make_knows_what_to_do(target: str, tmp_path: Path) -> None:
    """Every target first makes the environment where there is none."""
    fresh = tmp_path / "fresh"
    said = run("make", "--dry-run", f"VENV={fresh}", f"PYTHON={sys.executable}", target)
    at = [said.index(step) for step in (f"-m venv {fresh}", "pip install", f"touch {fresh}/.installed")]
    assert at == sorted(at)
    assert f"{fresh}/bin/" in said[at[-1] :], "nothing is done after the set-up"
    (fresh / "bin").mkdir(parents=True)
    (fresh / ".installed").touch()
    assert "pip install" not in run("make", "--dry-run", f"VENV={fresh}", f"PYTHON={sys.executable}", target)


def test_ci_is_runnable_and_strict() -> None:
    script = ROOT / ".ci/run"
    text = script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK)
    run("bash", "-n", str(script))
    assert "set -euo pipefail" in text
    assert "make check" in text
    assert "make test" in text
    assert "HSPC_REAL_DATA" in text


def test_links_in_the_docs_lead_somewhere() -> None:
    pages = [path for path in kept_files() if path.suffix == ".md"]
    assert len(pages) > 5
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not target.startswith(("http://", "https://", "mailto:")) and not (page.parent / target).exists()
    ]
    assert broken == []
