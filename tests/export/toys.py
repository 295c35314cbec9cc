"""Tiny models of plain Keras layers, and images for them."""

import keras
import numpy as np
from keras import layers

from keras_fmm.export.tflite import flatbuffers


def images(n=5, size=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, size, size, 3)).astype("float32")


def cnn(size=8, head=None, **arguments):
    """A convolution, batch norm with moved statistics, an optional layer, pooling and 4 classes."""
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(6, 3, activation="relu")(inputs)
    x = layers.BatchNormalization()(x)
    x = head(x) if head else x
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(4, **arguments)(x), name="toy")
    for variable in model.weights:
        if "moving" in variable.name:
            variable.assign(variable + 0.3)
    return model


def assert_nothing_is_unused(path):
    """Fails where a .tflite file holds a tensor or values that no operator names."""
    written = flatbuffers.parsed(path.read_bytes())
    (graph,) = written.subgraphs
    lists = [graph.inputs, graph.outputs]
    lists += [indices for op in graph.operators for indices in (op.inputs, op.outputs)]
    assert set(np.concatenate(lists)) - {-1} == set(range(len(graph.tensors)))
    holding = {i for i, x in enumerate(written.buffers) if x.data is not None and len(x.data)}
    named = {tensor.buffer for tensor in graph.tensors}
    assert holding <= named | {each.buffer for each in written.metadata}


def decibels(got, expected):
    """What was expected beside how far off it is: 20 is a tenth, 40 a hundredth."""
    got, expected = np.float64(got), np.float64(expected)
    return 10 * np.log10(np.mean(expected**2) / np.mean((got - expected) ** 2))
