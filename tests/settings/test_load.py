"""Settings files, environment and command line: what is read, what wins, and what a mistake is told."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel

from hspc_live.core.errors import SettingsError
from hspc_live.settings.base import Section
from hspc_live.settings.devices import ReplayCamera, SimulatedCamera
from hspc_live.settings.load import PATH_KEYS, load, load_run, load_section, load_text
from hspc_live.settings.schema import NullEngine, RunSettings, TorchEager
from hspc_live.settings.shipped import shipped_config, shipped_configs
from hspc_live.settings.sort import ScoreGate


def written(tmp_path: Path, text: str | bytes) -> Path:
    file = tmp_path / "rig.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def complaint(tmp_path: Path, text: str | bytes, *overrides: str, **environ: str) -> list[str]:
    """The lines of the error that `text` raises, without the folder."""
    with pytest.raises(SettingsError) as caught:
        load(written(tmp_path, text), overrides, environ)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


# ---- layers ---------------------------------------------------------------------------------------------------------


def test_file_then_environment_then_command_line(tmp_path: Path) -> None:
    file = written(tmp_path, "sort: {timing: {junction_um: 1000, k_sigma: 1, refractory_ms: 1}}")
    environ = {"HSPC_LIVE__SORT__TIMING__K_SIGMA": "2", "HSPC_LIVE__SORT__TIMING__REFRACTORY_MS": "2"}
    timing = load(file, ["sort.timing.refractory_ms=3"], environ).sort.timing
    assert (timing.junction_um, timing.k_sigma, timing.refractory_ms) == (1000.0, 2.0, 3.0)


def test_only_our_own_variables_are_read(tmp_path: Path) -> None:
    others = {"HSPC_LIVE_NAME": "x", "NAME": "y", "HSPC_REAL_DATA": "z"}
    assert load(written(tmp_path, "{}"), environ=others) == RunSettings()


def test_an_override_reaches_into_a_list(tmp_path: Path) -> None:
    text = "sort: {outlets: [{name: a, gate: {kind: score, class_name: MPP}}]}"
    settings = load(written(tmp_path, text), ["sort.outlets.0.mode=recovery", "sort.outlets.0.gate.min=0.9"], {})
    assert settings.sort.outlets[0].mode == "recovery"
    assert settings.sort.outlets[0].gate == ScoreGate(kind="score", class_name="MPP", min=0.9)


def test_another_kind_starts_its_section_afresh(tmp_path: Path) -> None:
    file = written(tmp_path, "engine: {kind: torch, threads: 4}")
    assert load(file, ["engine.classes=[A, B]", "engine.kind=null"], {}).engine == NullEngine(
        kind="null", classes=("A", "B")
    )
    assert load(file, ["engine.kind=torch"], {}).engine == TorchEager(threads=4)


def test_values_take_the_type_of_their_key() -> None:
    settings = load_text(
        "{}", "nothing",
        ["name=7", "sort.timing.junction_um=1e4", "pipeline.workers=3", "record.frames=no", "sort.total_limit=null",
         "population.prevalence={LT-HSC: 0.25, MPP: 0.75}", "sort.timing.sort_delay_ms=null"],
    )  # fmt: skip
    assert (settings.name, settings.sort.timing.junction_um, settings.pipeline.workers) == ("7", 10000.0, 3)
    assert settings.record.frames is False
    assert settings.sort.total_limit is None
    assert settings.population.prevalence == {"LT-HSC": 0.25, "MPP": 0.75}


def test_dates_and_exponents_survive_yaml(tmp_path: Path) -> None:
    text = """
sort:
  timing: {sort_delay_ms: 5e2, sort_delay_velocity_um_s: 4000, sort_delay_date: 2026-03-01T10:00:00}
