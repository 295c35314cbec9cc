"""What all measurements by the scores of a model refuse, and what they need."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_fmm import analysis

RNG = np.random.default_rng(0)
IMAGES = RNG.random((3, 8, 8, 1)).astype("float32")


def channel_importance(model, images):
    return analysis.channel_importance(model, images, "features")


BY_FEATURES = [analysis.grad_cam, analysis.occlusion_sensitivity, channel_importance]
BY_IMAGES = [
    analysis.curve,
    analysis.full_grad,
    analysis.integrated_gradients,
    analysis.jacobian_norms,
    analysis.jacobian_sensitivity,
    analysis.output_sensitivity,
    analysis.smooth_full_grad,
    analysis.smooth_grad,
]


def name(function):
    return function.__name__


def network(*ends, dtype="float32"):
    inputs = keras.Input((8, 8, 1), dtype=dtype)
    x = layers.Rescaling(1.0)(inputs)
    x = layers.Conv2D(2, 3, activation="relu", name="features")(x)
    x = layers.Dense(3)(layers.Flatten()(x))
    for end in ends:
        x = end(x)
    return keras.Model(inputs, x)


def softmax_times_one(x):
    return keras.ops.softmax(x) * 1.0


SOFTMAXES = [layers.Lambda(keras.ops.softmax), softmax_times_one]


@pytest.mark.parametrize("function", [*BY_FEATURES, *BY_IMAGES], ids=name)
def test_a_softmax_that_does_not_say_so_is_refused(function):
    for end in SOFTMAXES:
        with pytest.raises(ValueError, match="whose scores of each image sum to 1 .*that ends bef"):
            function(network(end), IMAGES)


def test_scores_that_sum_to_one_by_chance_are_not():
    inputs = keras.Input((2,))
    layer = layers.Dense(2, use_bias=False, kernel_initializer="identity")
    images = np.array([[1.0, 0.0], [0.25, 0.75]])
    assert analysis.curve(keras.Model(inputs, layer(inputs)), images).tolist() == images.tolist()
    # A constant of one class, 1 whatever the input, is no softmax either.
    constant = layers.Dense(1, kernel_initializer="zeros", bias_initializer="ones")
    found = analysis.full_grad(keras.Model(inputs, constant(inputs)), images)
    assert found.score.tolist() == [1, 1]


@pytest.mark.parametrize("function", BY_IMAGES, ids=name)
def test_there_are_no_gradients_by_integers(function):
    model = network(dtype="uint8")
    with pytest.raises(ValueError, match="must take floating-point .*input is uint8. Give a copy"):
        function(model, np.round(IMAGES * 20))


@pytest.mark.parametrize("function", BY_FEATURES, ids=name)
def test_features_of_integers_have_gradients(function):
    whole, single = network(dtype="uint8"), network()
    single.set_weights(whole.get_weights())
    # Neither the input nor a weight is what a backend would follow by itself.
    whole.trainable = False
    images = np.round(IMAGES * 20)
    # A square is covered by what a model of integers takes, not by a mean.
    options = {"value": 3} if function is analysis.occlusion_sensitivity else {}
    found, expected = function(whole, images, **options), function(single, images, **options)
    if function is channel_importance:
        found, expected = found.without_bias, expected.without_bias
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("function", [*BY_FEATURES, *BY_IMAGES], ids=name)
def test_what_is_no_model_or_has_no_scores(function):
    with pytest.raises(ValueError, match="functional `keras.Model`, or .*Received: model='x'"):
        function("x", IMAGES)
    inputs = keras.Input((8, 8, 1))
    maps = keras.Model(inputs, layers.Conv2D(2, 3, name="features")(inputs))
    with pytest.raises(ValueError, match="one score for each class, .*Received: outputs of shape"):
        function(maps, IMAGES)
