import keras
import numpy as np
import pytest

from keras_fmm.ops import (
    channel_max_and_mean,
    channel_pool,
    normalized,
    scale_channels,
    spatial_max,
    spatial_mean,
    spatial_mean_and_max,
)
from tests.support import gradients


def maps(shape=(2, 3, 4, 5)):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (3, 7, 1, 2)])
def test_spatial_max(shape):
    x = maps(shape)
    expected = [[x[n, :, :, c].max() for c in range(shape[3])] for n in range(shape[0])]
    np.testing.assert_array_equal(spatial_max(x), expected)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_maximum_hides_nothing_that_is_not_finite(batch, dtype):
    x = maps((batch, 3, 4, 5))
    x[0, 1, 2, 0] = np.nan
    x[0, :, :, 1] = np.nan
    x[0, :, :, 2] = -np.inf
    x[0, 0, 0, 3] = np.inf
    x[-1, 2, 0, 4] = -np.inf
    x = keras.ops.cast(x, dtype)

    def both(x):
        return spatial_mean_and_max(x)[1::2]

    expected = np.asarray(keras.ops.cast(x, "float32")).max(axis=(1, 2))
    assert np.isnan(expected[0, :2]).all()
    for function in (spatial_max, both):
        found = keras.ops.cast(function(x), "float32")
        np.testing.assert_array_equal(found, expected)


def test_maps_are_channels_last_whatever_keras_setting():
    x = maps((2, 4, 4, 16))
    keras.config.set_image_data_format("channels_first")
    try:
        np.testing.assert_array_equal(spatial_max(x), x.max(axis=(1, 2)))
    finally:
        keras.config.set_image_data_format("channels_last")


def test_the_mean_of_a_map_of_more_positions_than_float16_has_numbers():
    def scaled(x):
        return keras.ops.sum(keras.ops.cast(spatial_mean(x), "float32") * 1000)

    (found,) = gradients.of_function(scaled, [np.zeros((1, 256, 257, 1), "float16")])
    np.testing.assert_allclose(found, np.full(found.shape, 1000 / (256 * 257)), rtol=1e-3)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (3, 7, 1, 2)])
def test_channel_max_and_mean(shape):
    x = maps(shape)
    largest, mean = channel_max_and_mean(x)
    np.testing.assert_array_equal(largest, np.sort(x, axis=-1)[..., -1:])
    np.testing.assert_allclose(mean, sum(np.split(x, shape[3], -1)) / shape[3], rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (3, 7, 1, 2)])
def test_both_statistics_in_one_tensor(shape):
    x = maps(shape)
    both = np.concatenate(channel_max_and_mean(x), axis=-1)
    np.testing.assert_allclose(channel_pool(x), both, rtol=1e-6)
    both = np.asarray(spatial_mean_and_max(x))
    np.testing.assert_allclose(both[::2], spatial_mean(x), rtol=1e-6)
    np.testing.assert_allclose(both[1::2], spatial_max(x), rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 1), (1, 1, 1, 2)])
def test_normalized(shape):
    x, (gamma, beta) = maps(shape), maps((2, shape[-1]))
    outputs, mean, variance = normalized(x, gamma, beta, 0.1)
    rows = x.reshape(-1, shape[-1]).astype("float64")
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variance, rows.var(axis=0), rtol=1e-5, atol=1e-6)
    expected = (x - rows.mean(axis=0)) / np.sqrt(rows.var(axis=0) + 0.1) * gamma + beta
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_derivatives_of_a_normalization():
    x, weights, v = maps((3, 2, 1, 2)), maps((3, 2, 1, 2)) + 1, maps((3, 2, 1, 2))[::-1].copy()
    others = [np.array([0.5, 0.0], "float32"), np.array([1.0, 2.0], "float32")]

    def loss(normalize):
        def function(x, gamma, beta):
            return keras.ops.sum(
                keras.ops.multiply(keras.ops.sin(normalize(x, gamma, beta)), weights)
            )

        return function

    def written_out(x, gamma, beta):
        centred = x - keras.ops.mean(x, axis=(0, 1, 2))
        variance = keras.ops.mean(centred**2, axis=(0, 1, 2))
        return centred / keras.ops.sqrt(variance + 0.1) * gamma + beta

    ours = loss(lambda x, gamma, beta: normalized(x, gamma, beta, 0.1)[0])
    arrays, vectors = [x, *others], [v, *others]
    for derivatives in (
        lambda f: gradients.of_function(f, arrays),
        lambda f: gradients.of_gradient(f, arrays, vectors),
    ):
        for a, b in zip(derivatives(ours), derivatives(loss(written_out)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


# The last is so large that TensorFlow takes a mean over one axis after the other.
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (3, 7, 1, 2), (2, 50, 401, 5)])
def test_spatial_mean(shape):
    x = maps(shape)
    expected = [[x[n, :, :, c].mean() for c in range(shape[3])] for n in range(shape[0])]
    np.testing.assert_allclose(spatial_mean(x), expected, rtol=1e-5, atol=1e-6)
    kept = spatial_mean(x, keepdims=True)
    assert tuple(kept.shape) == (shape[0], 1, 1, shape[3])
    np.testing.assert_array_equal(keras.ops.squeeze(kept, (1, 2)), spatial_mean(x))
    weights = np.arange(1.0, 1 + shape[3], dtype="float32")
    gradient = np.broadcast_to(weights / (shape[1] * shape[2]), shape)
    for keepdims in (False, True):
        (found,) = gradients.of_function(
            lambda x, keepdims=keepdims: keras.ops.sum(
                keras.ops.multiply(spatial_mean(x, keepdims), weights)
            ),
            [x],
        )
        np.testing.assert_allclose(found, gradient, rtol=1e-6)


