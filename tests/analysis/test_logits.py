import keras
import numpy as np
import pytest
from keras import layers

from keras_fmm import models
from keras_fmm.analysis import logits_model

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 8, 8, 1)).astype("float32")


def softmax(x):
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def flat():
    inputs = keras.Input((8, 8, 1))
    return inputs, layers.Flatten()(inputs)


def activation_of_dense():
    inputs, x = flat()
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


def activation_that_is_a_layer():
    inputs, x = flat()
    return keras.Model(inputs, layers.Dense(3, activation=layers.Softmax())(x))


def softmax_layer():
    inputs, x = flat()
    return keras.Model(inputs, layers.Softmax()(layers.Dense(3)(x)))


def softmax_operation():
    inputs, x = flat()
    return keras.Model(inputs, keras.ops.softmax(layers.Dense(3)(x)))


def cast_of_a_softmax():
    inputs, x = flat()
    x = layers.Dense(3, activation="softmax", dtype="mixed_float16")(x)
    return keras.Model(inputs, keras.ops.cast(x, "float32"))


def convolution_then_reshape():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(3, 8, activation="softmax")(inputs)
    return keras.Model(inputs, layers.Activation("linear")(layers.Reshape((3,))(x)))


def nested():
    inputs = keras.Input((8, 8, 1))
    return keras.Model(inputs, activation_of_dense()(inputs * 2))


def sequential():
    return keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(3, activation="softmax")]
    )


def sequential_of_a_model():
    return keras.Sequential([keras.Input((8, 8, 1)), sequential()])


ENDS = [
    activation_of_dense,
    activation_that_is_a_layer,
    softmax_layer,
    softmax_operation,
    cast_of_a_softmax,
    convolution_then_reshape,
    nested,
    sequential,
    sequential_of_a_model,
]


@pytest.mark.parametrize("build", ENDS, ids=lambda build: build.__name__)
def test_softmax_of_the_logits_is_the_prediction(build):
    model = build()
    # Of half precision there is one, rounded to a part in 2000.
    rounding = 1e-3 if build is cast_of_a_softmax else 1e-5
    before = np.asarray(model(IMAGES))
    logits = np.asarray(logits_model(model)(IMAGES))
    assert np.abs(logits.sum(-1) - 1).min() > 1e-3, "these are probabilities still"
    np.testing.assert_allclose(softmax(logits), before, rtol=rounding, atol=1e-6)
    np.testing.assert_array_equal(model(IMAGES), before)
    # The model is left as it was: no layer has a second output.
    assert all(layer.output is not None for layer in model.layers)


@pytest.mark.parametrize("build", ENDS, ids=lambda build: build.__name__)
def test_the_models_graph_does_not_grow(build):
    model = build()
    everything = model._flatten_layers()
    for layer in list(everything):
        everything += getattr(layer, "operations", [])
    noted = [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in everything]
    made = logits_model(model)
    assert [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in everything] == noted
    # Still a model that is called in others.
    assert made(keras.Input((8, 8, 1))).shape == (None, 3)


def test_layers_are_where_they_were():
    model = models.ToyCNN(input_shape=(8, 8, 1))
    logits = logits_model(model)
    for layer in model.layers[:-1]:
        assert logits.get_layer(layer.name) is layer


def test_logits_follow_the_models_weights():
    model = activation_of_dense()
    logits = logits_model(model)
    model.layers[-1].bias.assign([1.0, 2.0, 3.0])
    model.layers[-1].kernel.assign(np.zeros((64, 3)))
    np.testing.assert_array_equal(logits(IMAGES[:1]), [[1, 2, 3]])


def test_a_sigmoid_ends_predictions_too():
    inputs, x = flat()
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
    logits = np.asarray(logits_model(model)(IMAGES))
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), model(IMAGES), rtol=1e-5)


def test_a_model_without_activation_gives_its_own_outputs():
    model = models.ToyCNN(input_shape=(8, 8, 1), classifier_activation=None)
    np.testing.assert_array_equal(logits_model(model)(IMAGES), model(IMAGES))


def test_a_network_of_keras_applications():
    model = keras.applications.MobileNet(weights=None, input_shape=(32, 32, 3), classes=5)
    images = RNG.normal(size=(2, 32, 32, 3)).astype("float32")
    logits = np.asarray(logits_model(model)(images))
    np.testing.assert_allclose(softmax(logits), model(images), rtol=1e-4)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def test_refused():
    with pytest.raises(ValueError, match=r"functional.*Received: model=.*Of a subclassed"):
        logits_model(Subclassed())
    with pytest.raises(ValueError, match="functional"):
        logits_model(keras.Sequential([layers.Dense(2)]))
    inputs, x = flat()
    outputs = [layers.Dense(2)(x), layers.Dense(2)(x)]
    with pytest.raises(ValueError, match="one output.*Received: 2 outputs"):
        logits_model(keras.Model(inputs, outputs))
    for end in (layers.Dense(2, activation="tanh"), layers.ReLU()):
        with pytest.raises(ValueError, match="Received: the model's last layer"):
            logits_model(keras.Model(inputs, end(x)))