"""
    timing = load(written(tmp_path, text), environ={}).sort.timing
    assert timing.sort_delay_date == datetime(2026, 3, 1, 10)
    assert timing.sort_delay_ms == 500.0


@hypothesis_settings(deadline=None)
@given(
    st.floats(1.0, 1e6), st.integers(1, 64), st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1)
)
def test_settings_survive_being_recorded(junction_um: float, workers: int, name: str) -> None:
    settings = load_text(
        "{}",
        "nothing",
        [f"sort.timing.junction_um={300 + junction_um}", f"pipeline.workers={workers}", f'name="{name}"'],
    )
    assert settings.sort.timing.junction_um == 300 + junction_um
    assert load_text(settings.model_dump_json(), "run.rtdc") == settings


def test_recorded_settings_ignore_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSPC_LIVE__NAME", "from-the-environment")
    assert load_text('{"name": "recorded"}', "run.rtdc").name == "recorded"
    assert load_text("{}", "run.rtdc", ["name=new"]).name == "new"


# ---- paths ----------------------------------------------------------------------------------------------------------


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    file = written(tmp_path, "camera: {kind: replay, path: a/b.rtdc}\nengine: {model: ./mine}\nrecord: {path: /x.rtdc}")
    monkeypatch.chdir(tmp_path / "elsewhere")
    settings = load(file, environ={})
    assert settings.camera == ReplayCamera(kind="replay", path=tmp_path / "a/b.rtdc")
    assert settings.engine == TorchEager(model=str(tmp_path / "mine"))
    assert settings.record.path == Path("/x.rtdc")
    assert load(file, ["record.path=here.rtdc"], {}).record.path == Path("here.rtdc")


def test_a_shipped_models_name_is_no_path(tmp_path: Path) -> None:
    assert load(written(tmp_path, "engine: {model: twin-lsm}"), environ={}).engine == TorchEager(model="twin-lsm")


def test_every_path_in_the_schema_is_resolved() -> None:
    found: set[tuple[str, ...]] = set()

    def walk(model: type[BaseModel], at: tuple[str, ...]) -> None:
        for name, field in model.model_fields.items():
            pending: list[Any] = [field.annotation]
            while pending:
                part = pending.pop()
                pending.extend(get_args(part))
                if part is Path:
                    found.add((*at, name))
                elif isinstance(part, type) and issubclass(part, BaseModel) and len(at) < 6:
                    walk(part, (*at, name))

    walk(RunSettings, ())
    assert found <= set(PATH_KEYS)


# ---- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("sort:\n  timing:\n    junction_um: abc\n",
         "3: sort.timing.junction_um: expected a number, found 'abc'"),
        ("sort:\n  timing: {juncton_um: 3}\n", "2: sort.timing.juncton_um: unknown key; did you mean 'junction_um'?"),
        ("pipeline: {workers: 1.5}", "1: pipeline.workers: expected a whole number, found 1.5"),
        ("pipeline: {workers: yes}", "1: pipeline.workers: expected a whole number, found 'true'"),
        ("pipeline: {workers: 0}", "1: pipeline.workers: must be at least 1, found 0"),
        ("pipeline: {workers: 65}", "1: pipeline.workers: must be at most 64, found 65"),
        ("pipeline: 3", "1: pipeline: expected a section (`key: value` lines), found 3"),
        ("record: {frames: 7}", "1: record.frames: expected true or false, found 7"),
        ("name: [a]", "1: name: expected text, found a list"),
        ("sort: {track: {velocity_um_s: .nan}}", "1: sort.track.velocity_um_s: expected a finite number, found nan"),
        ("rig: {modality: phase}", "1: rig.modality: expected 'dic' or 'brightfield', found 'phase'"),
        ("camera: {kind: film}", "1: camera.kind: expected one of simulated, replay, looped, micromanager, "
             "found 'film'"),
        ("camera: {kind: replay}", "1: camera.path: missing; this key has no default"),
        ("camera: {twin: {seeed: 3}}", "1: camera.twin.seeed: unknown key; did you mean 'seed'?"),
        ("sort: {outlets: 3}", "1: sort.outlets: expected a list, found 3"),
        ("sort:\n  outlets:\n    - {name: a, gate: {kind: and, of: [{kind: score, class_name: X, min: two}]}}",
         "3: sort.outlets.0.gate.of.0.min: expected a number, found 'two'"),
        ("sort: {outlets: [{name: a, gate: {min: 0.5}}]}",
         "1: sort.outlets.0.gate.kind: missing; expected one of score, promise, range, polygon, top_percent, and, or, "
         "not"),
        ("population: {prevalence: {MPP: 0.5}}", "1: population: prevalence must sum to 1, not 0.5"),
        ("population: {prevalence: {MPP: 1.5, LT-HSC: -0.5}}",
         "1: population.prevalence.LT-HSC: must be at least 0, found -0.5"),
        ("segment: {min_diameter_um: 9, max_diameter_um: 8}",
         "1: segment: min_diameter_um must be smaller than max_diameter_um"),
        # well-formed, and together impossible
        ("sort: {timing: {junction_um: 100}}",
         "1: sort.timing.junction_um: must lie beyond sort.close.decision_line_um (220 µm), found 100"),
        ("sort: {close: {decision_line_um: 300}}",
         "1: sort.close.decision_line_um: must lie inside the frame, which is 256 µm wide, found 300"),
        ("sort: {timing: {commit_lead_ms: 5}}",
         "1: sort.timing.commit_lead_ms: must be at least sort.timing.device_lead_ms (20 ms), or every command "
         "comes too late, found 5"),
        ("sort: {timing: {min_pulse_ms: 50}}",
         "1: sort.timing.min_pulse_ms: must be at most sort.timing.max_pulse_ms (40), found 50"),
        ("sort: {timing: {sort_delay_ms: 50}}",
         "1: sort.timing.sort_delay_velocity_um_s: missing; a calibrated delay and the velocity it was measured "
         "at belong together"),
        ("sorter: {kind: simulated, min_lead_ms: 30}",
         " sort.timing.device_lead_ms: must be at least sorter.min_lead_ms (30 ms), or the sorter refuses every "
         "command, found 20"),
        ("sorter: {kind: serial, outlets: {a: 1}}", "1: sorter.port: missing; this key has no default"),
        ("sorter: {kind: serial, port: COM5, outlets: {b: 1}}\n"
         "sort: {outlets: [{name: a, gate: {kind: score, class_name: MPP}}]}",
         "2: sort.outlets.0.name: 'a' has no output at the sorter: give it one in sorter.outlets, e.g. a: 1"),
        ("sorter: {kind: serial, port: COM5, outlets: {a: 0}}",
         "1: sorter.outlets.a: must be at least 1, found 0"),
        ("rig: {modality: brightfield}", "1: rig.modality: is 'brightfield', but camera.twin.modality films 'dic'"),
        ("engine: {kind: null, classes: [A, A]}", "1: engine.classes: needs at least two classes, each named once"),
        ("engine: {buckets: [4, 2]}", "1: engine.buckets: must be batch sizes of at least 1, growing, each once"),
        ("engine: {kind: null}\npopulation: {prevalence: {LT: 1.0}}",
         "2: population.prevalence.LT: no class of the engine; it knows LT-HSC, ST-HSC, MPP"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_line_key_and_mend(tmp_path: Path, text: str, rest: str) -> None:
    assert complaint(tmp_path, text) == [f"rig.yaml:{rest}"]


def test_every_mistake_is_listed_at_once(tmp_path: Path) -> None:
    text = "populaton: {}\nsort:\n  track: {velocity_um_s: fast}\n  close: {views: 0}\n"
    lines = complaint(tmp_path, text, "pipeline.workers=many", "oops", HSPC_LIVE__RECORD__FLUSH_S="-1")
    assert sorted(lines) == [
        "command line: 'oops': expected `key.path=value`",
        "command line: pipeline.workers: expected a whole number, found 'many'",
        "environment variable HSPC_LIVE__RECORD__FLUSH_S: record.flush_s: must be greater than 0, found '-1'",
        "rig.yaml:1: populaton: unknown key; did you mean 'population'?",
        "rig.yaml:3: sort.track.velocity_um_s: expected a number, found 'fast'",
        "rig.yaml:4: sort.close.views: must be at least 1, found 0",
    ]


def test_two_outlets_of_one_name(tmp_path: Path) -> None:
    outlet = "{name: a, gate: {kind: score, class_name: MPP}}"
    assert complaint(tmp_path, f"sort:\n  outlets:\n    - {outlet}\n    - {outlet}\n") == [
        "rig.yaml:4: sort.outlets.1.name: the name 'a' is taken by another outlet"
    ]


def test_two_outlets_at_one_output_of_the_sorter(tmp_path: Path) -> None:
    assert complaint(tmp_path, "sorter: {kind: serial, port: COM5, outlets: {a: 1, b: 1}}") == [
        "rig.yaml:1: sorter.outlets.a: output 1 is that of b, too",
        "rig.yaml:1: sorter.outlets.b: output 1 is that of a, too",
    ]


def test_overrides_that_lead_nowhere(tmp_path: Path) -> None:
    lines = complaint(
        tmp_path, "name: x", "name.first=y", "sort.outlets.2.mode=purity", "sort..x=1", HSPC_LIVE__ENGINE__KIN="null"
    )
    assert lines == [
        "command line: the key path 'sort..x' has an empty part",
        "command line: name.first: there is no section name",
        "command line: sort.outlets.2.mode: there is no section sort.outlets",
        "environment variable HSPC_LIVE__ENGINE__KIN: engine.kin: unknown key; did you mean 'kind'?",
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (b"", "rig.yaml: the file is empty"),
        (b"# only a comment\n", "rig.yaml: the file is empty"),
        (b"\x89HDF\r\n\x1a\n\x00\x00\xff", "rig.yaml: not a text file in UTF-8"),
        (b"\x00\x01\x02", "rig.yaml: not a text file"),
        (b"just words", "rig.yaml:1: expected `key: value` lines, found the text 'just words'"),
        (b"- a\n- b\n", "rig.yaml:1: expected `key: value` lines, found a list"),
        (b"name: [a", "rig.yaml:1: not valid YAML"),
        (b"name: a\nname: b\n", "rig.yaml:2: name: the key stands here twice (first on line 1)"),
        (
            b"name: !!python/object/apply:os.getcwd []\n",
            "rig.yaml:1: the tag 'tag:yaml.org,2002:python/object/apply:os.getcwd'",
        ),
        (b"name: !mine x\n", "rig.yaml:1: the tag '!mine' is not allowed"),
        (b"sort: &a {}\nrecord: *a\n", "rig.yaml:2: anchors and aliases are not allowed"),
        (b"? [a, b]\n: 3\n", "rig.yaml:1: a key must be a word, found a list"),
        (b"name: " + b"[" * 5000, "rig.yaml:1: nested deeper than 32 levels"),
        (b"name: " + b"x" * 1_000_001, "rig.yaml: larger than 1000 kB"),
        (b"name: a\n---\nname: b\n", "rig.yaml:2: not valid YAML"),
    ],
)
def test_what_is_no_settings_file_is_said(tmp_path: Path, text: bytes, part: str) -> None:
    assert complaint(tmp_path, text)[0].startswith(part)


def test_a_missing_file_a_folder_and_an_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml: there is no such settings file"):
        load(tmp_path / "nowhere.yaml", environ={})
    with pytest.raises(SettingsError, match="is a folder"):
        load(tmp_path, environ={})
    with pytest.raises(SettingsError, match="cannot be read"):
        load(written(tmp_path, "name: x") / "below", environ={})


class Inner(Section):
    epochs: int


class Training(Section):
    phases: tuple[Inner, ...]
    seed: int = 1


def test_another_kind_of_file_is_told_its_mistakes_in_the_same_words(tmp_path: Path) -> None:
    assert load_section(written(tmp_path, "phases: [{epochs: 3}]"), Training) == Training(phases=(Inner(epochs=3),))
    with pytest.raises(SettingsError) as caught:
        load_section(written(tmp_path, "sed: 2\nphases:\n  - {epochs: many}\n"), Training)
    assert sorted(str(caught.value).replace(f"{tmp_path}/", "").splitlines()) == [
        "rig.yaml:1: sed: unknown key; did you mean 'seed'?",
        "rig.yaml:3: phases.0.epochs: expected a whole number, found 'many'",
    ]


def test_settings_cannot_change_after_loading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RunSettings().name = "other"  # type: ignore[misc]  # that it is forbidden is the point


# ---- what is shipped ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in shipped_configs() if name.split("/")[0] not in ("train", "faults")])
def test_every_shipped_run_config_loads(name: str) -> None:
    load_run(shipped_config(name), environ={})


def test_the_demo_declares_the_population_that_flows() -> None:
    settings = load(shipped_config("rigs/twin_flow"), environ={})
    assert isinstance(settings.camera, SimulatedCamera)
    twin, mix = settings.camera.twin, settings.camera.twin.mix
    cells = mix.lt_hsc + mix.st_hsc + mix.mpp
    assert settings.population.prevalence == pytest.approx(
        {"LT-HSC": mix.lt_hsc / cells, "ST-HSC": mix.st_hsc / cells, "MPP": mix.mpp / cells}, abs=1e-4
    )
    assert settings.population.strangers == pytest.approx(mix.dead / (cells + mix.dead), abs=1e-3)
    assert settings.population.events_per_s == twin.events_per_s
    assert settings.sort.timing.junction_um == twin.junction_um


def test_a_misspelt_config_name_gets_the_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean 'rigs/twin_flow'"):
        shipped_config("rigs/twin_flw")
