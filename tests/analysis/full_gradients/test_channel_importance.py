import itertools

import keras
import numpy as np
import pytest
from keras import layers as L

from keras_fmm import layers
from keras_fmm.analysis import attention_maps, channel_importance

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0.2, 1, (2, 4, 4, 1)).astype("float32")


def randomised(model):
    for weight in model.weights:
        if weight.name != "moving_variance":
            weight.assign(RNG.normal(0, 0.5, weight.shape))
    return model


def head(channels=3):
    """From features to logits: a gate, what comes after it, and a shortcut around them."""
    features = keras.Input((4, 4, channels))
    x = layers.SqueezeExcite(reduction=1, activation="tanh", name="gate")(features)
    x = L.Add(name="sum")([L.Conv2D(channels, 1, activation="tanh")(x), features])
    return keras.Model(features, L.Dense(2)(L.Flatten()(x)), name="head")


def whole(above):
    inputs = keras.Input((4, 4, 1))
    x = L.Conv2D(above.input_shape[-1], 3, padding="same", name="convolution")(inputs)
    x = L.ReLU()(L.BatchNormalization(name="norm", epsilon=0.0)(x))
    return randomised(keras.Model(inputs, L.Softmax()(above(x))))


def slopes(function, features, step=1e-2):
    """Central differences of each sample's score with respect to each of its features."""
    found = np.zeros_like(features)
    for place in itertools.product(*map(range, features.shape[1:])):
        moved = np.zeros_like(features)
        moved[(slice(None), *place)] = step
        found[(slice(None), *place)] = (function(features + moved) - function(features - moved)) / (
            2 * step
        )
    return found


@pytest.mark.slow_on_tensorflow
def test_against_finite_differences():
    above = head()
    model = whole(above)
    classes = model.predict(IMAGES, verbose=0).argmax(-1)

    def score(features):
        return np.asarray(above(features))[range(2), classes].astype("float64")

    def of(name):
        below = keras.Model(model.inputs, model.get_layer(name).output)
        return below.predict(IMAGES, verbose=0)

    before_relu = of("norm")
    features = np.maximum(before_relu, 0)
    slope = slopes(score, features)
    expected = np.abs(features * slope).sum((1, 2))
    found = channel_importance(model, IMAGES, "head/gate")
    assert found.without_bias.dtype == found.with_bias.dtype == np.float32
    np.testing.assert_allclose(found.without_bias, expected, rtol=0.01, atol=1e-3)

    # The biases: batch norm's joins before ReLU, the convolution's before batch norm.
    gamma, beta, mean, variance = model.get_layer("norm").get_weights()
    bias = model.get_layer("convolution").get_weights()[1]
    at_norm = slope * (before_relu > 0)
    scale = gamma / np.sqrt(variance)
    expected += np.abs(at_norm * (beta - mean * scale)).sum((1, 2))
    expected += np.abs(at_norm * scale * bias).sum((1, 2))
    np.testing.assert_allclose(found.with_bias, expected, rtol=0.01, atol=1e-3)


def test_by_hand():
    """Features 2x + 1 and -x + 3 at x = 1 and 2, weights 1, 2 and 3, -4 in the dense layer."""
    inputs = keras.Input((1, 2, 1))
    convolution, out = L.Conv2D(2, 1), L.Dense(1, name="out")
    x = L.Activation("linear", name="place")(convolution(inputs))
    model = keras.Model(inputs, out(L.Flatten()(x)))
    convolution.set_weights([np.array([2.0, -1.0]).reshape(1, 1, 1, 2), np.array([1.0, 3.0])])
    out.set_weights([np.array([[1.0], [2.0], [3.0], [-4.0]]), np.zeros(1)])
    found = channel_importance(model, np.array([1.0, 2.0]).reshape(1, 1, 2, 1), "place")
    np.testing.assert_allclose(found.without_bias, [[3 * 1 + 5 * 3, 2 * 2 + 1 * 4]])
    np.testing.assert_allclose(found.with_bias, [[18 + 1 * (1 + 3), 8 + 3 * (2 + 4)]])


