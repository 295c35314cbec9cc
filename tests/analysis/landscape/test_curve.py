import keras
import numpy as np
import pytest
from keras import layers

from keras_fmm import models
from keras_fmm.analysis import curve, ellipse

RNG = np.random.default_rng(0)
LINES = np.stack([ellipse(*RNG.random((3, 8, 8, 1)), points=6) for _ in range(4)])


def networks():
    """Returns a network with a softmax, and the same without."""
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, strides=2, activation="relu")(inputs)
    logits = layers.Dense(4)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Softmax()(logits)), keras.Model(inputs, logits)


def test_is_what_the_model_predicts(capsys):
    ending, plain = networks()
    found = curve(ending, LINES[0])
    assert (found.dtype, found.shape) == ("float32", (6, 4))
    np.testing.assert_allclose(found, plain.predict(LINES[0], verbose=0), rtol=1e-5, atol=1e-6)
    for model in (ending, plain):
        np.testing.assert_allclose(
            curve(model, LINES[0], of="probabilities"),
            ending.predict(LINES[0], verbose=0),
            rtol=1e-5,
        )
    capsys.readouterr()
    curve(ending, LINES[0], verbose=1)
    assert "6/6" in capsys.readouterr().out


def test_several_at_once_are_each_by_itself():
    model, _ = networks()
    found = curve(model, LINES, batch_size=5)
    assert found.shape == (4, 6, 4)
    for line, values in zip(LINES, found, strict=True):
        np.testing.assert_allclose(curve(model, line), values, rtol=1e-5, atol=1e-6)
    assert curve(model, LINES[:1]).shape == (1, 6, 4)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def test_refused():
    model, _ = networks()
    with pytest.raises(ValueError, match="`trajectory` must be a batch of .*Received: traj"):
        curve(model, LINES[0, 0])
    with pytest.raises(ValueError, match="a batch of what the model takes"):
        curve(model, LINES[:0])
    with pytest.raises(ValueError, match=r"`trajectory` must be finite.*in trajectory\[0\]"):
        curve(model, np.where(LINES > 0.5, np.nan, LINES))
    with pytest.raises(ValueError, match="`of` must be one of"):
        curve(model, LINES, of="neurons")
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer"):
        curve(model, LINES, batch_size=0)
    with pytest.raises(ValueError, match="functional"):
        curve(Subclassed(), LINES)
    inputs = keras.Input((8, 8, 1))
    single = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(inputs)))
    assert curve(single, LINES[0]).shape == (6, 1)
    with pytest.raises(ValueError, match='a model of one score. Give `of="logits"`'):
        curve(single, LINES, of="probabilities")


def test_points_of_another_range_are_warned_of():
    inputs = keras.Input((8, 8, 1))
    model = models.ToyCNN(input_tensor=layers.Rescaling(1 / 255)(inputs), classes=4)
    with pytest.warns(UserWarning, match="range that the model was trained on"):
        curve(model, LINES)
