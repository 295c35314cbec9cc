import numpy as np
import pytest

from keras_fmm import plots


def test_draws_a_panel_each_with_its_outlines():
    panels = {"one": {"a": [1, 2], "b": [3, 4]}, "two": {"a": [5, 6]}}
    figure = plots.histograms(panels, [0, 0.5, 1], xlabel="tau", ylabel="images")
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    outlines = [patch.get_data() for patch in figure.axes[0].patches]
    np.testing.assert_array_equal([outline.values for outline in outlines], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(outlines[0].edges, [0, 0.5, 1])


def test_refuses():
    with pytest.raises(ValueError, match="a panel to draw"):
        plots.histograms({}, [0, 1], "x", "y")
    with pytest.raises(ValueError, match="one fewer than edges. Received: 2 counts of 'a'"):
        plots.histograms({"one": {"a": [1, 2]}}, [0, 1], "x", "y")
