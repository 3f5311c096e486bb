"""Sizes by class: the numbers are those of scipy and of a hand calculation, and small groups are told, not tested."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.cbook import boxplot_stats
from matplotlib.image import imread
from scipy import stats

from hspc_live.core.significance import holm, stars
from hspc_live.report.size_statistics import compare_sizes, describe
from hspc_live.report.sizes import draw_sizes, mean_sem, p_words, sizes_figure

CLASSES = {
    "LT-HSC": [7.9, 8.1, 8.3, 8.0, 7.7, 8.2],
    "ST-HSC": [8.0, 8.2, 8.1, 7.8, 8.4],
    "MPP": [8.6, 8.4, 8.9, 8.3, 8.8, 8.5, 8.7],
}


def test_the_paper_s_tests_are_those_of_scipy():
    found = compare_sizes(CLASSES)
    f, p = stats.f_oneway(*CLASSES.values())
    assert (found.anova.f, found.anova.p) == pytest.approx((f, p))
    assert (found.anova.df_between, found.anova.df_within) == (2, 15)
    assert [(pair.first, pair.second) for pair in found.pairs] == [
        ("LT-HSC", "ST-HSC"),
        ("LT-HSC", "MPP"),
        ("ST-HSC", "MPP"),
    ]
    for pair in found.pairs:
        t, p = stats.ttest_ind(CLASSES[pair.first], CLASSES[pair.second])
        assert (pair.t, pair.p) == pytest.approx((t, p))
        assert pair.df == len(CLASSES[pair.first]) + len(CLASSES[pair.second]) - 2
        assert pair.interval_um[0] < pair.difference_um < pair.interval_um[1]
        assert pair.p_holm >= pair.p
    # two classes: F is t squared, and eta squared is F / (F + df)
    two = compare_sizes({name: CLASSES[name] for name in ("LT-HSC", "MPP")})
    assert two.anova.f == pytest.approx(two.pairs[0].t ** 2)
    assert two.anova.eta_squared == pytest.approx(two.anova.f / (two.anova.f + two.anova.df_within))


def test_welch_does_not_take_equal_variances():
    found = compare_sizes(CLASSES, "welch")
    for pair in found.pairs:
        t, p = stats.ttest_ind(CLASSES[pair.first], CLASSES[pair.second], equal_var=False)
        assert (pair.t, pair.p) == pytest.approx((t, p))


def test_a_class_in_numbers_worked_out_by_hand():
    group = describe("x", [1.0, 2.0, 3.0, 4.0, 100.0, math.nan, -1.0, 0.0, math.inf])
    assert (group.n, group.unusable, group.mean_um) == (5, 4, 22.0)
    assert group.sd_um == pytest.approx(math.sqrt((21**2 + 20**2 + 19**2 + 18**2 + 78**2) / 4))
    assert group.sem_um == pytest.approx(group.sd_um / math.sqrt(5))
    assert group.quartiles_um == (2.0, 3.0, 4.0)
    assert group.whiskers_um == (1.0, 4.0) and group.outliers == 1  # whiskers reach to -1 and 7


@given(st.lists(st.floats(2, 30), min_size=2, max_size=60))
@settings(max_examples=60, deadline=None)
def test_sem_and_box_are_those_of_scipy_and_matplotlib(values):
    """Box plots as everybody draws them: quartiles, whiskers to the outermost value within 1.5 × IQR, the rest dots."""
    group = describe("x", values)
    assert group.sem_um == pytest.approx(stats.sem(values), abs=1e-9)
    [box] = boxplot_stats(np.asarray(values), whis=1.5)
    assert group.quartiles_um == pytest.approx((box["q1"], box["med"], box["q3"]))
    assert group.whiskers_um == pytest.approx((box["whislo"], box["whishi"]))
    assert group.outliers == len(box["fliers"])


def test_mean_and_sem_have_the_same_decimals_and_p_reads_as_in_print():
    assert mean_sem(describe("x", [8.0, 8.4, 8.6])) == "8.33 ± 0.18"
    assert mean_sem(describe("x", [8.0, 8.001, 8.002])) == "8.001 ± 0.001"
    assert mean_sem(describe("x", [8.0])) == "8.00 ± –"
    assert [p_words(p) for p in (0.0304, 6.4e-24, 0.0)] == ["p = 0.030", "p = 6 × 10⁻²⁴", "p < 10⁻³⁰⁰"]


def test_stars_stand_over_their_pair():
    """One bracket a pair, each between its own two classes, none through another."""
    [axes, _] = sizes_figure(compare_sizes(CLASSES), "made up").axes
    marks = {text.get_position()[0]: text.get_text() for text in axes.texts}
    assert marks == {0.5: "n.s.", 1.5: "**", 1.0: "***"}
    brackets = [line for line in axes.lines if len(line.get_xdata()) == 4]
    assert len(brackets) == 3 and len({line.get_ydata()[1] for line in brackets}) == 2
    assert min(line.get_ydata().min() for line in brackets) > max(max(values) for values in CLASSES.values())
    assert axes.get_ylim()[1] > max(line.get_ydata().max() for line in brackets)
    assert [label.get_text().split("\n")[1] for label in axes.get_xticklabels()] == ["n = 6", "n = 5", "n = 7"]


def test_holm_is_the_textbook_s():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert [stars(p) for p in (0.0009, 0.009, 0.049, 0.05)] == ["***", "**", "*", "n.s."]


groups = st.dictionaries(
    st.text("abcXYZ µ", min_size=1, max_size=4),
    st.lists(st.floats(allow_nan=True, allow_infinity=True) | st.floats(5, 12), max_size=12),
    max_size=5,
)


@given(groups, st.sampled_from(["student", "welch"]))
@settings(max_examples=150, deadline=None)
def test_whatever_comes_is_described_and_what_cannot_be_tested_is_said(values, test):
    values = {name: [v for v in of if not 0 < v < 1e-3 and not v > 1e3] for name, of in values.items()}
    found = compare_sizes(values, test)
    assert [group.name for group in found.groups] == list(values)
    testable = 0
    for group in found.groups:
        assert group.n + group.unusable == len(values[group.name])
        if group.n >= 2 and group.sd_um:
            testable += 1
            low, high = group.whiskers_um
            q1, _, q3 = group.quartiles_um
            assert low <= q1 <= q3 <= high
        else:
            assert any(remark.startswith(f"{group.name}:") for remark in found.remarks)
    assert len(found.pairs) == (testable * (testable - 1) // 2 if testable > 1 else 0)
    assert (found.anova is None) == (testable < 2)
    if testable < 2:
        assert "nothing to compare" in found.remarks[-1]
    for pair in found.pairs:
        assert 0 <= pair.p <= pair.p_holm <= 1


def test_the_picture_is_drawn_as_png_and_svg_whatever_the_classes(tmp_path):
    rng = np.random.default_rng(1)
    many = {f"class {number}": rng.normal(8, 1, 5) for number in range(12)}
    odd = {"one": [8.0], "none": [], "same": [8.0, 8.0], "a name far too long for a tick": [7.0, 9.0, math.nan]}
    for number, classes in enumerate((CLASSES, many, odd)):
        folder = tmp_path / str(number)
        folder.mkdir()
        png, svg = draw_sizes(compare_sizes(classes), folder, "made up")
        assert imread(png).std() > 0.01 and svg.read_text(encoding="utf-8").count("<path") > 10
    assert draw_sizes(compare_sizes({"none": []}), tmp_path, "made up") == []


def test_every_cell_is_a_dot(tmp_path):
    """A cell more, and the picture changes where it lies."""
    base = [8.0, 8.1, 8.2, 8.3, 9.9]
    pictures = []
    for number, values in enumerate((base, [*base, 9.4])):
        folder = tmp_path / str(number)
        folder.mkdir()
        pictures.append(imread(draw_sizes(compare_sizes({"a": values, "b": [8.0, 9.0]}), folder, "made up")[0]))
    assert (pictures[0] != pictures[1]).any()
