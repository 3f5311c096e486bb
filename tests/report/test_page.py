"""The page of a report: opens without a network, whatever names people give their classes."""

import json
import re
from pathlib import Path

import pytest

from hspc_live.core.errors import OutputError
from hspc_live.report import style
from hspc_live.report.page import Panel, write_page


def test_the_page_holds_its_figures_itself(tmp_path: Path) -> None:
    figure = style.new_figure(2.0)
    picture = style.save(figure, tmp_path / "roc.png")
    panel = Panel("ROC", ("What it shows.",), ("class", "AUC"), (("LT-HSC", "0.91"),), (picture,))
    metrics, page = write_page(tmp_path, "LSM model", "twin, n = 12", [panel], {"n": 12, "auc": {"LT-HSC": 0.91}})
    picture.unlink()
    html = page.read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert len(sources) == 1
    assert sources[0].startswith("data:image/png;base64,")
    assert "<td>0.91</td>" in html
    assert json.loads(metrics.read_text(encoding="utf-8")) == {"n": 12, "auc": {"LT-HSC": 0.91}}


def test_names_from_data_are_no_markup(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>"
    _, page = write_page(tmp_path, name, name, [Panel(name, (name,), (name,), ((name,),))], {name: name})
    assert "<script>" not in page.read_text(encoding="utf-8")


def test_what_is_no_number_becomes_null(tmp_path: Path) -> None:
    metrics, _ = write_page(tmp_path, "t", "s", [], {"auc": {"LT-HSC": float("nan")}, "list": [float("inf"), 1.0]})
    assert json.loads(metrics.read_text(encoding="utf-8")) == {"auc": {"LT-HSC": None}, "list": [None, 1.0]}


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        write_page(tmp_path / "nowhere", "t", "s", [], {})
