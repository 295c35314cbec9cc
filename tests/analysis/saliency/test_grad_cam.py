import functools

import keras
import numpy as np
import pytest

from keras_fmm import analysis, layers, models
from tests.support.gradients import of_function

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(5, 8, 8, 2)).astype("float32")
CLASSES = np.array([2, 0, 1, 1, 0])
L = keras.layers


def features(name="backbone"):
    inputs = keras.Input((8, 8, 2))
    x = L.Conv2D(4, 3, activation="relu", padding="same", name="first")(inputs)
    x = L.Conv2D(5, 3, strides=2, name="second")(x)
    return keras.Model(inputs, L.ReLU(name="last")(x), name=name)


def head(activation="softmax"):
    inputs = keras.Input((3, 3, 5))
    x = L.Flatten()(inputs)
    x = L.Dense(6, activation="gelu")(x)
    return keras.Model(inputs, L.Dense(3, activation=activation, name="top")(x), name="head")


def chained(*parts):
    """One flat model of the same layers."""
    inputs = x = keras.Input((8, 8, 2))
    for part in parts:
        for layer in part.layers[1:]:
            x = layer(x)
    return keras.Model(inputs, x)


def nested(*parts):
    inputs = x = keras.Input((8, 8, 2))
    for part in parts:
        x = part(x)
    return keras.Model(inputs, x)


def sequential(*parts):
    return keras.Sequential([keras.Input((8, 8, 2)), *parts])


def by_hand(front, back, images, classes):
    """Grad-CAM by loops over what lies before and behind the layer."""
    features = np.asarray(front(images))
    logits = back.layers[-1]
    activation, logits.activation = logits.activation, keras.activations.linear
    maps = np.zeros(features.shape[:3])
    for n, c in enumerate(classes):
        score = functools.partial(lambda x, c: back(x)[0, int(c)], c=c)
        gradient = of_function(score, [features[n : n + 1]])[0][0]
        _, height, width, channels = features.shape
        for channel in range(channels):
            weight = 0.0
            for i in range(height):
                for j in range(width):
                    weight += gradient[i, j, channel] / (height * width)
            maps[n] += weight * features[n, :, :, channel]
    logits.activation = activation
    return np.maximum(maps, 0)


@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (chained, "last"),
        (chained, None),
        (nested, "backbone/last"),
        (nested, "backbone"),
        (nested, None),
        (sequential, "backbone.last"),
        (sequential, None),
    ],
)
def test_equals_loops(build, layer):
    # Without a layer's name it is of a model that ends in logits.
    activation = None if layer is None else "softmax"
    front, back = features(), head(activation)
    expected = by_hand(front, back, IMAGES, CLASSES)
    assert (expected > 0).mean() > 0.1
    model = build(front, back)
    before = model.predict(IMAGES, verbose=0)
    maps = analysis.grad_cam(model, IMAGES, CLASSES, layer, batch_size=2)
    assert (maps.shape, maps.dtype) == ((5, 3, 3), "float32")
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), before)


def test_one_class_and_the_predicted_one():
    front, back = features(), head()
    model = nested(front, back)
    maps = analysis.grad_cam(model, IMAGES, 1)
    np.testing.assert_allclose(maps, by_hand(front, back, IMAGES, [1] * 5), rtol=1e-4, atol=1e-6)
    predicted = model.predict(IMAGES, verbose=0).argmax(-1)
    maps = analysis.grad_cam(model, IMAGES)
    expected = by_hand(front, back, IMAGES, predicted)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)


def test_a_layer_in_the_model_that_is_cut_to_its_logits():
    classifier = chained(features(), head())
    classifier.name = "classifier"
    deep = keras.Sequential([keras.Input((8, 8, 2)), classifier], name="deep")
    found = analysis.grad_cam(nested(deep), IMAGES, CLASSES, "deep/classifier/first")
    expected = analysis.grad_cam(classifier, IMAGES, CLASSES, "first")
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.shape == (5, 8, 8)


def test_leaves_the_layers_as_they_were():
    model = nested(features(), head())
    everything = model._flatten_layers()
    calls = [len(layer._inbound_nodes) for layer in everything]
    analysis.grad_cam(model, IMAGES, 0)
    assert [len(layer._inbound_nodes) for layer in everything] == calls
    assert model.get_layer("backbone").get_layer("last").output is not None


