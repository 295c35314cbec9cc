"""Gradients written by hand are right wherever TensorFlow asks for them, and keep no graph."""

import gc
import weakref

import keras
import numpy as np
import pytest

from keras_fmm import ops
from keras_fmm.ops import tensorflow_gradients

if keras.backend.backend() != "tensorflow":
    pytest.skip("TensorFlow's gradients", allow_module_level=True)

import tensorflow as tf
from tensorflow.python.framework.ops import gradient_registry

X = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
GATE = np.random.default_rng(1).normal(size=(2, 1, 1, 5)).astype("float32")
KERNEL = np.random.default_rng(2).normal(size=(3, 3, 5, 2)).astype("float32")
GAIN = np.random.default_rng(3).normal(size=(2, 3, 3, 1, 2)).astype("float32")


def loop(x, gain):
    return ops.loop_conv(x, KERNEL, gain, (1, 1), "same", (1, 1))


def moments_and_outputs(normalize):
    def function(x, gate):
        outputs, mean, variance = normalize(x, gate[0, 0, 0], gate[1, 0, 0])
        return outputs + 3 * mean + 5 * variance

    return function


def normalized_by_tensorflow(x, gamma, beta):
    mean, variance = tf.nn.moments(x, (0, 1, 2))
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 0.1), mean, variance


# A function of two tensors, and the same in TensorFlow's own operations.
CASES = {
    "mean": (
        lambda x, gate: ops.spatial_mean(x) * gate[:, 0, 0],
        lambda x, gate: tf.reduce_mean(x, (1, 2)) * gate[:, 0, 0],
        GATE,
    ),
    "mean that keeps its axes": (
        lambda x, gate: ops.spatial_mean(x, keepdims=True) * gate,
        lambda x, gate: tf.reduce_mean(x, (1, 2), keepdims=True) * gate,
        GATE,
    ),
    "scale": (ops.scale_channels, lambda x, gate: x * gate, GATE),
    "scale by position": (
        lambda x, gate: ops.scale_channels(x, gate[..., :1] * x[..., :1]),
        lambda x, gate: x * (gate[..., :1] * x[..., :1]),
        GATE,
    ),
    "largest and mean": (
        lambda x, gate: tf.concat(ops.channel_max_and_mean(x), -1) * gate[..., :2],
        lambda x, gate: (
            tf.concat([tf.reduce_max(x, -1, True), tf.reduce_mean(x, -1, True)], -1) * gate[..., :2]
        ),
        GATE,
    ),
    "channel pool of a product": (
        lambda x, gate: ops.channel_pool(ops.scale_channels(x, gate)) * gate[..., :2],
        lambda x, gate: (
            tf.concat([tf.reduce_max(x * gate, -1, True), tf.reduce_mean(x * gate, -1, True)], -1)
            * gate[..., :2]
        ),
        GATE,
    ),
    "product of a product": (
        lambda x, gate: ops.scale_channels(
            ops.scale_channels(x, gate), tf.sin(gate[..., :1] * x[..., :1])
        ),
        lambda x, gate: x * gate * tf.sin(gate[..., :1] * x[..., :1]),
        GATE,
    ),
    "largest alone": (
        lambda x, gate: ops.channel_max_and_mean(x)[0] * gate,
        lambda x, gate: tf.reduce_max(x, -1, True) * gate,
        GATE,
    ),
    "channel pool": (
        lambda x, gate: ops.channel_pool(x) * gate[..., :2],
        lambda x, gate: (
            tf.concat([tf.reduce_max(x, -1, True), tf.reduce_mean(x, -1, True)], -1) * gate[..., :2]
        ),
        GATE,
    ),
    "mean and largest of space": (
        lambda x, gate: tf.reshape(ops.spatial_mean_and_max(x), (-1, 2, x.shape[3])) * gate[:, 0],
        lambda x, gate: (
            tf.stack([tf.reduce_mean(x, (1, 2)), tf.reduce_max(x, (1, 2))], 1) * gate[:, 0]
        ),
        GATE,
    ),
    "normalized": (
        moments_and_outputs(lambda x, gamma, beta: ops.normalized(x, gamma, beta, 0.1)),
        moments_and_outputs(normalized_by_tensorflow),
        GATE,
    ),
    "loop": (
        loop,
        lambda x, gain: tf.concat(
            [tf.nn.conv2d(x[n : n + 1], KERNEL * gain[n], 1, "SAME") for n in range(2)], 0
        ),
        GAIN,
    ),
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_mean_of_a_large_map_of_an_unknown_batch(dtype, jit_compile):
    x = np.random.default_rng(0).uniform(size=(3, 400, 50, 6)).astype(dtype)
    expected = x.astype("float64").mean((1, 2))
    for size in (3, 0):
        for shape in ((None, 400, 50, 6), (None, None, None, 6)):
            mean = tf.function(ops.spatial_mean, autograph=False, jit_compile=jit_compile)
            found = mean.get_concrete_function(tf.TensorSpec(shape, dtype))(tf.constant(x[:size]))
            assert found.dtype == dtype
            # Half precision is rounded once; float32 adds up 20,000 numbers.
            exact = {"float16": 6e-4, "float32": 1e-5, "float64": 1e-12}[dtype]
            np.testing.assert_allclose(found, expected[:size], rtol=exact)


@pytest.mark.parametrize("shape", [(2, 3, 4, 3), (None, 3, 4, 3), (None, None, None, 3)])
def test_a_maximum_of_what_is_not_finite_in_a_graph(shape):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 3)).astype("float32")
    x[0, 1, 1, 0] = np.nan
    x[0, :, :, 1] = -np.inf
    x[1, :, :, 2] = np.nan
    expected = x.max((1, 2))

    def maxima(x):
        return ops.spatial_max(x), ops.spatial_mean_and_max(x)[1::2]

    both = tf.function(maxima, autograph=False)
    for found in both.get_concrete_function(tf.TensorSpec(shape))(tf.constant(x)):
        np.testing.assert_array_equal(found, expected)


