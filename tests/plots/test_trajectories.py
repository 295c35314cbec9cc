import numpy as np
import pytest

from keras_fmm import plots

RNG = np.random.default_rng(0)
VALUES = {"plain": RNG.normal(size=(6, 3)), "squeeze_excite": RNG.normal(size=(9, 3))}


def curves(axes):
    return [line for line in axes.get_lines() if not line.get_label().startswith("_")]


def test_draws_each_neuron_of_each_model_round_the_ellipse():
    figure = plots.curves_along(VALUES, labels=["cat", "dog", "cow"])
    for axes, (name, values) in zip(figure.axes, VALUES.items(), strict=True):
        assert axes.get_title() == name
        for line, neuron in zip(curves(axes), values.T, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), [*neuron, neuron[0]])
            np.testing.assert_allclose(line.get_xdata(), np.linspace(0, 1, len(values) + 1))
        marks = [line.get_xdata()[0] for line in axes.get_lines() if line not in curves(axes)]
        np.testing.assert_allclose(marks, [0, 1 / 3, 2 / 3, 1])
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "b", "c", "a"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cat", "dog", "cow"]
    assert figure.axes[0].get_ylabel() == "logits"
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    first, second = plots.curves_along(VALUES, same_scale=False).axes
    assert first.get_ylim() != second.get_ylim()


def test_classes_are_numbered_and_those_of_the_widest_model_named():
    figure = plots.curves_along({"few": np.zeros((3, 2)), "many": np.zeros((3, 12))})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        str(number) for number in range(12)
    ]
    assert curves(figure.axes[1])[11].get_linestyle() == "--"


def test_is_saved(tmp_path):
    path = plots.save_figure(plots.curves_along(VALUES), tmp_path / "curves.png")
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": {}}, "must have a model to draw"),
        ({"values": {"plain": np.zeros((2, 6, 3))}}, r"shape \(2, 6, 3\) of 'plain'. Give one of"),
        ({"values": {"plain": np.zeros((0, 3))}}, r"shape \(0, 3\) of 'plain'"),
        ({"values": VALUES, "labels": ["cat"]}, "one for each class. Received: 1 for the 3"),
        ({"values": VALUES, "samples": ["a", "b"]}, "`samples` must be three names"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plots.curves_along(**arguments)


@pytest.mark.parametrize("names", [{"labels": "abc"}, {"samples": "abc"}, {"labels": {1, 2, 3}}])
def test_names_have_an_order_and_are_no_letters(names):
    with pytest.raises(TypeError, match=f"`{next(iter(names))}` must be a list or tuple"):
        plots.curves_along(VALUES, **names)
