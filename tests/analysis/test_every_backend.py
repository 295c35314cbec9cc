"""Gradients on the backend that Keras runs on, against differences of a network in NumPy."""

import gc
import itertools
import weakref

import keras
import numpy as np
import pytest
from keras import layers as L

from keras_fmm import analysis, layers

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 3, 2, 2)).astype("float32")
CLASSES = np.array([2, 0, 3])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Network:
    """A convolution, a gate that a shortcut goes round, and logits; in Keras, and in float64."""

    def __init__(self):
        inputs = keras.Input((3, 2, 2))
        x = L.Conv2D(4, 1, activation="silu", name="features")(inputs)
        x = L.Add()([layers.SqueezeExcite(reduction=1, activation="tanh", name="gate")(x), x])
        outputs = L.Dense(5, activation="softmax")(L.GlobalAveragePooling2D()(x))
        self.model = keras.Model(inputs, outputs)
        weights = [RNG.normal(size=w.shape).astype("float32") for w in self.model.weights]
        self.model.set_weights(weights)
        gate = self.model.get_layer("gate")
        ordered = [
            *self.model.get_layer("features").get_weights(),
            *gate.squeeze.get_weights(),
            *gate.excite.get_weights(),
            *self.model.layers[-1].get_weights(),
        ]
        self.weights = [w.astype("float64") for w in ordered]

    def before(self, x):
        return x @ self.weights[0][0, 0] + self.weights[1]

    def behind(self, h):
        _, _, *squeeze, excite, excite_bias, top, top_bias = self.weights
        squeezed = np.tanh(h.mean((1, 2)) @ squeeze[0] + squeeze[1])
        gated = h * sigmoid(squeezed @ excite + excite_bias)[:, None, None] + h
        return gated.mean((1, 2)) @ top + top_bias

    def logits(self, x):
        z = self.before(x)
        return self.behind(z * sigmoid(z))


def slopes(function, x, step=1e-5):
    """Returns the derivatives of each sample's results by what it is given, `(*x.shape, ...)`."""
    found = []
    for place in itertools.product(*map(range, x.shape[1:])):
        moved = np.zeros_like(x)
        moved[(slice(None), *place)] = step
        found.append((function(x + moved) - function(x - moved)) / (2 * step))
    return np.stack(found, 1).reshape(*x.shape, *found[0].shape[1:])


def of_class(found):
    return np.stack([part[..., c] for part, c in zip(found, CLASSES, strict=True)])


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow_on_tensorflow
def test_gradients_are_the_slopes():
    network = Network()
    model, x = network.model, IMAGES.astype("float64")
    by_images = of_class(slopes(network.logits, x))
    # Two images at once, and then one.
    options = {"batch_size": 2}
    close(analysis.smooth_grad(model, IMAGES, CLASSES, 2, noise=0, **options), by_images)

    z = network.before(x)
    h = z * sigmoid(z)
    by_h = of_class(slopes(network.behind, h))
    expected = np.maximum(np.sum(by_h.mean((1, 2), keepdims=True) * h, -1), 0)
    assert (expected > 0).mean() > 0.1
    close(analysis.grad_cam(model, IMAGES, CLASSES, "features", **options), expected)

    # silu's slope is s + z s (1 - s): its bias is z s less that times z.
    bias, slope = network.weights[1], sigmoid(z) * (1 + z * (1 - sigmoid(z)))
    own = [by_h * slope * bias, by_h * (h - slope * z)]
    importance = analysis.channel_importance(model, IMAGES, "gate", CLASSES, **options)
    close(importance.without_bias, np.abs(by_h * h).sum((1, 2)))
    close(importance.with_bias, sum(np.abs(part).sum((1, 2)) for part in (by_h * h, *own)))

    found = analysis.full_grad(model, IMAGES, CLASSES, **options)
    close(found.score, of_class(network.logits(x)))
    close(found.input_term, np.sum(x * by_images, (1, 2, 3)))
    close(found.bias_terms["features"], sum(part.sum((1, 2, 3)) for part in own))

    def probabilities(x):
        powers = np.exp(network.logits(x))
        return powers / powers.sum(-1, keepdims=True)

    squares = slopes(probabilities, x) ** 2
    close(analysis.jacobian_norms(model, IMAGES, **options), np.sqrt(squares.sum((1, 2, 3, 4))))
    steps = [of_class(slopes(network.logits, x * k / 2)) for k in range(3)]
    expected = x * np.mean(steps, axis=0)
    close(analysis.integrated_gradients(model, IMAGES, CLASSES, 3, **options), expected)


def importance_of_gate(model, images, **options):
    return analysis.channel_importance(model, images, "gate", **options)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch's own mode")
def test_inference_mode_takes_no_gradient_away():
    import torch

    model = Network().model
    expected = analysis.jacobian_norms(model, IMAGES)
    with torch.inference_mode():
        close(analysis.jacobian_norms(model, IMAGES), expected)


