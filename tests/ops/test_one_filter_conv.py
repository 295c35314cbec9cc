import keras
import numpy as np
import pytest

from keras_fmm import ops
from tests.support import calls


class OneFilter(keras.layers.Layer):
    def __init__(self, kernel):
        super().__init__()
        self.kernel = kernel

    def call(self, inputs):
        return ops.one_filter_conv(inputs, self.kernel)


# Widths that a group of columns divides, that one does not, and that are at most the filter's.
@pytest.mark.parametrize("width", [1, 2, 3, 5, 10, 13, 14])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("channels", [1, 2])
def test_equals_a_loop_over_taps(width, size, channels):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 4, width, channels)), rng.normal(size=(size, size, channels, 1))
    before = (size - 1) // 2
    padded = np.pad(x, ((0, 0), (before, size), (before, size), (0, 0)))
    bias = rng.normal(size=1)
    expected = np.zeros((2, 4, width, 1)) + bias
    for i in range(size):
        for j in range(size):
            expected += padded[:, i : i + 4, j : j + width] @ kernel[i, j]
    given = [array.astype("float32") for array in (x, kernel, bias)]
    found = calls.compiled(ops.one_filter_conv)(*given)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_takes_sizes_that_are_unknown_when_traced():
    x = np.random.default_rng(0).normal(size=(1, 3, 7, 1)).astype("float32")
    kernel = np.random.default_rng(1).normal(size=(3, 3, 1, 1)).astype("float32")
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, OneFilter(kernel)(inputs))
    np.testing.assert_allclose(model(x), ops.one_filter_conv(x, kernel), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_keeps_the_precision(dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("has float64 on request alone")
    x = keras.ops.ones((1, 7, 7, 1), dtype)
    found = ops.one_filter_conv(x, np.ones((3, 3, 1, 1), "float32"))
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    assert float(found[0, 3, 3, 0]) == 9
