"""Tests of the dtypes that the functions of tensors compute in."""

import keras
import numpy as np
import pytest

from keras_fmm import ops

RNG = np.random.default_rng(0)
MAP = RNG.integers(0, 9, (2, 5, 4, 3))
KERNEL = RNG.integers(0, 3, (3, 3, 3, 2)).astype("float32") / 2
GAIN = RNG.random((2, 1, 1, 1, 2), dtype="float32")
HOW = ((1, 1), "same", (1, 1))

FUNCTIONS = {
    "spatial_mean": ops.spatial_mean,
    "spatial_max": ops.spatial_max,
    "channel_max_and_mean": lambda x: keras.ops.concatenate(ops.channel_max_and_mean(x)),
    "scale_channels": lambda x: ops.scale_channels(x, np.full((2, 1, 1, 3), 0.5, "float32")),
    "adaptive_average_pool": lambda x: ops.adaptive_average_pool(x, (2, 3)),
    "adaptive_average_pool to one": lambda x: ops.adaptive_average_pool(x, (1, 1)),
    "adaptive_average_pool of one": lambda x: ops.adaptive_average_pool(x[:1], (2, 3)),
    "one_filter_conv": lambda x: ops.one_filter_conv(x, KERNEL[..., :1]),
    **{
        name: lambda x, conv=conv: conv(x, KERNEL, GAIN, *HOW)
        for name, conv in ops.IMPLEMENTATIONS.items()
    },
}

every_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


@every_function
@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_integers_and_bools_are_taken_as_floats(function, dtype):
    inputs = MAP.astype(dtype)
    found = function(inputs)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_allclose(found, function(inputs.astype("float32")), rtol=1e-6)


@every_function
def test_complex_numbers_are_refused(function):
    with pytest.raises(
        TypeError, match="`inputs` must hold real numbers. Received: dtype complex64"
    ):
        function(MAP.astype("complex64"))