OF_GRADIENTS = [
    analysis.full_grad,
    analysis.grad_cam,
    analysis.integrated_gradients,
    analysis.jacobian_norms,
    analysis.smooth_grad,
    importance_of_gate,
]


@pytest.mark.parametrize("function", OF_GRADIENTS, ids=lambda function: function.__name__)
def test_nothing_is_kept_of_a_call(function):
    network = Network()
    function(network.model, IMAGES)
    # Not of the layers alone: what is compiled of a model would keep the whole.
    left = [weakref.ref(x) for x in (network.model, *network.model.layers)]
    del network
    gc.collect()
    assert [x() for x in left] == [None] * len(left)


class Counting(L.Layer):
    """Counts how often it is called."""

    count = 0

    def call(self, inputs):
        self.count += 1
        return inputs


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch traces nothing")
@pytest.mark.parametrize("function", OF_GRADIENTS[1:5], ids=lambda function: function.__name__)
def test_more_batches_trace_no_more(function):
    inputs = keras.Input((3, 2, 2))
    counting = Counting()
    x = L.Dense(4)(L.Flatten()(counting(inputs)))
    model = keras.Model(inputs, x)
    classes = {} if function is analysis.jacobian_norms else {"class_index": 1}
    counts = []
    for number in (3, 11):
        before = counting.count
        function(model, np.resize(IMAGES, (number, 3, 2, 2)), batch_size=2, **classes)
        counts.append(counting.count - before)
    assert counts[0] == counts[1]


class FrozenScale(L.Layer):
    """Calls a layer of its own on a weight that is not trained."""

    fails = False

    def build(self, shape):
        self.relu = L.Activation("relu")
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", trainable=False)

    def call(self, inputs):
        scaled = inputs * self.relu(self.scale)
        if self.fails:
            raise RuntimeError("asked to fail")
        return scaled


def test_weights_are_marked_as_they_were():
    inputs = keras.Input((3, 2, 2))
    layer = FrozenScale()
    model = keras.Model(inputs, L.Dense(5)(L.Flatten()(layer(inputs))))

    def marks():
        # PyTorch marks tensors themselves.
        return [getattr(weight.value, "requires_grad", None) for weight in model.weights]

    before = marks()
    if keras.backend.backend() == "torch":
        assert before.count(False) == 1
    found = analysis.full_grad(model, IMAGES, CLASSES)
    by_images = analysis.smooth_grad(model, IMAGES, CLASSES, 1, noise=0)
    assert marks() == before
    kernel = keras.ops.convert_to_numpy(model.layers[-1].kernel).astype("float64")
    expected = kernel.T[CLASSES].reshape(IMAGES.shape)
    close(by_images, expected)
    close(found.input_term, (IMAGES * expected).sum((1, 2, 3)))

    layer.fails = True
    with pytest.raises(RuntimeError, match="asked to fail"):
        analysis.full_grad(model, IMAGES, CLASSES)
    assert marks() == before


class Cut(L.Layer):
    """Gives what it takes, and no gradient."""

    def __init__(self, how, **kwargs):
        super().__init__(**kwargs)
        self.how = how

    def call(self, inputs):
        if self.how == "integers":
            return keras.ops.cast(keras.ops.cast(inputs, "int32"), "float32")
        stop = keras.ops.stop_gradient
        if self.how == "jit":
            import jax

            stop = jax.jit(stop)
        return stop(inputs)


@pytest.mark.parametrize("how", ["integers", "stop_gradient", "jit"])
def test_grad_cam_refuses_what_no_gradient_reaches(how):
    if how == "jit" and keras.backend.backend() != "jax":
        pytest.skip("programs in programs are JAX's")
    inputs = keras.Input((3, 2, 2))
    x = Cut(how)(L.Conv2D(4, 1, name="features")(inputs))
    model = keras.Model(inputs, L.Dense(5)(L.GlobalAveragePooling2D()(x)))
    with pytest.raises(ValueError, match="The logits must depend on what `layer` gives"):
        analysis.grad_cam(model, IMAGES, CLASSES, "features")


class CurvedWeight(keras.layers.Layer):
    """Multiplies by a curved function of a weight, which a layer of its own computes."""

    def __init__(self):
        super().__init__()
        self.curved = keras.layers.Activation("tanh")

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, inputs):
        return inputs * self.curved(self.scale)


@pytest.mark.parametrize("count", [1, IMAGES.shape[-1]])
def test_what_is_computed_of_a_weight_is_no_bias_of_an_image(count):
    inputs = keras.Input(IMAGES.shape[1:])
    features = keras.layers.Flatten()(CurvedWeight()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, name="top")(features))
    found = analysis.full_grad(model, np.repeat(IMAGES[:1], count, axis=0), class_index=0)
    assert list(found.bias_terms) == ["top"]
    close(found.remainder, np.zeros(count))
