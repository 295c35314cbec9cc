"""Layers of self-attention in images beside what the papers' loops say of them."""

import keras
import numpy as np

from tests.support import gradients, weights

# JAX has no float64 as it is, and Keras multiplies matrices of float64 in float32 on PyTorch.
IN_FLOAT32 = keras.backend.backend() != "tensorflow"
TOLERANCE = 1e-4 if IN_FLOAT32 else 1e-9


def made(kind, shape, seed=0, **arguments):
    """Returns a built layer of random weights, these by name, and random inputs."""
    layer = kind(dtype="float32" if IN_FLOAT32 else "float64", **arguments)
    layer.build(shape)
    values = weights.randomise(layer, seed)
    x = np.random.default_rng(seed + 1).normal(size=shape)
    return layer, values, x.astype("float32") if IN_FLOAT32 else x


def assert_near(found, expected, tolerance=TOLERANCE):
    """Asserts that a tensor is what an oracle says."""
    found = keras.ops.convert_to_numpy(found)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def check_gradients(layer, values, x, said):
    """Asserts that a layer's gradients are the differences of what an oracle says.

    Args:
        layer: a built layer.
        values: dict, its weights by name.
        x: array, its inputs.
        said: function of inputs and weights to outputs.
    """
    rng = np.random.default_rng(5)
    cotangent = rng.normal(size=layer.compute_output_shape(x.shape)).astype(x.dtype)
    names = weights.names(layer)

    def loss(arrays):
        x, *found = arrays
        return (cotangent * said(x, dict(zip(names, found, strict=True)))).sum()

    arrays = [x.astype("float64"), *(values[name] for name in names)]
    found = gradients.of_layer(layer, x, cotangent)
    # Each by itself: along all together a wrong one could hide.
    for n, gradient in enumerate(found):
        directions = [np.zeros_like(array) for array in arrays]
        directions[n] = rng.normal(size=arrays[n].shape)
        expected = gradients.along(loss, arrays, directions)
        tolerance = 1e-3 if IN_FLOAT32 else 1e-6
        along = (gradient * directions[n]).sum()
        np.testing.assert_allclose(along, expected, rtol=tolerance, atol=tolerance)