def graph(function):
    return tf.function(function, autograph=False)


def taped(function):
    """Returns a function's gradients by a tape."""

    def gradients(*tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            outputs = function(*tensors)
        return tape.gradient(outputs, tensors, output_gradients=tf.cos(outputs))

    return gradients


def of_a_call(function):
    """Returns a function's gradients through a call of its graph, which is differentiated later."""
    return taped(graph(function))


def symbolic(function):
    """Returns a function's gradients by `tf.gradients`, which looks them up by name."""

    def gradients(*tensors):
        outputs = function(*tensors)
        return tf.gradients(outputs, tensors, tf.cos(outputs))

    return gradients


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", [taped, of_a_call, symbolic])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradients_in_a_graph(case, way, jit_compile):
    ours, theirs, other = CASES[case]
    tensors = (tf.constant(X), tf.constant(other))
    expected = taped(theirs)(*tensors)
    found = tf.function(way(ours), autograph=False, jit_compile=jit_compile)(*tensors)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("traced", [lambda function: function, graph])
def test_gradients_of_what_picks_some_of_the_outputs(case, traced):
    # They come as slices with their indices.
    ours, theirs, other = CASES[case]
    tensors = (tf.constant(X), tf.constant(other))
    expected = taped(lambda *tensors: theirs(*tensors)[1:])(*tensors)
    found = traced(taped(lambda *tensors: tf.gather(ours(*tensors), [1])))(*tensors)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_jacobians_of_an_eager_call_are_taken_in_a_graph(case):
    ours, theirs, other = CASES[case]
    found, expected = [], []
    for function, jacobians in ((ours, found), (theirs, expected)):
        tensors = (tf.constant(X), tf.constant(other))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(tensors)
            outputs = function(*tensors)[..., 0]
        # TensorFlow's pfor cannot make one of a loop that may have no step.
        jacobians += tape.jacobian(outputs, tensors, experimental_use_pfor=function is not loop)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def second(gate, pool):
    """Returns how the gradient of gates in a row changes with their inputs and the map between."""

    def gradients(x, of_channels):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch([x, of_channels])
                between = gate(x, of_channels)
                outputs = gate(between, tf.sin(pool(between))) * 2
            found = inner.gradient(outputs, [between, of_channels], tf.cos(x))
            total = sum(tf.reduce_sum(g * tf.cos(g)) for g in found)
        return outer.gradient(total, x)

    def of_the_map(x, of_channels):
        with tf.GradientTape() as outer:
            between = gate(x, of_channels)
            outer.watch(between)
            of_positions = tf.sin(between[..., :1]) * 1.0
            with tf.GradientTape() as inner:
                inner.watch(of_positions)
                outputs = gate(between, of_positions)
            found = inner.gradient(outputs, of_positions, tf.cos(x))
        return outer.gradient(found, between)

    return gradients, of_the_map


@pytest.mark.parametrize("which", [0, 1], ids=["of the inputs", "of the map between"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_second_derivatives_of_gates_in_a_row(which, jit_compile):
    tensors = (tf.constant(X), tf.constant(GATE))
    ours = second(ops.scale_channels, lambda x: ops.channel_pool(x)[..., :1])[which]
    theirs = second(tf.multiply, lambda x: tf.reduce_max(x, -1, True))[which]
    found = tf.function(ours, autograph=False, jit_compile=jit_compile)(*tensors)
    np.testing.assert_allclose(found, theirs(*tensors), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours(*tensors), theirs(*tensors), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_a_graph_that_is_dropped_is_freed(case):
    ours, _, other = CASES[case]
    traced = graph(taped(ours)).get_concrete_function(tf.constant(X), tf.constant(other))
    kept = weakref.ref(traced.graph)
    del traced
    gc.collect()
    assert kept() is None, "TensorFlow keeps the graph, and with it the weights of its model."


@pytest.mark.parametrize("way", [taped, of_a_call, symbolic])
def test_a_graph_takes_the_gradient_written_by_hand(way, monkeypatch):
    def of_scaled(inputs, outputs, upstream):
        return [tf.fill(tf.shape(x), 7.0) for x in inputs]

    monkeypatch.setattr(tensorflow_gradients, "_of_scaled", of_scaled)
    for found in graph(way(ops.scale_channels))(tf.constant(X), tf.constant(GATE)):
        np.testing.assert_array_equal(found, 7)


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_a_saved_model(case, tmp_path):
    ours, theirs, other = CASES[case]
    tensors = (tf.constant(X), tf.constant(other))
    registered = set(gradient_registry.list())
    module = tf.Module()
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in tensors]
    module.serve = tf.function(ours, input_signature=specs, autograph=False)
    tf.saved_model.save(
        module, tmp_path, options=tf.saved_model.SaveOptions(experimental_custom_gradients=True)
    )
    loaded = tf.saved_model.load(tmp_path).serve
    assert set(gradient_registry.list()) == registered, "They keep what is loaded for ever."
    for a, b in zip(taped(loaded)(*tensors), taped(theirs)(*tensors), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow_on_tensorflow
def test_a_gradient_of_other_settings_is_another():
    # Both have the same tensors; what differs is in no tensor, and must not be mixed up.
    image, gain = tf.constant(X), tf.constant(GAIN)

    def gradient(strides, padding):
        def outputs(x):
            return ops.loop_conv(x, KERNEL, gain, strides, padding, (1, 1))

        return graph(taped(outputs))(image)[0], outputs

    for strides, padding in [((1, 1), "same"), ((2, 1), "same"), ((1, 1), "valid")]:
        found, outputs = gradient(strides, padding)
        np.testing.assert_allclose(found, taped(outputs)(image)[0], rtol=1e-4, atol=1e-5)
