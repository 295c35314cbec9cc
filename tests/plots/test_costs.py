import pytest

from keras_fmm import plots

RATIOS = {
    "train": {"auto": {"8x8": 1.1, "4x4": 1.3}, "patches": {"8x8": 2.0, "4x4": 3.0}},
    "inference": {"auto": {"8x8": 1.0, "4x4": 1.2}},
}


def test_draws_a_panel_a_mode_and_a_line_a_candidate():
    figure = plots.cost_by_stage(RATIOS)
    train, inference = figure.axes
    assert [axes.get_title() for axes in (train, inference)] == list(RATIOS)
    drawn = {line.get_label(): list(line.get_ydata()) for line in train.get_lines()[:2]}
    assert drawn == {"auto": [1.1, 1.3], "patches": [2.0, 3.0]}
    assert train.get_lines()[0].get_color() == inference.get_lines()[0].get_color()
    # The line at 1 has no name; the legend names each candidate once.
    assert list(train.get_lines()[2].get_ydata()) == [1, 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["auto", "patches"]


def test_refuses_nothing_to_draw():
    with pytest.raises(ValueError, match="must have a mode to draw. Received: ratios={}"):
        plots.cost_by_stage({})