def test_each_call_of_a_shared_layer_can_be_named():
    inputs = keras.Input((8, 8, 2))
    shared = L.Conv2D(2, 3, padding="same", activation="relu", name="shared")
    model = keras.Model(inputs, L.Dense(3)(L.Flatten()(shared(shared(inputs)))))
    shared.kernel.assign(np.abs(shared.kernel))
    model.layers[-1].kernel.assign(np.abs(model.layers[-1].kernel))
    first = analysis.grad_cam(model, IMAGES, 0, "shared")
    second = analysis.grad_cam(model, IMAGES, 0, "shared:2")
    assert np.abs(first - second).min() > 1e-4
    np.testing.assert_array_equal(second, analysis.grad_cam(model, IMAGES, 0))


def test_passes_over_maps_of_one_position():
    inputs = keras.Input((None, None, 2))
    x = L.Conv2D(4, 3, name="maps")(inputs)
    x = L.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    model = keras.Model(inputs, L.Flatten()(L.Conv2D(3, 1, name="top")(x)))
    maps = analysis.grad_cam(model, IMAGES[:, :, :7], 0)
    np.testing.assert_array_equal(maps, analysis.grad_cam(model, IMAGES[:, :, :7], 0, "maps"))
    assert maps.shape == (5, 6, 5)
    # What pooling leaves sums to the logit without the bias, where all of it is positive.
    pooled = analysis.grad_cam(model, IMAGES[:, :, :7], 0, "top")[:, 0, 0]
    np.testing.assert_allclose(pooled, np.maximum(model.predict(IMAGES[:, :, :7])[:, 0], 0), 1e-5)


def test_channels_first_features():
    inputs = keras.Input((4, 3, 2))
    x = layers.SqueezeExcite(reduction=2, data_format="channels_first", name="gate")(inputs)
    pooled = L.GlobalAveragePooling2D(data_format="channels_first")(x)
    top = L.Dense(3, use_bias=False)
    model = keras.Model(inputs, top(pooled))
    images = RNG.uniform(size=(2, 4, 3, 2)).astype("float32")
    gated = np.asarray(keras.Model(inputs, x)(images))
    expected = np.einsum("nchw,c->nhw", gated, np.asarray(top.kernel)[:, 1]) / 6
    for layer in ("gate", None):
        found = analysis.grad_cam(model, images, 1, layer)
        np.testing.assert_allclose(found, np.maximum(expected, 0), rtol=1e-4, atol=1e-6)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    model = models.ToyCNN(input_shape=(8, 8, 2), classes=3, attention="squeeze_excite")
    keras.config.set_dtype_policy("float32")
    maps = analysis.grad_cam(model, IMAGES, layer="stage1_attention")
    assert maps.dtype == "float32"
    assert maps.max() > 0


def blocked():
    inputs = keras.Input((8, 8, 2))
    x = L.Lambda(keras.ops.stop_gradient, name="stop")(L.Conv2D(2, 3, name="conv")(inputs))
    return keras.Model(inputs, L.Dense(3)(L.Flatten()(x)))


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "secnd"}, "layer='secnd', which is none of .* Near it: 'backbone/second'"),
        ({"layer": "backbone.lost"}, "must name a layer.*Near it: .*'backbone/last'"),
        ({"layer": "head.flatten"}, r"rank 4. Received: .*\(None, 45\).*such as 'backbone'"),
        ({"layer": "head.top"}, "before the model's logits.*such as 'backbone'"),
        ({"class_index": 3}, "from 0 to 2. Received: class_index=3"),
        ({"class_index": [0, 1]}, "one for each image"),
        ({"batch_size": 0}, "`batch_size` must be a positive integer"),
        ({"images": np.full((1, 8, 8, 2), np.nan)}, r"finite.*images\[0\]"),
        ({"images": IMAGES[0]}, r"images\[None\]"),
        ({"model": blocked(), "layer": "conv"}, "by way of its gradient. .*layer='conv'"),
        ({"model": Subclassed()}, "must be a functional"),
        ({"model": head(), "images": np.ones((1, 3, 3, 5))}, "which has none before its logits"),
        (
            {"model": keras.Sequential([keras.Input((8, 8, 2)), L.Conv2D(3, 3)])},
            "one score for each class",
        ),
    ],
)
def test_refused(arguments, message):
    back = head()
    back.layers[1].name = "flatten"
    given = {"model": nested(features(), back), "images": IMAGES, **arguments}
    with pytest.raises(ValueError, match=message):
        analysis.grad_cam(**given)
