"""The batch norm inside the layers is Keras', in fewer operators."""

import keras
import numpy as np
import pytest

from keras_fmm.layers.batch_norm import BatchNorm

X = np.random.default_rng(0).normal(3, 2, size=(4, 3, 2, 5)).astype("float32")


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "bfloat16"])
@pytest.mark.parametrize("trainable", [True, False])
def test_is_keras_batch_norm(dtype, trainable):
    arguments = {"momentum": 0.9, "epsilon": 0.01, "dtype": dtype, "trainable": trainable}
    ours, theirs = (kind(**arguments) for kind in (BatchNorm, keras.layers.BatchNormalization))
    for training in (True, True, False):
        found, expected = (layer(X, training=training) for layer in (ours, theirs))
        assert found.dtype == expected.dtype
        found, expected = (keras.ops.cast(x, "float32") for x in (found, expected))
        tolerance = 1e-5 if dtype == "float32" else 0.02
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        a, b = (keras.ops.cast(x.value, "float32") for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=1e-5 if dtype != "bfloat16" else 0.02)