def test_the_way_back_ends_at_a_sum_and_at_a_convolution():
    inputs = keras.Input((4, 4, 1))
    first = L.Conv2D(3, 1, name="first")(inputs)
    second = L.Conv2D(3, 1, use_bias=False, activation="relu", name="second")(first)
    x = L.Dropout(0.5, name="after_convolution")(L.MaxPooling2D()(second))
    x = L.Flatten(name="after_sum")(L.Add()([x, x]))
    model = randomised(keras.Model(inputs, L.Dense(2, name="out")(x)))
    for name in ("after_convolution", "after_sum", "out"):
        found = channel_importance(model, IMAGES, name)
        np.testing.assert_array_equal(found.with_bias, found.without_bias)
    found = channel_importance(model, IMAGES, "second")
    assert (found.with_bias >= found.without_bias).all()
    assert (found.with_bias > found.without_bias).any()


@pytest.mark.slow_on_tensorflow
def test_of_a_class_of_batches_and_inside_a_gate():
    model = whole(head(channels=4))
    images = RNG.normal(size=(5, 4, 4, 1))
    best = model.predict(images, verbose=0).argmax(-1)
    found = channel_importance(model, images, "head.gate", batch_size=3)
    same = channel_importance(model, images, "gate", class_index=best)
    np.testing.assert_allclose(found.with_bias, same.with_bias, rtol=1e-3, atol=1e-4)
    assert found.with_bias.shape == (5, 4)
    inside = channel_importance(model, images, "head/gate/excite")
    # The squeezed ones, as many by a reduction of 1.
    assert inside.with_bias.shape == (5, 4)


@pytest.mark.slow_on_tensorflow
def test_each_call_of_a_shared_layer_can_be_named():
    """Twice through one gate: as through two gates of the same weights."""
    inputs = keras.Input((4, 4, 1))
    gates = [layers.SqueezeExcite(reduction=1, name=name) for name in ("gate", "other")]
    block = keras.Input((4, 4, 3))
    within = keras.Model(block, L.ReLU(name="relu")(L.Conv2D(3, 1)(block)), name="block")
    x = L.Conv2D(3, 1)(inputs)
    top = L.Dense(2)
    one = keras.Model(inputs, top(L.Flatten()(within(gates[0](within(gates[0](x)))))))
    randomised(one)
    two = keras.Model(inputs, top(L.Flatten()(within(gates[1](within(gates[0](x)))))))
    gates[1].set_weights(gates[0].get_weights())
    for ours, theirs in (("gate:2", "other"), ("gate:2/excite", None)):
        if theirs is None:
            with pytest.raises(ValueError, match="takes 'gate/excite', and with ':2'"):
                channel_importance(one, IMAGES, ours)
            ours, theirs = "gate.excite:2", "other/excite"
        found = channel_importance(one, IMAGES, ours)
        expected = channel_importance(two, IMAGES, theirs)
        np.testing.assert_allclose(found.with_bias, expected.with_bias, rtol=1e-4)
    assert list(attention_maps(one, IMAGES)) == ["gate", "gate:2"]
    with pytest.raises(
        ValueError, match="Received: layer='gate:3'. Of this layer it takes '/gate', '/gate:2'"
    ):
        channel_importance(one, IMAGES, "gate:3")


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def test_refused():
    model = whole(head())
    with pytest.raises(
        ValueError, match="layer='gates', which is none of the model .* Near it: 'head/gate'"
    ):
        channel_importance(model, IMAGES, "gates")
    with pytest.raises(ValueError, match="functional `keras.Model`"):
        channel_importance(Subclassed(), IMAGES, "gate")
    with pytest.raises(ValueError, match="from 0 to 1. Received: class_index=2"):
        channel_importance(model, IMAGES, "head/gate", 2)
    with pytest.raises(ValueError, match="NaN or an infinity"):
        channel_importance(model, np.full((1, 4, 4, 1), np.nan), "head/gate")
    with pytest.raises(ValueError, match="batch of what the model takes"):
        channel_importance(model, IMAGES[..., 0], "head/gate")
    with pytest.raises(ValueError, match="must take one tensor.*layer='head/sum'"):
        channel_importance(model, IMAGES, "head/sum")
    words = keras.Input((4,), dtype="int32")
    flat = L.Flatten()(L.Embedding(9, 3, name="meaning")(words))
    with pytest.raises(ValueError, match="of floats.*layer='meaning', which takes .*int32"):
        channel_importance(keras.Model(words, L.Dense(2)(flat)), [[1, 2, 3, 4]], "meaning")
    with pytest.raises(ValueError, match="on the way to the logits.*that is called 0 times"):
        channel_importance(model, IMAGES, model.layers[-1].name)
