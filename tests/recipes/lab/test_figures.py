import math

import numpy as np
import pytest

from recipes.lab import figures

RATIOS = {
    "train": {"auto": {"8x8": 1.1, "4x4": 1.3}, "patches": {"8x8": 2.0, "4x4": 3.0}},
    "inference": {"auto": {"8x8": 1.0, "4x4": 1.2}},
}


def test_costs_have_a_panel_a_mode_and_a_line_a_candidate():
    figure = figures.cost_by_stage(RATIOS)
    train, inference = figure.axes
    assert [axes.get_title() for axes in (train, inference)] == list(RATIOS)
    drawn = {line.get_label(): list(line.get_ydata()) for line in train.get_lines()[:2]}
    assert drawn == {"auto": [1.1, 1.3], "patches": [2.0, 3.0]}
    assert train.get_lines()[0].get_color() == inference.get_lines()[0].get_color()
    # The line at 1 has no name; the legend names each candidate once.
    assert list(train.get_lines()[2].get_ydata()) == [1, 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["auto", "patches"]


def test_costs_refuse_nothing_to_draw():
    with pytest.raises(ValueError, match="must have a mode to draw. Received: ratios={}"):
        figures.cost_by_stage({})


def test_histograms_have_a_panel_each_with_its_outlines():
    panels = {"one": {"a": [1, 2], "b": [3, 4]}, "two": {"a": [5, 6]}}
    figure = figures.histograms(panels, [0, 0.5, 1], xlabel="tau", ylabel="images")
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    outlines = [patch.get_data() for patch in figure.axes[0].patches]
    np.testing.assert_array_equal([outline.values for outline in outlines], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(outlines[0].edges, [0, 0.5, 1])


def test_histograms_refuse():
    with pytest.raises(ValueError, match="a panel to draw"):
        figures.histograms({}, [0, 1], "x", "y")
    with pytest.raises(ValueError, match="one fewer than edges. Received: 2 counts of 'a'"):
        figures.histograms({"one": {"a": [1, 2]}}, [0, 1], "x", "y")


def test_norms_draw_what_is_positive_and_finite():
    runs = {
        "add": [{"largest": [1.0, 2.0, 3.0]}, {"largest": [1.0, 1.0, 1.0]}],
        "multiply": [{"largest": [1.0, None, 0.0, math.inf]}],
    }
    (axes,) = figures.norms_by_depth(runs, limits={"limit": 10.0}).axes
    first, second, third, limit = (line.get_ydata() for line in axes.get_lines())
    np.testing.assert_array_equal(first, [1, 2, 3])
    np.testing.assert_array_equal(second, [1, 1, 1])
    np.testing.assert_array_equal(third, [1, np.nan, np.nan, np.nan])
    assert set(limit) == {10}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "add",
        "multiply",
        "limit",
    ]


def test_norms_refuse_nothing():
    with pytest.raises(ValueError, match="at least one run. Received"):
        figures.norms_by_depth({"add": []})