# The last has so many positions that they are summed by a product.
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (2, 9, 8, 2)])
def test_scale_channels(shape):
    x, upstream = maps(shape), maps(shape)[::-1].copy()
    gate = np.random.default_rng(1).normal(size=(shape[0], 1, 1, shape[3])).astype("float32")
    np.testing.assert_array_equal(scale_channels(x, gate), x * gate)
    of_x, of_gate = gradients.of_function(
        lambda x, gate: keras.ops.sum(keras.ops.multiply(scale_channels(x, gate), upstream)),
        [x, gate],
    )
    np.testing.assert_allclose(of_x, upstream * gate, rtol=1e-6)
    for n in range(shape[0]):
        for c in range(shape[3]):
            expected = (x[n, :, :, c] * upstream[n, :, :, c]).sum()
            np.testing.assert_allclose(of_gate[n, 0, 0, c], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (2, 1, 1, 3), (2, 9, 8, 2)])
def test_scale_channels_by_a_number_a_position(shape):
    x, upstream = maps(shape), maps(shape)[::-1].copy()
    gate = np.random.default_rng(1).normal(size=(*shape[:3], 1)).astype("float32")
    np.testing.assert_array_equal(scale_channels(x, gate), x * gate)
    of_x, of_gate = gradients.of_function(
        lambda x, gate: keras.ops.sum(keras.ops.multiply(scale_channels(x, gate), upstream)),
        [x, gate],
    )
    np.testing.assert_allclose(of_x, upstream * gate, rtol=1e-6)
    expected = np.einsum("nhwc,nhwc->nhw", x, upstream)[..., None]
    np.testing.assert_allclose(of_gate, expected, rtol=1e-4, atol=1e-5)


# JAX has no float64 unless it is told so at its start.
DTYPES = ["float16", "bfloat16"] + ["float64"] * (keras.backend.backend() == "tensorflow")


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_precision(dtype):
    x = keras.ops.cast(maps((1, 3, 3, 600)), dtype)
    for found in (spatial_mean(x), spatial_max(x), *channel_max_and_mean(x)):
        assert keras.backend.standardize_dtype(found.dtype) == dtype
        assert np.isfinite(np.asarray(keras.ops.cast(found, "float32"))).all()


def test_the_gradient_of_the_maximum_goes_where_it_is():
    x, weights = maps((1, 2, 2, 3)), np.array([1, 10, 100], "float32")
    (found,) = gradients.of_function(
        lambda x: keras.ops.sum(keras.ops.multiply(spatial_max(x), weights)), [x]
    )
    expected = np.where(x == x.max(axis=(1, 2), keepdims=True), weights, 0)
    np.testing.assert_array_equal(found, expected)


def of_channels(x):
    largest, mean = channel_max_and_mean(x)
    return keras.ops.sum(largest * 4 + mean * 30)


def test_gradients_over_the_channels():
    x = maps((1, 2, 2, 3))
    (found,) = gradients.of_function(of_channels, [x])
    expected = np.where(x == x.max(axis=-1, keepdims=True), 4, 0) + 10
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_entries_that_tie_share():
    x = np.zeros((1, 1, 1, 4), "float32")
    x[..., 1:3] = 5
    (found,) = gradients.of_function(of_channels, [x])
    np.testing.assert_allclose(found.ravel(), [7.5, 9.5, 9.5, 7.5], rtol=1e-6)
    # However many: at one position of a ReLU's output all channels may be zero.
    (found,) = gradients.of_function(of_channels, [np.zeros((1, 1, 1, 600), "float32")])
    np.testing.assert_allclose(found, np.full(found.shape, 34 / 600), rtol=1e-5)
    # Over space all the gradient must arrive, at whichever of them.
    x = np.zeros((1, 4, 4, 2), "float32")
    (found,) = gradients.of_function(lambda x: keras.ops.sum(spatial_max(x)), [x])
    np.testing.assert_allclose(found.sum(axis=(1, 2)), [[1, 1]], rtol=1e-6)


def test_second_derivatives():
    x = maps((1, 2, 3, 4))
    v = [maps((1, 2, 3, 4)) + 2]
    gate = np.array([1, 2, 3, 4], "float32").reshape(1, 1, 1, 4)

    def squares(x):
        largest, mean = channel_max_and_mean(x)
        return (
            keras.ops.sum(spatial_mean(x) ** 2)
            + keras.ops.sum(scale_channels(x, gate) ** 2)
            + keras.ops.sum(largest**2)
            + keras.ops.sum(mean**2)
            + keras.ops.sum(spatial_max(x) ** 2)
            + keras.ops.sum(spatial_mean_and_max(x) ** 2)
            + keras.ops.sum(channel_pool(x) ** 2)
        )

    (found,) = gradients.of_gradient(squares, [x], v)
    channel = np.where(x == x.max(axis=-1, keepdims=True), 2, 0) * v[0]
    space = np.where(x == x.max(axis=(1, 2), keepdims=True), 2, 0) * v[0]
    mean = np.broadcast_to(2 * v[0].mean(axis=-1, keepdims=True) / 4, x.shape)
    mean = mean + 2 * v[0].mean(axis=(1, 2), keepdims=True) / 6
    # Each statistic is in it alone and beside another.
    expected = 2 * (channel + space + mean) + 2 * gate**2 * v[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
