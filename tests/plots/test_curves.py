import numpy as np
import pytest

from keras_fmm import plots

HISTORIES = {
    "plain": {"loss": [2.0, 1.0], "val_loss": [2.5, 1.5], "accuracy": [0.1, 0.5]},
    "squeeze_excite": {"loss": [1.8, 0.9], "val_loss": [2.1, 1.2], "accuracy": [0.2, 0.6]},
}


def test_draws_what_the_histories_hold():
    figure = plots.training_curves(HISTORIES)
    loss, accuracy = figure.axes
    drawn = [list(line.get_ydata()) for line in loss.get_lines()]
    assert drawn == [[2.5, 1.5], [2.0, 1.0], [2.1, 1.2], [1.8, 0.9]]
    assert [line.get_linestyle() for line in loss.get_lines()] == ["-", "--"] * 2
    assert [list(line.get_xdata()) for line in loss.get_lines()] == [[1, 2]] * 4
    assert [text.get_text() for text in loss.get_legend().get_texts()] == list(HISTORIES)
    assert accuracy.get_ylabel() == "accuracy"


def test_refuses_a_metric_that_no_history_has():
    with pytest.raises(ValueError, match=r"'auc' is in none; the histories have \['accuracy'"):
        plots.training_curves(HISTORIES, metrics=["auc"])


def test_saves_a_picture_and_refuses_an_unknown_format(tmp_path):
    figure = plots.training_curves(HISTORIES)
    path = plots.save_figure(figure, tmp_path / "curves.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="not supported"):
        plots.save_figure(figure, tmp_path / "curves.doc")
    assert list(tmp_path.iterdir()) == [path]


def test_one_metric_is_given_as_a_list():
    with pytest.raises(
        TypeError, match="`metrics` must be a list or tuple of str. Received: .*'loss'"
    ):
        plots.training_curves(HISTORIES, metrics="loss")


def test_an_epoch_without_a_number_is_a_gap():
    figure = plots.training_curves({"a": {"loss": [2, None, 1, float("nan")]}}, metrics=["loss"])
    _, drawn = figure.axes[0].get_lines()
    np.testing.assert_array_equal(drawn.get_ydata(), [2, np.nan, 1, np.nan])


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ([1j, 2], TypeError),
        (np.ones(2, "complex64"), TypeError),
        (["x"], TypeError),
        ("12", TypeError),
        ({"x": 1}, TypeError),
        (3, TypeError),
        (None, TypeError),
        ([[1, 2], [3, 4]], ValueError),
        ([[1], [1, 2]], ValueError),
    ],
    ids=str,
)
@pytest.mark.parametrize("key", ["loss", "val_loss"])
def test_what_is_no_number_an_epoch(key, values, error):
    with pytest.raises(error, match=rf"`histories\['a'\]\['{key}'\]` must .* Received: .*\. "):
        plots.training_curves({"a": {key: values}}, metrics=["loss"])
